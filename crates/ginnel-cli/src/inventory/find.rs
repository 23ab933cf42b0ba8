//! An address, and the objects that it leads to.

use super::entry::State;
use super::{Entry, Holder, Inventory, Mechanism, Wanted, sysv};
use crate::exit::{Code, Failure};
use ginnel::Link;
use ginnel_os::mqueue;
use ginnel_os::sysv_ipc::Key;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// What `info` looks at and `rm` removes: a link, or an object that no link leads to.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Link(Link),
    Object(Mechanism, String),
}

/// Schemes of objects that are no links. A pipe is also a link (`pipe:`, `pipe:3`), but not by its number.
const OBJECTS: [Mechanism; 10] = [
    Mechanism::SysvSem,
    Mechanism::SysvShm,
    Mechanism::Sem,
    Mechanism::PosixShm,
    Mechanism::Memfd,
    Mechanism::Anonymous,
    Mechanism::File,
    Mechanism::Eventfd,
    Mechanism::Epoll,
    Mechanism::Signalfd,
];

impl Target {
    /// Understands an address, as `ls` writes it or as a link has it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let numbered = [Mechanism::Pipe, Mechanism::Unix, Mechanism::Sysv, Mechanism::Socket];
        let (scheme, name) = text.split_once(':').unwrap_or((text, ""));
        let is = |mechanism: &&Mechanism| mechanism.name() == scheme;
        let number = numbered.iter().find(is).filter(|_| is_number(name));
        match OBJECTS.iter().find(is).or(number) {
            Some(_) if name.is_empty() => Err(format!("cannot understand \"{text}\": the name is empty")),
            Some(mechanism) => Ok(Self::Object(*mechanism, name.to_owned())),
            None => crate::commands::address(text).map(Self::Link),
        }
    }
}

fn is_number(name: &str) -> bool {
    name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|number| number.parse::<u64>().is_ok())
}

/// The mechanism and the name of a link that the kernel carries, if it has an object that can be looked at.
pub(crate) fn kernel_object(link: &Link) -> Option<(Mechanism, String)> {
    let address = link.address();
    let (scheme, name) = address.split_once(':')?;
    let mechanism = [Mechanism::Mq, Mechanism::Sysv, Mechanism::Fifo, Mechanism::Unix]
        .into_iter()
        .find(|mechanism| mechanism.name() == scheme)?;
    Some((mechanism, name.to_owned()))
}

/// Looks for an object. Several may have one name: memfds, sockets whose name was taken over.
///
/// # Errors
/// Not found, or not permitted to know.
pub(crate) fn find(tried: &str, mechanism: Mechanism, name: &str) -> Result<(Inventory, Vec<Entry>), Failure> {
    let address = address(mechanism, name)?;
    let file = file(tried, mechanism, name)?;
    let below = file.map(|_| name.into()).into_iter().collect();
    let wanted = Wanted { only: vec![mechanism], below };
    let is_it = |entry: &&Entry| match file {
        Some(_) => entry.file == file,
        None => entry.address == address,
    };
    let mut inventory = Inventory::take(&wanted)?;
    let mut found: Vec<Entry> = inventory.entries.iter().filter(is_it).cloned().collect();
    if found.is_empty() && mechanism == Mechanism::Mq && !inventory.unread.is_empty() {
        // Without the list of queues, one that nobody has open is seen while we have it open.
        let queue = mqueue::Queue::open(name, mqueue::Access::Receive);
        inventory = Inventory::take(&wanted)?;
        found = inventory.entries.iter().filter(is_it).cloned().collect();
        found.iter_mut().for_each(alone);
        drop(queue);
    }
    if found.is_empty() {
        return Err(not_found(tried, mechanism, &address, &inventory));
    }
    // The connections of a socket are the listener's business.
    if found.iter().any(|entry| entry.is_named) {
        let (named, connections): (Vec<_>, Vec<_>) = found.into_iter().partition(|entry| entry.is_named);
        found = named;
        let clients = connections.iter().filter_map(|connection| inventory.peer(connection));
        let clients =
            clients.flat_map(|peer| &peer.holders).map(|client| Holder { ends: vec!["client"], ..client.clone() });
        found[0].holders.extend(clients);
    }
    Ok((inventory, found))
}

/// As it is without us.
fn alone(queue: &mut Entry) {
    queue.holders.retain(|holder| holder.pid != ginnel_os::process::id());
    if queue.holders.is_empty() {
        queue.state = State::Unknown;
    }
}

