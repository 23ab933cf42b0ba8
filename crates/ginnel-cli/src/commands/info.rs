//! `ginnel info`: everything that there is to see of a link, or of any other object.

use crate::exit::{Failure, say};
use crate::inventory::find::{self, Target};
use crate::inventory::{Entry, Inventory, Mechanism, Object, text};
use crate::table::Align::{Left, Right};
use crate::table::Table;
use crate::users::Users;
use crate::{escape, json, output, units};
use ginnel::{Info, Link, Shape};

const AFTER_HELP: &str = "\
Looking disturbs nobody: a link in shared memory is mapped read-only. The
counters of a participant run on over those who had its place before.

Every address that `ginnel ls` shows can be looked at, also of what is no link:
sem:/name, posix-shm:/name, sysv-sem:KEY, sysv-shm:KEY, pipe:[INODE], ...
`ginnel ls --help` says what the states mean. A name that several objects have
shows them all; with --json, one a line.

Examples:
  ginnel info shm:orders
  ginnel info mq:/jobs
  ginnel info sysv-shm:0x4711
  ginnel info --json shm:orders | jq .messages";

/// Show everything about a link or another object, and who has it
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Link or object to look at
    #[arg(value_parser = Target::parse)]
    address: Target,

    /// Print JSON: one object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match &args.address {
        Target::Object(mechanism, name) => object(*mechanism, name, args.json),
        Target::Link(link) => match find::kernel_object(link) {
            Some((mechanism, name)) => object(mechanism, &name, args.json),
            None => engine(link, args.json),
        },
    }
}

fn engine(link: &Link, json: bool) -> Result<(), Failure> {
    let info = link.info()?;
    if json {
        return json::print(&json::Link::from(&info));
    }
    let mut text = facts(&info);
    if !info.participants.is_empty() {
        text += "\n";
        text += &participants(&info);
    }
    output::emit(&text)
}

fn object(mechanism: Mechanism, name: &str, json: bool) -> Result<(), Failure> {
    let (inventory, found) = find::find("look at", mechanism, name)?;
    let users = Users::read();
    if json {
        return found.iter().try_for_each(|entry| json::print(&Object::of(entry, &users)));
    }
    let texts: Vec<String> = found.iter().map(|entry| described(entry, &inventory, &users)).collect();
    output::emit(&texts.join("\n"))?;
    for text in &inventory.unread {
        say(&format!("warning: {text}"));
    }
    Ok(())
}

fn described(entry: &Entry, inventory: &Inventory, users: &Users) -> String {
    let mut facts = vec![
        ("address", escape::terminal(&entry.address)),
        ("mechanism", entry.mechanism.name().to_owned()),
        ("state", entry.state.name().to_owned()),
        ("owner", text::owner(entry, users)),
        ("mode", text::mode(entry)),
        ("size", text::size(entry)),
        ("age", text::age(entry)),
    ];
    facts.extend(entry.depth.map(|depth| ("depth", text::amount_with_unit(depth))));
    facts.extend(entry.capacity.map(|capacity| ("capacity", text::amount_with_unit(capacity))));
    let attributes = entry.attributes.iter().map(|(name, value)| (*name, text::attribute(name, value)));
    let mut text = lines(facts.into_iter().filter(|(_, value)| value != text::NOTHING).chain(attributes));
    let mut table = Table::new(&[("PID", Right), ("COMMAND", Left), ("END", Left), ("FD", Left)]);
    let peers = inventory.peer(entry).map(|peer| &*peer.holders).unwrap_or_default();
    for (holder, prefix) in entry.holders.iter().map(|own| (own, "")).chain(peers.iter().map(|peer| (peer, "peer: "))) {
        let descriptors: Vec<String> = holder.descriptors.iter().map(ToString::to_string).collect();
        table.row(vec![
            holder.pid.to_string(),
            escape::terminal(&holder.command),
            format!("{prefix}{}", holder.ends.join("+")),
            descriptors.join(","),
        ]);
    }
    if !entry.holders.is_empty() || !peers.is_empty() {
        text += "\n";
        text += &table.render();
    }
    text
}

