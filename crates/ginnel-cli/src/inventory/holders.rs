//! Who has which object: the census turned round, from objects to processes.

use super::entry::{Holder, State};
use ginnel_os::census::{Access, Census, FileId, Object, Process};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// Which object it is, on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Identity {
    File(FileId),
    Pipe(u64),
    Socket(u64),
    SysvShm(u64),
    Eventfd(u64),
    /// One that has no number: a descriptor of a process.
    Descriptor(u32, i32),
}

impl Identity {
    pub(crate) fn file((device, inode): (u64, u64)) -> Self {
        Self::File(FileId { device, inode })
    }

    /// `None` for what is no means of communication.
    fn of(object: &Object, pid: u32, descriptor: Option<i32>) -> Option<Self> {
        let single = || descriptor.map(|number| Self::Descriptor(pid, number));
        Some(match object {
            Object::Pipe { inode } => Self::Pipe(*inode),
            Object::Socket { inode } => Self::Socket(*inode),
            Object::Fifo { id, .. } | Object::Shm { id, .. } | Object::MessageQueue { id, .. } => Self::File(*id),
            Object::Anonymous { id } => Self::File(*id),
            Object::Memfd { id, .. } => id.map(Self::File).or_else(single)?,
            Object::Eventfd { id } => id.map(Self::Eventfd).or_else(single)?,
            Object::SysV { id, .. } => Self::SysvShm(*id),
            Object::Epoll | Object::Signalfd => single()?,
            Object::File { id, .. } if descriptor.is_none() => Self::File((*id)?),
            _ => return None,
        })
    }
}

/// One descriptor or mapping of a process.
pub(crate) struct Holding<'c> {
    pub(crate) process: &'c Process,
    pub(crate) object: &'c Object,
    /// Its number; a mapping has none.
    pub(crate) descriptor: Option<i32>,
    ends: &'static [&'static str],
    /// Where a mapping of it ends, in bytes.
    pub(crate) mapped: u64,
}

impl Holding<'_> {
    /// A path at which the very object can be asked, if the kernel gives one.
    pub(crate) fn path(&self) -> Option<String> {
        Some(format!("/proc/{}/fd/{}", self.process.pid, self.descriptor?))
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.ends.contains(&"write")
    }
}

/// All objects that processes have.
pub(crate) struct Holders<'c> {
    census: &'c Census,
    of: BTreeMap<Identity, Vec<Holding<'c>>>,
    /// When the machine started.
    boot: SystemTime,
}

impl<'c> Holders<'c> {
    pub(crate) fn of(census: &'c Census) -> Self {
        let mut of = BTreeMap::<_, Vec<_>>::new();
        for process in &census.processes {
            let descriptors = process.descriptors.iter().map(|descriptor| Holding {
                process,
                object: &descriptor.object,
                descriptor: Some(descriptor.number),
                ends: ends(descriptor.access),
                mapped: 0,
            });
            let mappings = process.mappings.iter().map(|mapping| Holding {
                process,
                object: &mapping.object,
                descriptor: None,
                ends: if mapping.is_writable { &["map", "write"] } else { &["map"] },
                mapped: (mapping.end - mapping.start).saturating_add(mapping.offset),
            });
            for holding in descriptors.chain(mappings) {
                let Some(identity) = Identity::of(holding.object, process.pid, holding.descriptor) else { continue };
                of.entry(identity).or_default().push(holding);
            }
        }
        Self { census, of, boot: boot() }
    }

    /// Who has it; after that it counts as listed.
    pub(crate) fn take(&mut self, identity: Identity) -> Vec<Holding<'c>> {
        self.of.remove(&identity).unwrap_or_default()
    }

    /// Takes what the choice gives something for.
    pub(crate) fn take_some<T>(
        &mut self,
        mut choose: impl FnMut(Identity, &[Holding<'c>]) -> Option<T>,
    ) -> Vec<(T, Vec<Holding<'c>>)> {
        let mut taken = Vec::new();
        for (identity, holdings) in std::mem::take(&mut self.of) {
            match choose(identity, &holdings) {
                Some(chosen) => taken.push((chosen, holdings)),
                None => drop(self.of.insert(identity, holdings)),
            }
        }
        taken
    }

    /// The process that had this number at this moment (in whole seconds, as System V keeps them), if it still lives.
    pub(crate) fn living(&self, pid: i32, at: Option<SystemTime>) -> Option<&'c Process> {
        let process = self.process(u32::try_from(pid).ok()?)?;
        let at = at?.checked_add(Duration::from_secs(1))?;
        (self.boot.checked_add(process.started)? <= at).then_some(process)
    }

    pub(crate) fn process(&self, pid: u32) -> Option<&'c Process> {
        let place = self.census.processes.binary_search_by_key(&pid, |process| process.pid).ok()?;
        self.census.processes.get(place)
    }

    /// `Live` if somebody has it. If nobody was seen with it, `nobody`, unless a process that may not be looked into could have it.
    pub(crate) fn state(&self, holders: &[Holder], owner: u32, mode: u32, nobody: State) -> State {
        match () {
            () if !holders.is_empty() => State::Live,
            () if self.may_be_hidden(owner, mode) => State::Unknown,
            () => nobody,
        }
    }

    /// Whether a process that may not be looked into could have opened it with the rights that it has by owner and mode. What root may beyond
    /// that is not counted, or nobody but root would ever know anything.
    fn may_be_hidden(&self, owner: u32, mode: u32) -> bool {
        let others = mode & 0o066 != 0;
        let is_theirs = owner != ginnel_os::process::user();
        let mut denied = self.census.processes.iter().filter(|process| process.is_denied);
        self.census.is_partial && (others || is_theirs) || denied.any(|process| others || process.uid == owner)
    }
}

