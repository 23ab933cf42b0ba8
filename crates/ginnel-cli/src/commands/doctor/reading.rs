//! What is judged: every limit of `ginnel_os::limits`, and the facts about the surroundings as numbers beside them.

use crate::units;
use ginnel_os::limits::{self, Surroundings, Unit, Value};

/// A limit or a fact, and what it is now.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) name: String,
    /// `None` if it cannot be read.
    pub(super) value: Option<Value>,
    pub(super) unit: Unit,
}

/// Everything that is to be judged, and whether this is a container.
pub(super) fn all() -> (Vec<Reading>, bool) {
    let around = limits::surroundings();
    let limits =
        limits::all().into_iter().map(|limit| Reading { name: limit.name, value: limit.value, unit: limit.unit });
    (limits.chain(facts(&around)).collect(), !around.container.is_empty())
}

/// The facts, as switches.
fn facts(around: &Surroundings) -> [Reading; 7] {
    let remove = &around.remove_ipc;
    let in_container = !around.container.is_empty();
    // Outside of a container a namespace of one's own is meant so.
    let private = |name: &str| {
        let namespace = around.namespaces.iter().find(|namespace| namespace.name == name)?;
        namespace.is_initial.or(namespace.is_of_init).map(|shared| in_container && !shared)
    };
    let is_tmpfs = around.shared_memory.as_ref().is_some_and(|mount| mount.kind == "tmpfs");
    [
        switch("RemoveIPC for this user", Some(remove.is_on && remove.is_systemd && !remove.is_system_user)),
        switch("/dev/shm on tmpfs", Some(is_tmpfs)),
        switch("/dev/mqueue mounted", Some(around.message_queues.is_some())),
        switch("/proc of an outer PID namespace", Some(around.nested_pids.len() > 1)),
        switch("PID namespace of the container", private("pid")),
        switch("IPC namespace of the container", private("ipc")),
        switch("network namespace of the container", private("net")),
    ]
}

fn switch(name: &str, is_on: Option<bool>) -> Reading {
    let value = is_on.map(|is_on| Value::Number(u64::from(is_on)));
    Reading { name: name.to_owned(), value, unit: Unit::Switch }
}

impl Reading {
    pub(super) fn number(&self) -> Option<u64> {
        match self.value {
            Some(Value::Number(number)) => Some(number),
            _ => None,
        }
    }

    pub(super) fn is_unlimited(&self) -> bool {
        self.value == Some(Value::Unlimited)
    }

    /// For programs.
    pub(super) fn unit_name(&self) -> &'static str {
        match self.unit {
            Unit::Bytes => "bytes",
            Unit::Pages => "pages",
            Unit::Switch => "switch",
            Unit::Level => "level",
            _ => "count",
        }
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        match (self.value, self.unit) {
            (None, _) => "unknown".to_owned(),
            (Some(Value::Unlimited), _) => "unlimited".to_owned(),
            (Some(Value::Number(bytes)), Unit::Bytes) => units::size(bytes),
            (Some(Value::Number(pages)), Unit::Pages) => format!("{pages} pages"),
            (Some(Value::Number(0)), Unit::Switch) => "off".to_owned(),
            (Some(Value::Number(_)), Unit::Switch) => "on".to_owned(),
            (Some(Value::Number(number)), _) => number.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_in_their_units() {
        let shown = |value, unit| Reading { name: String::new(), value, unit }.shown();
        assert_eq!(shown(Some(Value::Number(65536)), Unit::Bytes), "64KiB");
        assert_eq!(shown(Some(Value::Number(7)), Unit::Pages), "7 pages");
        assert_eq!(shown(Some(Value::Number(1)), Unit::Switch), "on");
        assert_eq!(shown(Some(Value::Number(1)), Unit::Level), "1");
        assert_eq!(shown(Some(Value::Unlimited), Unit::Bytes), "unlimited");
        assert_eq!(shown(None, Unit::Bytes), "unknown");
    }
}
