//! Addresses: how a link is written. `SCHEME:NAME?option=value&option=value`.
//!
//! Sizes are written as `4096`, `64KiB`, `16MiB`, `1GiB`. An unknown option is an error that lists the known ones.

use crate::error::{Error, ErrorKind};
use crate::shm::Spec;
use ginnel_core::{Full, Geometry, Label, Shape};
use std::ffi::CString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Longest name of a link, in bytes.
pub const NAME_MAX: usize = 200;

/// How each scheme is written, and the options that mean something there.
const SCHEMES: [(&str, &str, &[&str]); 10] = [
    ("shm", "shm:NAME", ENGINE),
    ("mem", "mem:NAME", ENGINE),
    ("pipe", "pipe:", &["max", "full", "frame"]),
    ("fifo", "fifo:/path", &["max", "full", "frame", "follow"]),
    ("mq", "mq:/name", &["capacity", "max", "full", "priority", "follow"]),
    ("sysv", "sysv:KEY", &["max", "memory", "full", "follow"]),
    ("unix", "unix:/path", &["max", "full", "frame", "type", "follow"]),
    ("tcp", "tcp://host:port", &["max", "full", "frame", "follow"]),
    ("udp", "udp://host:port", &["max", "full", "follow"]),
    ("signal", "signal:PID", &["full", "number", "follow"]),
];

const ENGINE: &[&str] = &[
    "shape",
    "capacity",
    "max",
    "memory",
    "participants",
    "full",
    "senders",
    "receivers",
    "history",
    "unbounded",
    "follow",
    "wait",
];

/// Shapes that a [`Sender`](crate::Sender) and a [`Receiver`](crate::Receiver) carry.
const CARRIED: &[Shape] = &[Shape::Queue, Shape::Broadcast, Shape::Latest];

/// What a sender may do when the link is full.
const FULL: [Full; 4] = [Full::Block, Full::Reject, Full::DropOldest, Full::CutOff];

/// Places for values of a link that carries the newest one.
const CELLS: u64 = 8;

/// How a handle waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Wait {
    /// Spins as long as that has paid off lately, then sleeps.
    #[default]
    Adaptive,
    /// Never sleeps: lowest latency, one core each.
    Spin,
    /// Sleeps at once.
    Block,
}

/// The name of a shared-memory link: 1 to [`NAME_MAX`] bytes of UTF-8 without `/`, `?` and control characters, and neither `.` nor `..`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name(String);

impl Name {
    pub(crate) fn new(name: &str) -> Result<Self, &'static str> {
        if name.is_empty() {
            return Err("the name is empty");
        }
        if name.len() > NAME_MAX {
            return Err("the name is longer than 200 bytes");
        }
        if name == "." || name == ".." {
            return Err("the names `.` and `..` mean directories");
        }
        if name.contains('/') {
            return Err("a name may not hold `/`");
        }
        if name.contains('?') {
            return Err("a name may not hold `?`, which begins the options");
        }
        if name.chars().any(char::is_control) {
            return Err("a name may not hold NUL or another control character");
        }
        Ok(Self(name.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn to_cstring(&self) -> CString {
        CString::new(self.0.as_str()).expect("a name holds no NUL")
    }
}

/// The numbers of a link that were asked for; what is `None` is the default, or what the link has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) shape: Option<Shape>,
    /// What the messages are.
    pub(crate) label: Option<Box<Label>>,
    pub(crate) capacity: Option<u64>,
    pub(crate) max: Option<u64>,
    pub(crate) memory: Option<u64>,
    pub(crate) participants: Option<u32>,
    pub(crate) full: Option<Full>,
    pub(crate) senders: Option<u32>,
    pub(crate) receivers: Option<u32>,
    pub(crate) unbounded: bool,
}

/// Ceiling of an unbounded link that names none, in bytes: more than most hosts have, as the link's addresses are laid out for it.
const UNBOUNDED_MEMORY: u64 = 64 << 30;

impl Wanted {
    /// What cannot be asked for together: the problem, and its remedy.
    pub(crate) fn contradiction(&self) -> Option<(String, String)> {
        if let (true, Some(shape)) = (self.unbounded, self.shape.filter(|shape| *shape != Shape::Queue)) {
            let problem = format!("shape={} is never unbounded, only a queue is", shape.name());
            return Some((problem, "leave one of the two out".into()));
        }
        let option = match self {
            Self { unbounded: false, .. } => return None,
            Self { capacity: Some(_), .. } => "capacity",
            Self { full: Some(_), .. } => "full",
            _ => return None,
        };
        let problem = format!("an unbounded link is never full, so {option}= means nothing there");
        Some((problem, format!("leave {option}= out; a ceiling in bytes is memory=")))
    }

