//! Every object of interprocess communication of the host: the kernel's lists, joined with the census of who has what.
//!
//! ```text
//! lists of the kernel  --\
//! links of ginnel      ---+-- by device and inode, or number -->  entries, each with its processes
//! census of processes  --/    what no list has, a process has: nameless, removed, or of another namespace
//! ```
//!
//! Each list takes from the holders what it knows, so their order matters: what is left at the end is nameless.

mod entry;
mod files;
pub(crate) mod find;
mod holders;
mod json;
mod links;
mod nameless;
mod posix;
pub(crate) mod remove;
mod sockets;
mod sysv;
pub(crate) mod text;

pub(crate) use entry::{Amount, Entry, Holder, Mechanism, nanoseconds};
pub(crate) use json::{Object, Process as PeerProcess};

use crate::exit::Failure;
use ginnel::Info;
use ginnel_os::census::{self, Census, Depth, Process};
use holders::Holders;
use std::io;
use std::path::PathBuf;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// These mechanisms; all of them if there is none.
    pub(crate) only: Vec<Mechanism>,
    /// Where to look for FIFOs and sockets that nobody has open.
    pub(crate) below: Vec<PathBuf>,
}

impl Wanted {
    fn has(&self, mechanism: Mechanism) -> bool {
        self.only.is_empty() || self.only.contains(&mechanism)
    }
}

/// The objects of the host.
pub(crate) struct Inventory {
    pub(crate) entries: Vec<Entry>,
    /// ginnel's own links, whole.
    pub(crate) links: Vec<Info>,
    pub(crate) processes: Vec<Process>,
    /// Processes that may not be looked into.
    pub(crate) denied: usize,
    /// What could not be read, for people.
    pub(crate) unread: Vec<String>,
}

impl Inventory {
    /// Looks at everything that is wanted.
    pub(crate) fn take(wanted: &Wanted) -> Result<Self, Failure> {
        let census = census::take(Depth::Mappings).map_err(|e| Failure::file("read", "/proc", &e))?;
        let mut lists = Lists { wanted, holders: Holders::of(&census), entries: Vec::new(), unread: Vec::new() };
        let links = lists.links()?;
        lists.kernel();
        lists.rest();
        let (mut entries, mut unread) = (lists.entries, lists.unread);
        entries.retain(|entry| wanted.has(entry.mechanism));
        entries.sort_by(|a, b| (a.mechanism, &a.address).cmp(&(b.mechanism, &b.address)));
        unread.extend(permission(&census));
        let denied = census.denied;
        Ok(Self { entries, links, denied, unread, processes: census.processes })
    }

    /// The other end of a connection.
    pub(crate) fn peer(&self, entry: &Entry) -> Option<&Entry> {
        let peer = entry.socket?.1?;
        self.entries.iter().find(|other| other.socket.is_some_and(|(inode, _)| inode == peer))
    }
}

/// What the census could not see, if anything.
fn permission(census: &Census) -> Option<String> {
    let mut hidden = Vec::new();
    if census.denied > 0 {
        hidden.push(format!("processes that may not be looked into: {}", census.denied));
    }
    if census.is_partial {
        hidden.push("processes of others are hidden (`hidepid` of /proc)".into());
    }
    let remedy = if ginnel_os::process::user() == 0 { "" } else { "; run as root" };
    let text = format!("{}; what only they have is missing{remedy}", hidden.join(", "));
    (!hidden.is_empty()).then_some(text)
}

/// The lists, while they are read.
struct Lists<'c> {
    wanted: &'c Wanted,
    holders: Holders<'c>,
    entries: Vec<Entry>,
    unread: Vec<String>,
}

impl<'c> Lists<'c> {
    fn links(&mut self) -> Result<Vec<Info>, Failure> {
        let mut links = Vec::new();
        let found = match ginnel::list() {
            Err(e) if self.wanted.only != [Mechanism::Shm] => {
                self.unread.push(e.to_string());
                Vec::new()
            }
            found => found?,
        };
        for found in found {
            match found {
                Ok(info) => links.push(info),
                Err(e) => self.unread.push(e.to_string()),
            }
        }
        links.sort_by(|a, b| a.address.cmp(&b.address));
        for info in &links {
            self.entries.push(links::entry(&mut self.holders, info));
        }
        Ok(links)
    }

    fn kernel(&mut self) {
        use Mechanism::{Mq, PosixShm, Sem, Sysv, SysvSem, SysvShm, Unix};
        let links = ginnel::directory();
        self.list(Mq, posix::queues);
        self.list(Sysv, sysv::queues);
        self.list(SysvSem, sysv::semaphores);
        self.list(SysvShm, sysv::segments);
        self.list(Sem, posix::semaphores);
        self.list(PosixShm, |holders, entries| posix::memory(holders, entries, &links));
        if self.wanted.has(Unix) || self.wanted.has(Mechanism::Socket) {
            self.read(Unix, sockets::unix);
        }
    }

    /// A list that cannot be read is said, and the others are read.
    fn list(&mut self, mechanism: Mechanism, list: impl FnOnce(&mut Holders<'c>, &mut Vec<Entry>) -> io::Result<()>) {
        if self.wanted.has(mechanism) {
            self.read(mechanism, list);
        }
    }

    fn read(&mut self, mechanism: Mechanism, list: impl FnOnce(&mut Holders<'c>, &mut Vec<Entry>) -> io::Result<()>) {
        if let Err(e) = list(&mut self.holders, &mut self.entries) {
            self.unread.push(format!("{}: {e}", mechanism.name()));
        }
    }

    fn rest(&mut self) {
        let wanted = self.wanted;
        if wanted.has(Mechanism::Fifo) {
            files::fifos(&mut self.holders, &mut self.entries);
        }
        files::below(&mut self.holders, &mut self.entries, &wanted.below, &mut |text| self.unread.push(text));
        if wanted.has(Mechanism::Socket) {
            sockets::others(&mut self.holders, &mut self.entries);
        }
        nameless::list(&mut self.holders, &mut self.entries, |mechanism| wanted.has(mechanism));
    }
}
