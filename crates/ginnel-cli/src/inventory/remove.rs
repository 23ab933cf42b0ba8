//! Removing objects that are no links: those with a name or a key, which outlive who made them. The rest goes with its last process.

use super::entry::{Amount, State};
use super::find::find;
use super::{Entry, Mechanism};
use crate::escape;
use crate::exit::{Code, Failure};
use ginnel_os::{semaphore, shm, sysv_mq, sysv_sem, sysv_shm};
use std::io;

/// Removes an object. Without `force` only if nobody has it, as far as can be seen, and no message is in it.
///
/// # Errors
/// Not found, in use, or what the kernel said.
pub(crate) fn remove(mechanism: Mechanism, name: &str, force: bool) -> Result<(), Failure> {
    let removed: fn(&str, Option<i32>) -> io::Result<()> = match mechanism {
        Mechanism::Sem => |name, _| semaphore::unlink(name),
        Mechanism::PosixShm => |name, _| shm::unlink(name),
        Mechanism::Sysv => |_, id| one_of(sysv_mq::list()?, id, |stat| stat.queue.id())?.queue.remove(),
        Mechanism::SysvSem => |_, id| one_of(sysv_sem::list()?, id, |stat| stat.set.id())?.set.remove(),
        Mechanism::SysvShm => |_, id| one_of(sysv_shm::list()?, id, |stat| stat.segment.id())?.segment.remove(),
        _ => return Err(nothing_to_remove(mechanism, name)),
    };
    // The first one, as only nameless objects share an address.
    let (_, found) = find("remove", mechanism, name)?;
    let entry = &found[0];
    if !force {
        is_idle(entry)?;
    }
    removed(&name_of(entry), id_of(entry)).map_err(|e| Failure::file("remove", escape::terminal(&entry.address), &e))
}

/// The name as it is listed: of POSIX with its slash.
fn name_of(entry: &Entry) -> String {
    let address = String::from_utf8_lossy(&entry.address);
    address.split_once(':').map_or_else(String::new, |(_, name)| name.to_owned())
}

/// The kernel's number, of System V.
fn id_of(entry: &Entry) -> Option<i32> {
    let (_, id) = entry.attributes.iter().find(|(name, _)| *name == "id")?;
    id.as_i64()?.try_into().ok()
}

fn one_of<T>(all: Vec<T>, id: Option<i32>, id_of: impl Fn(&T) -> i32) -> io::Result<T> {
    all.into_iter().find(|one| Some(id_of(one)) == id).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn is_idle(entry: &Entry) -> Result<(), Failure> {
    let users: Vec<String> =
        entry.holders.iter().map(|holder| format!("{}({})", escape::terminal(&holder.command), holder.pid)).collect();
    let problem = match (entry.state, entry.depth) {
        (State::Live, _) if users.is_empty() => "a process that was not seen has it".to_owned(),
        (State::Live, _) => format!("{} has it", users.join(", ")),
        (State::Unknown, _) => "a process that may not be looked into could have it".to_owned(),
        (_, Some(Amount::Messages(depth @ 1..))) => format!("{depth} messages are in it"),
        _ => return Ok(()),
    };
    let address = escape::terminal(&entry.address);
    Err(Failure::failed(format!("cannot remove {address}: {problem}; add `--force` if it is to go all the same")))
}

fn nothing_to_remove(mechanism: Mechanism, name: &str) -> Failure {
    let address = escape::terminal(&mechanism.address(name.as_bytes()));
    let text = format!("cannot remove {address}: it has no name; it goes with the last process that has it");
    Failure::new(Code::Usage, text)
}