    /// The geometry of a new link.
    pub(crate) fn geometry(&self) -> Geometry {
        let (default, latest) = (Geometry::default(), self.shape == Some(Shape::Latest));
        let mut geometry = Geometry {
            shape: self.shape.unwrap_or_default(),
            capacity: self.capacity.unwrap_or(if latest { CELLS } else { default.capacity }),
            max: self.max.unwrap_or(default.max),
            memory: 0,
            participants: self.participants.unwrap_or(default.participants),
            full: self.full.unwrap_or_default(),
            senders: self.senders.unwrap_or(0),
            receivers: self.receivers.unwrap_or(0),
            extent: 0,
        };
        if self.unbounded {
            return geometry.unbounded(self.memory.unwrap_or(UNBOUNDED_MEMORY));
        }
        // Four of the largest messages, or the default, whichever is more; or what all places for the newest value may take.
        let most =
            if latest { geometry.memory_min() } else { default.memory.max(geometry.memory_min().saturating_mul(4)) };
        geometry.memory = self.memory.unwrap_or(most);
        geometry
    }

    /// The first number that differs from a link's: option, wanted, is.
    pub(crate) fn mismatch(&self, is: &Geometry) -> Option<(&'static str, String, String)> {
        fn differs<T: PartialEq + fmt::Debug>(
            option: &'static str,
            wanted: Option<T>,
            is: T,
        ) -> Option<(&'static str, String, String)> {
            let wanted = wanted.filter(|wanted| *wanted != is)?;
            Some((option, format!("{wanted:?}"), format!("{is:?}")))
        }
        // Who asks for no shape takes whichever its handles can carry.
        let shape = self.shape.or_else(|| (!CARRIED.contains(&is.shape)).then_some(Shape::Queue));
        differs("shape", shape.map(Shape::name), is.shape.name())
            .or_else(|| differs("unbounded", self.unbounded.then_some(true), is.is_unbounded()))
            .or_else(|| differs("capacity", self.capacity, is.capacity))
            .or_else(|| differs("max", self.max, is.max))
            .or_else(|| differs("memory", self.memory, is.memory))
            .or_else(|| differs("participants", self.participants, is.participants))
            .or_else(|| differs("full", self.full.map(full_name), full_name(is.full)))
            .or_else(|| differs("senders", self.senders, is.senders))
            .or_else(|| differs("receivers", self.receivers, is.receivers))
    }
}

/// What an address leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Shm(Name),
    Mem(Name),
    /// An unnamed pipe: a descriptor that this process has, or its standard input or output.
    Pipe(Option<u32>),
    Fifo(PathBuf),
    /// With its slash.
    Mq(String),
    Sysv(Key),
    Unix(Place),
    Tcp(String),
    Udp(String),
    /// A process; this one, for the receiving end.
    Signal(Option<u32>),
}

/// How a System V object is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Number(i32),
    /// A file, and a number from 1 to 255: `ftok(3)`.
    File(PathBuf, u8),
}

/// Where a Unix-domain socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Path(PathBuf),
    /// In the abstract name space, without the leading NUL.
    Abstract(String),
}

/// How messages are told apart in a stream of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Frame {
    /// Each stands behind a header with its length (see `kernel/frame.rs`).
    #[default]
    Length,
    /// Each ends with a newline, which it may not hold: what shells and most programs understand.
    Line,
    /// Not at all: what was read at once is a message.
    Raw,
}

/// What of a message arrives besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Carriage {
    /// Its tag.
    Tagged,
    /// Nothing: what ends it, if anything shall, is a part of it.
    Bare,
    /// It is a line, or a number: something has to end it where it is written down.
    Line,
}

/// Which type of Unix-domain socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SocketType {
    /// `SOCK_STREAM`.
    #[default]
    Stream,
    /// `SOCK_SEQPACKET`.
    Seqpacket,
    /// `SOCK_DGRAM`.
    Dgram,
}

