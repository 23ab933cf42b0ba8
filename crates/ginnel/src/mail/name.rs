//! How a mailbox is written: `NAME`, `shm:NAME`, `mem:NAME`, `NAME@HOST`, each with options behind `?`.

use super::letter::LetterHeading;
use crate::error::{Error, ErrorKind};
use crate::heading;
use crate::shm::Spec;
use ginnel_core::Shape;

/// Longest name of a host, in bytes.
const HOST_MAX: usize = 253;

/// Understands the name of a mailbox; one without a scheme is in `scheme`.
pub(super) fn parse(text: &str, scheme: &str) -> Result<Spec, Error> {
    let invalid = |problem: &str| {
        let shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
        Error::new(ErrorKind::InvalidAddress, "understand", format!("the mailbox `{shown}`"))
            .problem(problem)
            .remedy("write NAME, shm:NAME or mem:NAME")
    };
    let (place, options) = text.split_once('?').map_or((text, None), |(place, options)| (place, Some(options)));
    let (local, host) = place.split_once('@').map_or((place, None), |(local, host)| (local, Some(host)));
    let (scheme, name) = match local.split_once(':') {
        None => (scheme, local),
        Some((scheme @ ("shm" | "mem"), name)) => (scheme, name),
        Some(_) => return Err(invalid("the name of a mailbox may not hold `:`")),
    };
    if name.contains(':') {
        return Err(invalid("the name of a mailbox may not hold `:`"));
    }
    if name.is_empty() {
        return Err(invalid("the name is empty"));
    }
    if let Some(host) = host {
        if !is_host(host) {
            return Err(invalid("behind `@` stands a host: letters, digits, `.`, `-`, `_`, or [an IPv6 address]"));
        }
        return Err(Error::new(ErrorKind::Unsupported, "reach", format!("the mailbox {name}@{host}"))
            .problem("it is on another host, and nothing takes letters there yet")
            .remedy("write a name without `@` for one on this host"));
    }
    let address = format!("{scheme}:{name}{}{}", if options.is_some() { "?" } else { "" }, options.unwrap_or(""));
    let mut spec = heading::spec(&address, Shape::Mailbox, LetterHeading::MOST)?;
    if spec.wanted.receivers.is_some_and(|receivers| receivers != 1) {
        return Err(Error::new(ErrorKind::InvalidOption, "open", spec.link())
            .problem("a mailbox has one owner")
            .remedy("leave receivers= out"));
    }
    spec.wanted.receivers = Some(1);
    spec.follow = true; // letters come from anybody, and senders come and go
    Ok(spec)
}

fn is_host(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = inner {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    (1..=HOST_MAX).contains(&host.len()) && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_understood() {
        for (text, link) in
            [("alice", "shm:alice"), ("shm:alice", "shm:alice"), ("mem:a b", "mem:a b"), ("a?capacity=16", "shm:a")]
        {
            let spec = parse(text, "shm").unwrap();
            assert_eq!((spec.link().as_str(), spec.wanted.receivers), (link, Some(1)));
        }
        assert_eq!(parse("alice", "mem").unwrap().link(), "mem:alice");
        assert_eq!(parse("a?capacity=16", "shm").unwrap().wanted.capacity, Some(16));
    }

    #[test]
    fn another_host_is_refused_and_its_syntax_is_fixed() {
        for text in ["bob@host", "shm:bob@10.0.0.7", "bob@a-b.example.org", "bob@[::1]", "bob@h?capacity=4"] {
            let error = parse(text, "shm").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{text}: {error}");
            assert!(error.to_string().contains("another host"), "{error}");
        }
        for text in ["bob@", "bob@@host", "bob@a b", "bob@::1", "bob@[x]", &format!("bob@{}", "x".repeat(254)), "@host"]
        {
            assert_eq!(parse(text, "shm").unwrap_err().kind(), ErrorKind::InvalidAddress, "{text}");
        }
    }

    #[test]
    fn bad_names_say_what_is_wrong() {
        let error = |text: &str| parse(text, "shm").unwrap_err().to_string();
        assert!(error("").contains("empty") && error("shm:").contains("empty"));
        assert!(error("tcp://host:1").contains("may not hold `:`") && error("shm:a:b").contains("may not hold `:`"));
        assert!(error("a/b").contains("`/`"));
        assert!(error("..").contains("directories"));
        assert!(error(&"x".repeat(201)).contains("200 bytes"));
        assert!(error("a?receivers=2").contains("one owner"));
        assert!(error("a?full=drop-oldest").contains("may not be dropped"));
        assert!(error("a?colour=red").contains("known are"));
        assert!(error("a?max=100").contains("212 bytes"));
    }
}
