//! Objects as people read them: the cells of tables.

use super::{Amount, Entry, Holder, nanoseconds};
use crate::users::Users;
use crate::{escape, units};

/// Processes in a cell; the others are counted.
const SHOWN: usize = 3;

/// What is not known.
pub(crate) const NOTHING: &str = "-";

fn or_nothing(text: Option<String>) -> String {
    text.unwrap_or_else(|| NOTHING.into())
}

pub(crate) fn amount(amount: Option<Amount>) -> String {
    or_nothing(amount.map(|amount| match amount {
        Amount::Bytes(bytes) => units::size(bytes),
        other => other.parts().0.to_string(),
    }))
}

/// With its unit, where it stands alone.
pub(crate) fn amount_with_unit(amount: Amount) -> String {
    match amount {
        Amount::Bytes(bytes) => units::size(bytes),
        other => format!("{} {}", other.parts().0, other.parts().1),
    }
}

pub(crate) fn owner(entry: &Entry, users: &Users) -> String {
    or_nothing(entry.owner.map(|uid| users.name(uid)))
}

pub(crate) fn mode(entry: &Entry) -> String {
    or_nothing(entry.mode.map(|mode| format!("{mode:04o}")))
}

pub(crate) fn size(entry: &Entry) -> String {
    or_nothing(entry.size.map(units::size))
}

pub(crate) fn age(entry: &Entry) -> String {
    let now = ginnel_os::process::now_ns();
    or_nothing(entry.since.map(|since| units::age(nanoseconds(since), now)))
}

/// `cat(12)`: as it is counted in the number of one process.
pub(crate) fn process(holder: &Holder) -> String {
    if holder.pid == 0 {
        return "elsewhere".into(); // in another PID namespace: its number means nothing here
    }
    format!("{}({})", escape::terminal(&holder.command), holder.pid)
}

pub(crate) fn processes<'a>(holders: impl IntoIterator<Item = &'a Holder>) -> String {
    let all: Vec<&Holder> = holders.into_iter().collect();
    let mut text: Vec<String> = all.iter().take(SHOWN).map(|holder| process(holder)).collect();
    if all.len() > SHOWN {
        text.push(format!("+{}", all.len() - SHOWN));
    }
    if text.is_empty() { NOTHING.into() } else { text.join(" ") }
}

/// What kind of conversation: of links only.
pub(crate) fn shape(entry: &Entry) -> String {
    let value = |wanted| entry.attributes.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
    match value("shape").and_then(|shape| shape.as_str()) {
        Some(_) if value("unbounded").is_some() => "unbounded".into(),
        Some(shape) => shape.into(),
        None => NOTHING.into(),
    }
}

pub(crate) fn details(entry: &Entry) -> String {
    let details: Vec<String> =
        entry.attributes.iter().map(|(name, value)| format!("{name}={}", attribute(name, value))).collect();
    if details.is_empty() { NOTHING.into() } else { details.join(" ") }
}

/// A value; the end of its name says its unit.
pub(crate) fn attribute(name: &str, value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Number(number) => match (number.as_u64(), name) {
            (Some(bytes), name) if name.ends_with("_bytes") => units::size(bytes),
            (Some(at), name) if name.ends_with("_ns") => {
                format!("{} ago", units::age(at, ginnel_os::process::now_ns()))
            }
            _ => number.to_string(),
        },
        serde_json::Value::String(text) => escape::terminal(text.as_bytes()),
        serde_json::Value::Bool(yes) => if *yes { "yes" } else { "no" }.into(),
        serde_json::Value::Array(values) => {
            let values: Vec<String> = values.iter().map(|value| attribute("", value)).collect();
            values.join(",")
        }
        other => other.to_string(),
    }
}