/// A parsed address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) target: Target,
    pub(crate) wanted: Wanted,
    pub(crate) follow: bool,
    /// Messages that were there before, for a receiver of a broadcast.
    pub(crate) history: Option<u64>,
    pub(crate) wait: Wait,
    pub(crate) frame: Frame,
    pub(crate) socket: SocketType,
    pub(crate) priority: u32,
    /// A signal by name or number; empty is the first real-time signal.
    pub(crate) signal: String,
}

impl Address {
    /// As the link is named in messages: without options.
    pub(crate) fn link(&self) -> String {
        let shown = |path: &PathBuf| path.display().to_string();
        match &self.target {
            Target::Shm(name) => format!("shm:{}", name.as_str()),
            Target::Mem(name) => format!("mem:{}", name.as_str()),
            Target::Pipe(None) => "pipe:".into(),
            Target::Pipe(Some(descriptor)) => format!("pipe:{descriptor}"),
            Target::Fifo(path) => format!("fifo:{}", shown(path)),
            Target::Mq(name) => format!("mq:{name}"),
            Target::Sysv(Key::Number(key)) => format!("sysv:{key:#x}"), // As `ls` and ipcs(1) do.
            Target::Sysv(Key::File(path, id)) => format!("sysv:{}#{id}", shown(path)),
            Target::Unix(Place::Path(path)) => format!("unix:{}", shown(path)),
            Target::Unix(Place::Abstract(name)) => format!("unix:@{name}"),
            Target::Tcp(at) => format!("tcp://{at}"),
            Target::Udp(at) => format!("udp://{at}"),
            Target::Signal(None) => "signal:".into(),
            Target::Signal(Some(pid)) => format!("signal:{pid}"),
        }
    }

    /// The link in shared memory that it leads to, if it does.
    pub(crate) fn engine(&self) -> Option<Spec> {
        let (name, private) = match &self.target {
            Target::Shm(name) => (name, false),
            Target::Mem(name) => (name, true),
            _ => return None,
        };
        Some(Spec {
            name: name.clone(),
            wanted: self.wanted.clone(),
            follow: self.follow,
            history: self.history,
            wait: self.wait,
            private,
        })
    }

    /// An unnamed pipe, but for who has been given one.
    pub(crate) fn is_new_pipe(&self) -> bool {
        self.target == Target::Pipe(None)
    }

    pub(crate) fn carriage(&self) -> Carriage {
        let is_stream = self.socket == SocketType::Stream;
        match (&self.target, self.frame) {
            (Target::Shm(_) | Target::Mem(_) | Target::Sysv(_), _) => Carriage::Tagged,
            (Target::Signal(_), _) => Carriage::Line,
            (Target::Mq(_) | Target::Udp(_), _) => Carriage::Bare,
            (Target::Unix(_), _) if !is_stream => Carriage::Bare,
            (_, Frame::Length) => Carriage::Tagged,
            (_, Frame::Line) => Carriage::Line,
            (_, Frame::Raw) => Carriage::Bare,
        }
    }

    /// Without options.
    pub(crate) fn of(target: Target) -> Self {
        let (wanted, frame, socket) = (Wanted::default(), Frame::default(), SocketType::default());
        let (wait, signal) = (Wait::default(), String::new());
        Self { target, wanted, follow: false, history: None, wait, frame, socket, priority: 0, signal }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::new(ErrorKind::InvalidAddress, "understand", quoted(text));
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(invalid().problem("an address begins with a scheme").remedy("write `shm:NAME`"));
        };
        let Some((scheme, form, options)) = SCHEMES.iter().find(|(known, ..)| *known == scheme) else {
            let known: Vec<_> = SCHEMES.iter().map(|(_, form, _)| *form).collect();
            return Err(invalid()
                .problem(format!("the scheme {} is unknown", quoted(scheme)))
                .remedy(format!("known are {}", known.join(", "))));
        };
        let (name, query) = rest.split_once('?').unwrap_or((rest, ""));
        let target =
            target(scheme, name).map_err(|problem| invalid().problem(problem).remedy(format!("write `{form}`")))?;
        let mut address = Self::of(target);
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let set = if options.contains(&key) {
                address.set(key, value)
            } else {
                Err((format!("`{scheme}:` has no option {}", quoted(key)), format!("known are {}", options.join(", "))))
            };
            set.map_err(|(problem, remedy)| {
                Error::new(ErrorKind::InvalidOption, "understand", quoted(text)).problem(problem).remedy(remedy)
            })?;
        }
        if address.wanted.full == Some(Full::CutOff) && address.engine().is_none() {
            return Err(Error::new(ErrorKind::InvalidOption, "understand", quoted(text))
                .problem("full=cut-off is for shape=broadcast, where others go on")
                .remedy("write full=block or full=reject"));
        }
        if let Some((problem, remedy)) = address.wanted.contradiction() {
            return Err(Error::new(ErrorKind::InvalidOption, "understand", quoted(text))
                .problem(problem)
                .remedy(remedy));
        }
        if address.socket != SocketType::Stream && address.frame != Frame::Length {
            let known = socket_name(address.socket);
            return Err(Error::new(ErrorKind::InvalidOption, "understand", quoted(text))
                .problem(format!("type={known} has no frames, as each message goes by itself"))
                .remedy("leave frame= out, or write type=stream"));
        }
        Ok(address)
    }
}

