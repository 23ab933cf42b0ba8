//! `ginnel ls`: every object of interprocess communication of the host.

use crate::exit::{Failure, say};
use crate::inventory::{Entry, Holder, Inventory, Mechanism, Object, Wanted, text};
use crate::table::{Align, Table};
use crate::users::Users;
use crate::{escape, json, output};
use clap::ValueEnum;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Shown is what has a name. Nameless objects (pipes, ends of connections, memfds,
eventfds and the like) are counted on stderr; --all shows them, and so does
naming their mechanism with --only. FIFOs, and files of sockets, that nobody has
open are found only below the PATHs that are given. Looking disturbs nobody.

Addresses are those of other commands. A number in brackets is the kernel's:
pipe:[INODE], sysv:[ID] for a private key, epoll:[PID/FD].

States:
  live     a process has it open, mapped or attached. Of System V queues and
           semaphores the kernel keeps only who used them last: they are live
           while such a process is
  waiting  nobody has it, and messages for the next receiver are in it
           (links and POSIX message queues)
  stale    it has a name, and nobody has it
  orphan   no name leads to it any more, though processes have it: it goes with
           the last of them; or, of System V, it outlived all that used it (a
           segment: it is detached and its creator has ended): it never goes by
           itself
  unknown  nobody was seen with it, but a process that may not be looked into
           could have it; or a socket that is on its way in a message

DEPTH is messages, the value of a semaphore, connections to be accepted, or
bytes to be received. CAPACITY is in the same unit; of a System V queue in
bytes, of a System V set the number of semaphores. AGE is since it was made, or
where the kernel does not keep that (message queues), since it last changed.

What could not be read, for lack of permission or otherwise, is said on stderr,
and in JSON under `unread`.

Examples:
  ginnel ls
  ginnel ls --only mq,sysv --columns address,depth,processes
  ginnel ls --only shm --columns address,shape,state,depth
  ginnel ls --by pid --all
  ginnel ls --only fifo,unix /run /tmp
  ginnel ls --json | jq -r '.objects[] | select(.state == \"orphan\") | .address'";

/// List every object of interprocess communication on this machine, and who has it
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Also look below these paths, for FIFOs and sockets that nobody has open
    #[arg(value_name = "PATH")]
    below: Vec<PathBuf>,

    /// Only these mechanisms
    #[arg(
        long,
        value_name = "MECHANISM",
        value_delimiter = ',',
        hide_possible_values = true,
        help = "Only these mechanisms, joined by commas: shm, mq, sysv, sysv-sem, sysv-shm, sem, posix-shm, fifo, unix, pipe, memfd, anonymous, file, eventfd, epoll, signalfd, socket"
    )]
    only: Vec<Mechanism>,

    /// Nameless objects too
    #[arg(short, long)]
    all: bool,

    /// A line for each process and object, by process
    #[arg(long, value_name = "WHAT")]
    by: Option<By>,

    /// These columns, joined by commas
    #[arg(long, value_name = "COLUMN", value_delimiter = ',', conflicts_with = "json")]
    columns: Vec<Column>,

    /// Print JSON: one object with all links and objects
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// Processes, by their number
    Pid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Column {
    Address,
    Mechanism,
    State,
    Owner,
    Mode,
    Size,
    Depth,
    Capacity,
    Age,
    Processes,
    /// Processes at the other end of a connection
    Peers,
    /// What kind of conversation a link is for
    Shape,
    /// What only this mechanism has
    Details,
}

const USUAL: [Column; 10] = [
    Column::Address,
    Column::Mechanism,
    Column::State,
    Column::Owner,
    Column::Mode,
    Column::Size,
    Column::Depth,
    Column::Capacity,
    Column::Age,
    Column::Processes,
];

impl Column {
    fn title(self) -> (String, Align) {
        let name = self.to_possible_value().map(|value| value.get_name().to_uppercase()).unwrap_or_default();
        let align = match self {
            Self::Size | Self::Depth | Self::Capacity | Self::Age => Align::Right,
            _ => Align::Left,
        };
        (name, align)
    }

