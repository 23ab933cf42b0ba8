//! Addresses: how a link is written. `SCHEME:NAME?option=value&option=value`.
//!
//! Sizes are written as `4096`, `64KiB`, `16MiB`, `1GiB`. An unknown option is an error that lists the known ones.

use crate::error::{Error, ErrorKind};
use ginnel_core::{Full, Geometry};
use std::ffi::CString;
use std::fmt;
use std::str::FromStr;

/// Longest name of a link, in bytes.
pub const NAME_MAX: usize = 200;

/// Every scheme that ginnel knows or will know, and whether this build speaks it.
const SCHEMES: [(&str, bool); 10] = [
    ("shm", true),
    ("mem", false),
    ("pipe", false),
    ("fifo", false),
    ("mq", false),
    ("sysv", false),
    ("unix", false),
    ("tcp", false),
    ("udp", false),
    ("signal", false),
];

const OPTIONS: &str = "capacity, max, memory, participants, full, senders, receivers, follow, wait";

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
    pub(crate) capacity: Option<u64>,
    pub(crate) max: Option<u64>,
    pub(crate) memory: Option<u64>,
    pub(crate) participants: Option<u32>,
    pub(crate) full: Option<Full>,
    pub(crate) senders: Option<u32>,
    pub(crate) receivers: Option<u32>,
}

impl Wanted {
    /// The geometry of a new link.
    pub(crate) fn geometry(&self) -> Geometry {
        let default = Geometry::default();
        let mut geometry = Geometry {
            capacity: self.capacity.unwrap_or(default.capacity),
            max: self.max.unwrap_or(default.max),
            memory: 0,
            participants: self.participants.unwrap_or(default.participants),
            full: self.full.unwrap_or_default(),
            senders: self.senders.unwrap_or(0),
            receivers: self.receivers.unwrap_or(0),
        };
        // Four of the largest messages, or the default, whichever is more.
        geometry.memory = self.memory.unwrap_or_else(|| default.memory.max(geometry.memory_min().saturating_mul(4)));
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
        differs("capacity", self.capacity, is.capacity)
            .or_else(|| differs("max", self.max, is.max))
            .or_else(|| differs("memory", self.memory, is.memory))
            .or_else(|| differs("participants", self.participants, is.participants))
            .or_else(|| differs("full", self.full.map(full_name), full_name(is.full)))
            .or_else(|| differs("senders", self.senders, is.senders))
            .or_else(|| differs("receivers", self.receivers, is.receivers))
    }
}

/// A parsed address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) name: Name,
    pub(crate) wanted: Wanted,
    pub(crate) follow: bool,
    pub(crate) wait: Wait,
}

impl Address {
    /// As the link is named in messages: without options.
    pub(crate) fn link(&self) -> String {
        format!("shm:{}", self.name.as_str())
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::new(ErrorKind::InvalidAddress, "understand", quoted(text));
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(invalid().problem("an address begins with a scheme").remedy("write `shm:NAME`"));
        };
        match SCHEMES.iter().find(|(known, _)| *known == scheme) {
            Some((_, true)) => {}
            Some((_, false)) => {
                let error = Error::new(ErrorKind::Unsupported, "use", quoted(text));
                return Err(error.problem(format!("`{scheme}:` is not built yet")).remedy("use `shm:NAME`"));
            }
            None => {
                return Err(invalid()
                    .problem(format!("the scheme {} is unknown", quoted(scheme)))
                    .remedy("use `shm:NAME`"));
            }
        }
        let (name, query) = rest.split_once('?').unwrap_or((rest, ""));
        let name = Name::new(name)
            .map_err(|problem| invalid().problem(problem).remedy("write `shm:NAME`, as in `shm:orders`"))?;
        let mut address = Self { name, wanted: Wanted::default(), follow: false, wait: Wait::default() };
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            address.set(key, value).map_err(|(problem, remedy)| {
                Error::new(ErrorKind::InvalidOption, "understand", quoted(text)).problem(problem).remedy(remedy)
            })?;
        }
        Ok(address)
    }
}

impl Address {
    fn set(&mut self, key: &str, value: &str) -> Result<(), (String, String)> {
        let wanted = &mut self.wanted;
        match key {
            "capacity" => wanted.capacity = Some(number(key, value)?),
            "max" => wanted.max = Some(number(key, value)?),
            "memory" => wanted.memory = Some(number(key, value)?),
            "participants" => wanted.participants = Some(small(key, value)?),
            "senders" => wanted.senders = Some(small(key, value)?),
            "receivers" => wanted.receivers = Some(small(key, value)?),
            "full" => {
                wanted.full = Some(one_of(key, value, &[Full::Block, Full::Reject, Full::DropOldest], full_name)?);
            }
            "wait" => self.wait = one_of(key, value, &[Wait::Adaptive, Wait::Spin, Wait::Block], wait_name)?,
            "follow" => {
                self.follow = match value {
                    "" | "1" | "true" => true,
                    "0" | "false" => false,
                    _ => {
                        return Err((
                            format!("follow={} is neither true nor false", quoted(value)),
                            "write `follow`".into(),
                        ));
                    }
                }
            }
            _ => return Err((format!("the option {} is unknown", quoted(key)), format!("known are {OPTIONS}"))),
        }
        Ok(())
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
        assert_eq!((address.name.as_str(), address.follow, address.wait), ("orders", true, Wait::Spin));
        let geometry = address.wanted.geometry();
        assert_eq!(
            (geometry.capacity, geometry.max, geometry.full, geometry.senders),
            (16, 65536, Full::DropOldest, 1)
        );
        assert_eq!(address.link(), "shm:orders");
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
        assert!(error("http:x").contains("unknown"));
        assert!(error("fifo:/x").contains("not built yet"));
    }

    #[test]
    fn unknown_options_list_the_known() {
        let text = error("shm:a?colour=red");
        assert!(text.contains("`colour`") && text.contains("capacity, max"), "{text}");
        assert!(error("shm:a?full=perhaps").contains("block|reject|drop-oldest"));
        assert!(error("shm:a?capacity=many").contains("capacity=64KiB"));
        assert!(error("shm:a?participants=5G").contains("too large"));
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