fn target(scheme: &str, name: &str) -> Result<Target, &'static str> {
    Ok(match scheme {
        "mem" => Target::Mem(Name::new(name)?),
        "pipe" if name.is_empty() => Target::Pipe(None),
        "pipe" => Target::Pipe(Some(name.parse().map_err(|_| "a pipe has no name, or is a descriptor's number")?)),
        "fifo" => Target::Fifo(path(name)?),
        "mq" => Target::Mq(queue_name(name)?),
        "sysv" => Target::Sysv(key(name)?),
        "unix" => Target::Unix(match name.strip_prefix('@') {
            Some("") => return Err("the name is empty"),
            Some(name) => Place::Abstract(name.to_owned()),
            None => Place::Path(path(name)?),
        }),
        "tcp" => Target::Tcp(host_and_port(name)?),
        "udp" => Target::Udp(host_and_port(name)?),
        "signal" if name.is_empty() => Target::Signal(None),
        "signal" => match name.parse::<i32>() {
            Ok(pid) if pid > 0 => Target::Signal(Some(pid.unsigned_abs())),
            _ => return Err("a process is given by its number, from 1 to 2147483647"),
        },
        _ => Target::Shm(Name::new(name)?),
    })
}

fn path(name: &str) -> Result<PathBuf, &'static str> {
    match name {
        "" => Err("the path is empty"),
        _ if name.contains('\0') => Err("a path may not hold NUL"),
        _ => Ok(PathBuf::from(name)),
    }
}

/// `mq_overview(7)`: a slash, then 1 to 255 bytes without one.
fn queue_name(name: &str) -> Result<String, &'static str> {
    let bare = name.strip_prefix('/').ok_or("the name of a message queue begins with `/`")?;
    match bare {
        "" => Err("the name is empty"),
        "." | ".." => Err("the names `.` and `..` mean directories"),
        _ if bare.contains('/') => Err("the name may not hold another `/`"),
        _ if bare.contains('\0') => Err("a name may not hold NUL"),
        _ if bare.len() > 255 => Err("the name is longer than 255 bytes"),
        _ => Ok(name.to_owned()),
    }
}

/// A number, in decimal or hexadecimal, or a file with a number behind `#`.
fn key(name: &str) -> Result<Key, &'static str> {
    if let Some((file, id)) = name.rsplit_once('#') {
        let id = id.parse().ok().filter(|id| *id != 0).ok_or("the number behind `#` is from 1 to 255")?;
        return Ok(Key::File(path(file)?, id));
    }
    let number = match name.strip_prefix("0x") {
        Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok().map(|key| i32::from_ne_bytes(key.to_ne_bytes())),
        None => name.parse().ok(),
    };
    match number {
        Some(0) => Err("the key 0 is IPC_PRIVATE: nobody could find the queue"),
        Some(number) => Ok(Key::Number(number)),
        None => Err("a key is a number, as in `sysv:0x4711`, or a file and a number, as in `sysv:/etc/passwd#1`"),
    }
}

fn host_and_port(name: &str) -> Result<String, &'static str> {
    let at = name.strip_prefix("//").ok_or("host and port stand behind `//`")?;
    let (host, port) = at.rsplit_once(':').ok_or("the port is missing")?;
    if host.is_empty() {
        return Err("the host is empty");
    }
    match port.parse::<u16>() {
        Ok(0) => Err("port 0 is whichever is free: nobody could find it"),
        Ok(_) => Ok(()),
        Err(_) => Err("the port is a number from 1 to 65535"),
    }?;
    Ok(at.to_owned())
}