    fn cell(self, entry: &Entry, inventory: &Inventory, users: &Users) -> String {
        match self {
            Self::Address => escape::terminal(&entry.address),
            Self::Mechanism => entry.mechanism.name().into(),
            Self::State => entry.state.name().into(),
            Self::Owner => text::owner(entry, users),
            Self::Mode => text::mode(entry),
            Self::Size => text::size(entry),
            Self::Depth => text::amount(entry.depth),
            Self::Capacity => text::amount(entry.capacity),
            Self::Age => text::age(entry),
            Self::Processes => text::processes(&entry.holders),
            Self::Peers => text::processes(inventory.peer(entry).iter().flat_map(|peer| &peer.holders)),
            Self::Shape => text::shape(entry),
            Self::Details => text::details(entry),
        }
    }
}

#[derive(Serialize)]
struct Listing<'a> {
    links: Vec<json::Link>,
    objects: Vec<Object>,
    /// Nameless objects that were not asked for.
    left_out: usize,
    /// Processes that may not be looked into.
    denied: usize,
    unread: &'a [String],
}

pub(crate) fn run(args: &Args, quiet: bool) -> Result<(), Failure> {
    let inventory = Inventory::take(&Wanted { only: args.only.clone(), below: args.below.clone() })?;
    let (shown, left_out): (Vec<&Entry>, Vec<&Entry>) = inventory.entries.iter().partition(|entry| args.shows(entry));
    let users = Users::read();
    if args.json {
        print(&inventory, &shown, left_out.len(), &users, args)?;
    } else if !shown.is_empty() {
        let columns = if args.columns.is_empty() { &USUAL[..] } else { &args.columns };
        output::emit(&table(&inventory, &shown, columns, &users, args.by).render())?;
    } else if !quiet {
        say("nothing found");
    }
    if !left_out.is_empty() && !quiet && !args.json {
        say(&format!("left out: {}; --all shows them", counts(&left_out)));
    }
    for text in &inventory.unread {
        say(&format!("warning: {text}"));
    }
    Ok(())
}

impl Args {
    fn shows(&self, entry: &Entry) -> bool {
        self.all || entry.is_named || self.only.contains(&entry.mechanism)
    }
}

fn print(inventory: &Inventory, shown: &[&Entry], left_out: usize, users: &Users, args: &Args) -> Result<(), Failure> {
    let wants_links = args.only.is_empty() || args.only.contains(&Mechanism::Shm);
    json::print(&Listing {
        links: inventory.links.iter().filter(|_| wants_links).map(json::Link::from).collect(),
        objects: shown.iter().map(|entry| Object::of(entry, users)).collect(),
        left_out,
        denied: inventory.denied,
        unread: &inventory.unread,
    })
}

/// `12 pipes, 3 memfds`: how many there are of each mechanism.
fn counts(entries: &[&Entry]) -> String {
    let mut counts = BTreeMap::new();
    for entry in entries {
        *counts.entry(entry.mechanism).or_insert(0) += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(mechanism, count)| format!("{count} {}", mechanism.name())).collect();
    counts.join(", ")
}

fn table(inventory: &Inventory, shown: &[&Entry], columns: &[Column], users: &Users, by: Option<By>) -> Table {
    let titles: Vec<(String, Align)> = columns.iter().map(|column| column.title()).collect();
    let mut titles: Vec<(&str, Align)> = titles.iter().map(|(title, align)| (&**title, *align)).collect();
    let cells = |entry: &Entry| columns.iter().map(|column| column.cell(entry, inventory, users)).collect();
    if by.is_none() {
        let mut table = Table::new(&titles);
        shown.iter().for_each(|entry| table.row(cells(entry)));
        return table;
    }
    titles.splice(0..0, [("PID", Align::Right), ("COMMAND", Align::Left), ("END", Align::Left)]);
    let mut table = Table::new(&titles);
    for (holder, entry) in by_process(shown) {
        let mut row = holder.map_or_else(
            || vec![text::NOTHING.to_owned(); 3],
            |holder| vec![holder.pid.to_string(), escape::terminal(&holder.command), holder.ends.join("+")],
        );
        row.extend::<Vec<String>>(cells(entry));
        table.row(row);
    }
    table
}

/// A pair for each process and each of its objects; what nobody has is last.
fn by_process<'a>(shown: &[&'a Entry]) -> Vec<(Option<&'a Holder>, &'a Entry)> {
    let mut pairs = Vec::new();
    for entry in shown {
        pairs.extend(entry.holders.iter().map(|holder| (Some(holder), *entry)));
        if entry.holders.is_empty() {
            pairs.push((None, entry));
        }
    }
    pairs.sort_by_key(|(holder, _)| holder.map_or(u32::MAX, |holder| holder.pid));
    pairs
}