fn ends(access: Access) -> &'static [&'static str] {
    match access {
        Access::None => &["path"],
        Access::Read => &["read"],
        Access::Write => &["write"],
        Access::ReadWrite => &["read", "write"],
    }
}

/// From `proc_uptime(5)`; where that is not to be had, no process is taken to be older than anything.
fn boot() -> SystemTime {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = uptime.split(' ').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0.0);
    SystemTime::now() - Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// The processes among the holdings, each once.
pub(crate) fn people(holdings: &[Holding<'_>]) -> Vec<Holder> {
    let mut people: Vec<Holder> = Vec::new();
    for holding in holdings {
        let process = holding.process;
        if people.last().is_none_or(|last| last.pid != process.pid) {
            people.push(person(process, &[]));
        }
        let Some(last) = people.last_mut() else { continue };
        last.descriptors.extend(holding.descriptor);
        for end in holding.ends {
            if !last.has(end) {
                last.ends.push(end);
            }
        }
    }
    people
}

pub(crate) fn person(process: &Process, ends: &[&'static str]) -> Holder {
    Holder { pid: process.pid, command: process.comm.clone(), ends: ends.to_vec(), descriptors: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(denied: Option<u32>, is_partial: bool) -> Census {
        let mut census = Census::default();
        census.is_partial = is_partial;
        if let Some(uid) = denied {
            let mut process = Process::default();
            (process.pid, process.uid, process.is_denied) = (7, uid, true);
            census.processes.push(process);
        }
        census
    }

    #[test]
    fn who_may_not_be_looked_into_could_have_what_its_mode_allows() {
        let own = ginnel_os::process::user();
        let state =
            |denied, partial, owner, mode| Holders::of(&census(denied, partial)).state(&[], owner, mode, State::Stale);
        for (denied, is_partial, owner, mode, expected) in [
            (None, false, own, 0o666, State::Stale),
            (None, false, own + 1, 0o666, State::Stale),
            (Some(own + 1), false, own, 0o600, State::Stale),
            (Some(own + 1), false, own, 0o644, State::Unknown),
            (Some(own + 1), false, own, 0o660, State::Unknown),
            (Some(own), false, own, 0o600, State::Unknown),
            (None, true, own, 0o600, State::Stale),
            (None, true, own + 1, 0o600, State::Unknown),
            (None, true, own, 0o604, State::Unknown),
        ] {
            assert_eq!(state(denied, is_partial, owner, mode), expected, "{denied:?} {is_partial} {owner} {mode:o}");
        }
        let holder = Holder { pid: 1, command: Vec::new(), ends: Vec::new(), descriptors: Vec::new() };
        let hidden = census(Some(own), true);
        assert_eq!(Holders::of(&hidden).state(&[holder], own, 0o666, State::Stale), State::Live);
    }

    #[test]
    fn a_number_that_was_given_again_is_not_who_had_it() {
        let mut census = Census::default();
        let mut process = Process::default();
        (process.pid, process.started) = (7, Duration::from_secs(100));
        census.processes.push(process);
        let mut holders = Holders::of(&census);
        holders.boot = SystemTime::UNIX_EPOCH;
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert!(holders.living(7, at(100)).is_some());
        assert!(holders.living(7, at(99)).is_some(), "times of System V are cut to whole seconds");
        assert!(holders.living(7, at(98)).is_none() && holders.living(7, None).is_none());
        assert!(holders.living(8, at(200)).is_none() && holders.living(0, at(200)).is_none());
    }
}