impl Address {
    fn set(&mut self, key: &str, value: &str) -> Result<(), (String, String)> {
        let wanted = &mut self.wanted;
        match key {
            "shape" => wanted.shape = Some(one_of(key, value, CARRIED, Shape::name)?),
            "capacity" => wanted.capacity = Some(number(key, value)?),
            "max" => wanted.max = Some(number(key, value)?),
            "memory" => wanted.memory = Some(number(key, value)?),
            "participants" => wanted.participants = Some(small(key, value)?),
            "senders" => wanted.senders = Some(small(key, value)?),
            "receivers" => wanted.receivers = Some(small(key, value)?),
            "full" => {
                wanted.full = Some(one_of(key, value, &FULL, full_name)?);
            }
            "history" => self.history = Some(number(key, value)?),
            "wait" => self.wait = one_of(key, value, &[Wait::Adaptive, Wait::Spin, Wait::Block], wait_name)?,
            "frame" => self.frame = one_of(key, value, &[Frame::Length, Frame::Line, Frame::Raw], frame_name)?,
            "type" => {
                let all = [SocketType::Stream, SocketType::Seqpacket, SocketType::Dgram];
                self.socket = one_of(key, value, &all, socket_name)?;
            }
            "unbounded" => wanted.unbounded = flag(key, value)?,
            "priority" => self.priority = small(key, value)?,
            "number" => value.clone_into(&mut self.signal),
            _ => self.follow = flag(key, value)?,
        }
        Ok(())
    }
}

fn flag(key: &str, value: &str) -> Result<bool, (String, String)> {
    match value {
        "" | "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err((format!("{key}={} is neither true nor false", quoted(value)), format!("write `{key}`"))),
    }
}

fn one_of<T: Copy>(key: &str, value: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, (String, String)> {
    let found = all.iter().find(|one| name(**one) == value);
    let names: Vec<_> = all.iter().map(|one| name(*one)).collect();
    found
        .copied()
        .ok_or_else(|| (format!("{key}={} is unknown", quoted(value)), format!("write {key}={}", names.join("|"))))
}

/// As `full` is written in an address.
pub(crate) fn full_name(full: Full) -> &'static str {
    match full {
        Full::Reject => "reject",
        Full::DropOldest => "drop-oldest",
        Full::CutOff => "cut-off",
        _ => "block",
    }
}

fn wait_name(wait: Wait) -> &'static str {
    match wait {
        Wait::Adaptive => "adaptive",
        Wait::Spin => "spin",
        Wait::Block => "block",
    }
}

fn frame_name(frame: Frame) -> &'static str {
    match frame {
        Frame::Length => "length",
        Frame::Line => "line",
        Frame::Raw => "raw",
    }
}

fn socket_name(socket: SocketType) -> &'static str {
    match socket {
        SocketType::Stream => "stream",
        SocketType::Seqpacket => "seqpacket",
        SocketType::Dgram => "dgram",
    }
}

fn number(key: &str, value: &str) -> Result<u64, (String, String)> {
    parse_size(value)
        .ok_or_else(|| (format!("{key}={} is not a number", quoted(value)), format!("write {key}=1024 or {key}=64KiB")))
}

fn small(key: &str, value: &str) -> Result<u32, (String, String)> {
    let number = number(key, value)?;
    u32::try_from(number)
        .map_err(|_| (format!("{key}={number} is too large"), format!("write {key}={} or less", u32::MAX)))
}

