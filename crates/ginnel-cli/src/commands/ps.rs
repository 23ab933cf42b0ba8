//! `ginnel ps PID`: what one process talks to, and with whom.

use crate::exit::{Code, Failure, say};
use crate::inventory::{Entry, Holder, Inventory, Object, PeerProcess, Wanted, text};
use crate::table::Align::{Left, Right};
use crate::table::Table;
use crate::users::Users;
use crate::{escape, json, output, units};
use serde::Serialize;

const AFTER_HELP: &str = "\
PEERS are the processes at the other end: of a pipe or FIFO those that have its
other end, of a socket those that have the socket that it is connected to, of
anything else all others that have it. `?` is a peer that was not seen.
System V queues and semaphores are those that the process used last.

Examples:
  ginnel ps 4711
  ginnel ps --json $$ | jq -r '.objects[].peers[].pid'

Exit status: 3 if there is no such process, 4 if it may not be looked into.";

/// Show what one process talks to, and who is at the other end
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Number of the process
    #[arg(allow_negative_numbers = true, value_parser = units::whole(1, u32::MAX))]
    pid: u32,

    /// Print JSON: one object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    pid: u32,
    parent: u32,
    command: String,
    arguments: Vec<String>,
    user: String,
    objects: Vec<Talk>,
    unread: &'a [String],
}

/// One of its objects.
#[derive(Serialize)]
struct Talk {
    #[serde(flatten)]
    object: Object,
    /// How the process has it.
    ends: Vec<&'static str>,
    descriptors: Vec<i32>,
    peers: Vec<PeerProcess>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let inventory = Inventory::take(&Wanted::default())?;
    let Some(process) = inventory.processes.iter().find(|process| process.pid == args.pid) else {
        return Err(Failure::new(Code::NotFound, format!("cannot look at process {}: there is none", args.pid)));
    };
    if process.is_denied {
        let text = format!("cannot look at process {}: permission denied; run as its user, or as root", args.pid);
        return Err(Failure::new(Code::NotPermitted, text));
    }
    let users = Users::read();
    let has = |entry: &&Entry| entry.holders.iter().any(|holder| holder.pid == args.pid);
    let mut mine: Vec<&Entry> = inventory.entries.iter().filter(has).collect();
    mine.sort_by_key(|entry| own(entry, args.pid).and_then(|own| own.descriptors.first().copied()).unwrap_or(i32::MAX));
    if args.json {
        let arguments = process.arguments.split(|byte| *byte == 0).filter(|argument| !argument.is_empty());
        return json::print(&Report {
            pid: args.pid,
            parent: process.parent,
            command: escape::json(&process.comm),
            arguments: arguments.map(escape::json).collect(),
            user: users.name(process.uid),
            objects: mine.iter().filter_map(|entry| talk(&inventory, entry, args.pid, &users)).collect(),
            unread: &inventory.unread,
        });
    }
    output::emit(&table(&inventory, &mine, args.pid).render())?;
    for text in &inventory.unread {
        say(&format!("warning: {text}"));
    }
    Ok(())
}

fn own(entry: &Entry, pid: u32) -> Option<&Holder> {
    entry.holders.iter().find(|holder| holder.pid == pid)
}

fn talk(inventory: &Inventory, entry: &Entry, pid: u32, users: &Users) -> Option<Talk> {
    let own = own(entry, pid)?;
    Some(Talk {
        object: Object::of(entry, users),
        ends: own.ends.clone(),
        descriptors: own.descriptors.clone(),
        peers: peers(inventory, entry, own).into_iter().map(PeerProcess::of).collect(),
    })
}

/// Who is at the other end.
fn peers<'a>(inventory: &'a Inventory, entry: &'a Entry, own: &Holder) -> Vec<&'a Holder> {
    if entry.socket.is_some_and(|(_, peer)| peer.is_some()) {
        return inventory.peer(entry).map(|peer| peer.holders.iter().collect()).unwrap_or_default();
    }
    let others = entry.holders.iter().filter(|holder| holder.pid != own.pid);
    others.filter(|other| !entry.mechanism.is_stream() || is_other_end(own, other)).collect()
}

fn is_other_end(own: &Holder, other: &Holder) -> bool {
    own.has("read") && other.has("write") || own.has("write") && other.has("read")
}

fn table(inventory: &Inventory, mine: &[&Entry], pid: u32) -> Table {
    let mut table = Table::new(&[
        ("FD", Right),
        ("ADDRESS", Left),
        ("END", Left),
        ("STATE", Left),
        ("SIZE", Right),
        ("DEPTH", Right),
        ("PEERS", Left),
    ]);
    for entry in mine {
        let Some(own) = own(entry, pid) else { continue };
        let descriptors: Vec<String> = own.descriptors.iter().map(ToString::to_string).collect();
        let peers = peers(inventory, entry, own);
        let is_unseen = peers.is_empty() && entry.socket.is_some_and(|(_, peer)| peer.is_some());
        table.row(vec![
            if descriptors.is_empty() { text::NOTHING.into() } else { descriptors.join(",") },
            escape::terminal(&entry.address),
            own.ends.join("+"),
            entry.state.name().into(),
            text::size(entry),
            text::amount(entry.depth),
            if is_unseen { "?".into() } else { text::processes(peers) },
        ]);
    }
    table
}
