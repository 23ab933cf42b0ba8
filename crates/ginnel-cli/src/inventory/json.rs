//! Objects as programs read them.

use super::{Amount, Entry, Holder, nanoseconds};
use crate::escape;
use crate::users::Users;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// An object, as `ls`, `ps` and `info` show it.
#[derive(Serialize)]
pub(crate) struct Object {
    address: String,
    mechanism: &'static str,
    state: &'static str,
    named: bool,
    owner: Option<String>,
    owner_uid: Option<u32>,
    /// Octal, as `chmod` takes it.
    mode: Option<String>,
    size_bytes: Option<u64>,
    depth: Option<u64>,
    depth_unit: Option<&'static str>,
    capacity: Option<u64>,
    capacity_unit: Option<&'static str>,
    since_ns: Option<u64>,
    /// Of what has a file: which one it is, whatever its name.
    file_device: Option<u64>,
    file_inode: Option<u64>,
    processes: Vec<Process>,
    #[serde(serialize_with = "map")]
    attributes: Vec<(&'static str, Value)>,
}

/// A process that has an object, or that is at its other end.
#[derive(Serialize)]
pub(crate) struct Process {
    pid: u32,
    command: String,
    ends: Vec<&'static str>,
    descriptors: Vec<i32>,
}

fn map<S: Serializer>(attributes: &[(&'static str, Value)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(attributes.iter().map(|(name, value)| (name, value)))
}

impl Object {
    pub(crate) fn of(entry: &Entry, users: &Users) -> Self {
        let (depth, capacity) = (entry.depth.map(Amount::parts), entry.capacity.map(Amount::parts));
        Self {
            address: escape::json(&entry.address),
            mechanism: entry.mechanism.name(),
            state: entry.state.name(),
            named: entry.is_named,
            owner: entry.owner.map(|uid| users.name(uid)),
            owner_uid: entry.owner,
            mode: entry.mode.map(|mode| format!("{mode:04o}")),
            size_bytes: entry.size,
            depth: depth.map(|(number, _)| number),
            depth_unit: depth.map(|(_, unit)| unit),
            capacity: capacity.map(|(number, _)| number),
            capacity_unit: capacity.map(|(_, unit)| unit),
            since_ns: entry.since.map(nanoseconds),
            file_device: entry.file.map(|(device, _)| device),
            file_inode: entry.file.map(|(_, inode)| inode),
            processes: entry.holders.iter().map(Process::of).collect(),
            attributes: entry.attributes.clone(),
        }
    }
}

impl Process {
    pub(crate) fn of(holder: &Holder) -> Self {
        Self {
            pid: holder.pid,
            command: escape::json(&holder.command),
            ends: holder.ends.clone(),
            descriptors: holder.descriptors.clone(),
        }
    }
}