/// A number, with a binary unit if it has one: `4096`, `64KiB`, `16M`, `1GiB`. `None` if it is not one, or above 2^64.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let shift = match &text[digits..] {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Somebody's text, safe to print.
fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().count() > 80 { format!("`{shown}...`") } else { format!("`{shown}`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Address>().unwrap_err().to_string()
    }

    #[test]
    fn options_are_understood() {
        let address: Address =
            "shm:orders?capacity=16&max=64KiB&full=drop-oldest&senders=1&follow&wait=spin".parse().unwrap();
        assert_eq!((address.follow, address.wait), (true, Wait::Spin));
        let geometry = address.wanted.geometry();
        assert_eq!(
            (geometry.capacity, geometry.max, geometry.full, geometry.senders),
            (16, 65536, Full::DropOldest, 1)
        );
        assert_eq!(address.link(), "shm:orders");
        let address: Address = "unix:@a/b?type=seqpacket&follow=0".parse().unwrap();
        assert_eq!((address.socket, address.follow), (SocketType::Seqpacket, false));
        let address: Address = "fifo:/tmp/a?frame=line".parse().unwrap();
        assert_eq!(address.frame, Frame::Line);
    }

    #[test]
    fn every_scheme_is_written_as_it_was_read() {
        for text in [
            "shm:a",
            "mem:a",
            "pipe:",
            "pipe:3",
            "fifo:/tmp/a",
            "fifo:relative",
            "mq:/a",
            "sysv:0x4711",
            "sysv:/etc/passwd#7",
            "unix:/run/a",
            "unix:@a",
            "tcp://[::1]:80",
            "udp://239.1.2.3:5000",
            "signal:",
            "signal:1234",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().link(), text);
        }
        assert_eq!("sysv:-1".parse::<Address>().unwrap().link(), "sysv:0xffffffff");
        assert_eq!("sysv:18193".parse::<Address>().unwrap().link(), "sysv:0x4711");
        assert_eq!("sysv:/a#b#3".parse::<Address>().unwrap().link(), "sysv:/a#b#3");
    }

    #[test]
    fn bad_names_say_what_is_wrong() {
        assert!(error("shm:").contains("empty"));
        assert!(error("shm:a/b").contains("`/`"));
        assert!(error("shm:..").contains("directories"));
        assert!(error("shm:a\0b").contains("NUL"));
        assert!(error(&format!("shm:{}", "x".repeat(201))).contains("200 bytes"));
        assert!(format!("shm:{}", "x".repeat(200)).parse::<Address>().is_ok());
        assert!(error("orders").contains("scheme"));
        assert!(error("http:x").contains("unknown") && error("http:x").contains("fifo:/path"));
        assert!(error("fifo:").contains("empty"));
        assert!(error("mq:a").contains("begins with `/`"));
        assert!(error("mq:/").contains("empty"));
        assert!(error("mq:/a/b").contains("another `/`"));
        assert!(error(&format!("mq:/{}", "x".repeat(256))).contains("255 bytes"));
        assert!(error("sysv:0").contains("IPC_PRIVATE"));
        assert!(error("sysv:some").contains("0x4711"));
        assert!(error("sysv:/etc/passwd#0").contains("from 1 to 255"));
        assert!(error("sysv:/etc/passwd#256").contains("from 1 to 255"));
        assert!(error("unix:").contains("empty"));
        assert!(error("unix:@").contains("empty"));
        assert!(error("tcp:localhost:80").contains("`//`"));
        assert!(error("tcp://localhost").contains("port"));
        assert!(error("tcp://:80").contains("host"));
        assert!(error("tcp://a:65536").contains("65535"));
        assert!(error("udp://a:0").contains("port 0"));
        assert!(error("signal:0").contains("from 1"));
        assert!(error("signal:-5").contains("from 1"));
        assert!(error("pipe:x").contains("descriptor"));
    }

    #[test]
    fn unknown_options_list_the_known() {
        let text = error("shm:a?colour=red");
        assert!(text.contains("`colour`") && text.contains("capacity, max"), "{text}");
        assert!(error("shm:a?full=perhaps").contains("block|reject|drop-oldest|cut-off"));
        assert!(error("fifo:/a?full=cut-off").contains("shape=broadcast"));
        assert!(error("shm:a?capacity=many").contains("capacity=64KiB"));
        assert!(error("shm:a?participants=5G").contains("too large"));
        let text = error("fifo:/a?capacity=4");
        assert!(text.contains("`fifo:` has no option `capacity`") && text.contains("known are max"), "{text}");
        assert!(error("unix:/a?type=raw").contains("stream|seqpacket|dgram"));
        assert!(error("unix:/a?type=dgram&frame=line").contains("no frames"));
        assert!(error("unix:/a?frame=raw&type=seqpacket").contains("no frames"));
        assert!("unix:/a?frame=line&type=stream".parse::<Address>().is_ok());
        assert!(error("unix:/a?follow=maybe").contains("neither true nor false"));
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("64KiB"), Some(65536));
        assert_eq!(parse_size("1G"), Some(1 << 30));
        assert_eq!(parse_size("12"), Some(12));
        for bad in ["", "KiB", "-1", "1.5M", "1kb", "99999999999999999999", "99999999T"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }
}