/// A line for each fact; a unit at the end of a name goes, as the value has it.
fn lines<'a>(facts: impl Iterator<Item = (&'a str, String)>) -> String {
    let name = |name: &str| name.trim_end_matches("_bytes").trim_end_matches("_ns").replace('_', " ");
    let facts: Vec<(String, String)> = facts.map(|(is, value)| (name(is), value)).collect();
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    facts.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect()
}

fn facts(info: &Info) -> String {
    let (geometry, pool) = (&info.geometry, &info.pool);
    let now = ginnel_os::process::now_ns();
    let limit = |limit: u32| if limit == 0 { "any number".to_owned() } else { format!("{limit} at most") };
    let inside = match geometry.shape {
        Shape::Stream => ("bytes", format!("{} of {}", info.bytes, geometry.capacity)),
        Shape::Listener => ("waiting", format!("{} connections of {}", info.messages, geometry.capacity)),
        _ if geometry.is_unbounded() => {
            ("messages", format!("{}, unbounded up to {} of memory", info.messages, units::size(geometry.memory)))
        }
        _ => ("messages", format!("{} of {}", info.messages, geometry.capacity)),
    };
    let facts = [
        ("address", info.address.clone()),
        ("file", info.path.display().to_string()),
        ("shape", geometry.shape.name().to_owned()),
        ("state", json::state(info.liveness).to_owned()),
        ("age", units::age(info.created_ns, now)),
        inside,
        ("sent", info.sent.to_string()),
        ("taken", info.taken.to_string()),
        ("dropped", info.dropped.to_string()),
        ("died", info.died.to_string()),
        ("max", units::size(geometry.max)),
        ("full", json::full(geometry.full).to_owned()),
        ("senders", limit(geometry.senders)),
        ("receivers", limit(geometry.receivers)),
        ("participants", format!("{} of {}", info.participants.len(), geometry.participants)),
        ("memory", units::size(info.allocated)),
        (
            "blocks",
            format!(
                "{} used of {} committed, {} at most",
                units::size(pool.used),
                units::size(pool.committed),
                units::size(pool.ceiling)
            ),
        ),
    ];
    let mut text = String::new();
    for (name, value) in facts {
        text += &format!("{name:<13} {value}\n");
    }
    text
}

fn participants(info: &Info) -> String {
    let mut table = Table::new(&[
        ("ROLE", Left),
        ("PID", Right),
        ("COMMAND", Left),
        ("STATE", Left),
        ("AGE", Right),
        ("MESSAGES", Right),
        ("BYTES", Right),
        ("SLEPT", Right),
        ("REDELIVERED", Right),
        ("SKIPPED", Right),
        ("DROPPED", Right),
        ("BEHIND", Right),
    ]);
    let now = ginnel_os::process::now_ns();
    for participant in &info.participants {
        let counters = &participant.counters;
        let elsewhere = if participant.same_pid_namespace { "" } else { "*" };
        table.row(vec![
            json::role(participant.role).into(),
            format!("{}{elsewhere}", participant.pid),
            json::command(participant).unwrap_or_else(|| "-".into()),
            if participant.alive { "alive" } else { "dead" }.into(),
            units::age(participant.joined_ns, now),
            counters.messages.to_string(),
            units::size(counters.bytes),
            counters.slept.to_string(),
            counters.redelivered.to_string(),
            counters.skipped.to_string(),
            counters.dropped.to_string(),
            participant.behind.map_or_else(|| "-".into(), |behind| behind.to_string()),
        ]);
    }
    let mut text = table.render();
    if info.participants.iter().any(|p| !p.same_pid_namespace) {
        text += "* in another PID namespace: the number means nothing here\n";
    }
    text
}