fn not_found(tried: &str, mechanism: Mechanism, address: &[u8], inventory: &Inventory) -> Failure {
    let is_nameless = mechanism > Mechanism::Unix;
    let list = format!("{}: ", mechanism.name());
    let why = inventory.unread.iter().find(|text| is_nameless || text.starts_with(&list));
    let why = why.map(|text| format!("; {text}")).unwrap_or_default();
    let text = format!("cannot {tried} {}: there is none{why}", crate::escape::terminal(address));
    Failure::new(Code::NotFound, text)
}

/// As `ls` writes it.
fn address(mechanism: Mechanism, name: &str) -> Result<Vec<u8>, Failure> {
    let system_v = [Mechanism::Sysv, Mechanism::SysvSem, Mechanism::SysvShm].contains(&mechanism);
    if system_v && !is_number(name) {
        let key = key(name).map_err(|text| Failure::new(Code::Usage, format!("cannot understand {name:?}: {text}")))?;
        return Ok(sysv::address(mechanism, key, 0));
    }
    let is_posix = matches!(mechanism, Mechanism::Sem | Mechanism::PosixShm) && !name.starts_with('/');
    Ok(mechanism.address(if is_posix { format!("/{name}") } else { name.to_owned() }.as_bytes()))
}

/// `0x4711`, `18193`, or a file and a number for `ftok(3)`.
fn key(name: &str) -> Result<Key, String> {
    if let Some((path, project)) = name.rsplit_once('#') {
        let project = project.parse().map_err(|_| "the number behind `#` is from 1 to 255".to_owned())?;
        return Key::from_path(Path::new(path), project).map_err(|e| e.to_string());
    }
    let number = match name.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok().map(|key| key as i32),
        None => name.parse().ok(),
    };
    match number.filter(|number| *number != 0) {
        Some(number) => Ok(Key::new(number)),
        None => Err("write a key as 0x4711, a file and a number as /path#1, or the kernel's number as [42]".into()),
    }
}

/// Device and inode of the file that the object has, if it has one.
fn file(tried: &str, mechanism: Mechanism, name: &str) -> Result<Option<(u64, u64)>, Failure> {
    let has_path = match mechanism {
        Mechanism::Fifo => true,
        Mechanism::Unix => !name.starts_with('@') && !is_number(name),
        _ => false,
    };
    if !has_path {
        return Ok(None);
    }
    let wrong = |what| Err(Failure::failed(format!("cannot {tried} {}:{name}: it is no {what}", mechanism.name())));
    match std::fs::metadata(name) {
        Ok(status) if mechanism == Mechanism::Fifo && !status.file_type().is_fifo() => wrong("FIFO"),
        Ok(status) if mechanism == Mechanism::Unix && !status.file_type().is_socket() => wrong("socket"),
        Ok(status) => Ok(Some((status.dev(), status.ino()))),
        // A socket lives on without its file.
        Err(e) if mechanism == Mechanism::Unix && e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failure::file(tried, format_args!("{}:{name}", mechanism.name()), &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_links_or_objects() {
        let object = |text| match Target::parse(text) {
            Ok(Target::Object(mechanism, name)) => Some((mechanism, name)),
            _ => None,
        };
        assert_eq!(object("sem:/a"), Some((Mechanism::Sem, "/a".into())));
        assert_eq!(object("pipe:[17]"), Some((Mechanism::Pipe, "[17]".into())));
        assert_eq!(object("sysv:[17]"), Some((Mechanism::Sysv, "[17]".into())));
        for link in ["shm:a", "mq:/a", "sysv:0x11", "fifo:/a", "unix:@a", "unix:/a[1]", "pipe:"] {
            assert!(matches!(Target::parse(link), Ok(Target::Link(_))), "{link}");
        }
        for bad in ["", "sem:", "pipe:[x]", "http:x", "orders"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_brought_into_the_form_that_is_listed() {
        let address = |mechanism, name| address(mechanism, name).ok().map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(address(Mechanism::Sem, "a").unwrap(), "sem:/a");
        assert_eq!(address(Mechanism::Sysv, "18193").unwrap(), "sysv:0x4711");
        assert_eq!(address(Mechanism::SysvShm, "0x4711").unwrap(), "sysv-shm:0x4711");
        assert_eq!(address(Mechanism::SysvShm, "[9]").unwrap(), "sysv-shm:[9]");
        assert_eq!(address(Mechanism::SysvSem, "0"), None);
        assert!(address(Mechanism::Sysv, "/dev/null#1").is_some());
    }
}
