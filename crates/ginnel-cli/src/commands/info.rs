//! `ginnel info`: everything that there is to see of a link.

use super::address;
use crate::exit::Failure;
use crate::table::Align::{Left, Right};
use crate::table::Table;
use crate::{json, output, units};
use ginnel::{Info, Link};

const AFTER_HELP: &str = "\
Looking disturbs nobody: the link is mapped read-only. The counters of a
participant run on over those who had its place before.

Examples:
  ginnel info shm:orders
  ginnel info --json shm:orders | jq .messages";

/// Show everything about a link, and who has it open
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Link to look at
    #[arg(value_parser = address)]
    address: Link,

    /// Print JSON: one object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let info = args.address.info()?;
    if args.json {
        return json::print(&json::Link::from(&info));
    }
    let mut text = facts(&info);
    if !info.participants.is_empty() {
        text += "\n";
        text += &participants(&info);
    }
    output::emit(&text)
}

fn facts(info: &Info) -> String {
    let (geometry, pool) = (&info.geometry, &info.pool);
    let now = ginnel_os::process::now_ns();
    let limit = |limit: u32| if limit == 0 { "any number".to_owned() } else { format!("{limit} at most") };
    let facts = [
        ("address", info.address.clone()),
        ("file", info.path.display().to_string()),
        ("state", json::state(info.liveness).to_owned()),
        ("age", units::age(info.created_ns, now)),
        ("messages", format!("{} of {}", info.messages, geometry.capacity)),
        ("sent", info.sent.to_string()),
        ("taken", info.taken.to_string()),
        ("dropped", info.dropped.to_string()),
        ("died", info.died.to_string()),
        ("max", units::size(geometry.max)),
        ("full", json::full(geometry.full).to_owned()),
        ("senders", limit(geometry.senders)),
        ("receivers", limit(geometry.receivers)),
        ("participants", format!("{} of {}", info.participants.len(), geometry.participants)),
        ("memory", units::size(info.allocated)),
        (
            "blocks",
            format!(
                "{} used of {} committed, {} at most",
                units::size(pool.used),
                units::size(pool.committed),
                units::size(pool.ceiling)
            ),
        ),
    ];
    let mut text = String::new();
    for (name, value) in facts {
        text += &format!("{name:<13} {value}\n");
    }
    text
}

fn participants(info: &Info) -> String {
    let mut table = Table::new(&[
        ("ROLE", Left),
        ("PID", Right),
        ("COMMAND", Left),
        ("STATE", Left),
        ("AGE", Right),
        ("MESSAGES", Right),
        ("BYTES", Right),
        ("SLEPT", Right),
        ("REDELIVERED", Right),
        ("SKIPPED", Right),
        ("DROPPED", Right),
    ]);
    let now = ginnel_os::process::now_ns();
    for participant in &info.participants {
        let counters = &participant.counters;
        let elsewhere = if participant.same_pid_namespace { "" } else { "*" };
        table.row(vec![
            json::role(participant.role).into(),
            format!("{}{elsewhere}", participant.pid),
            json::command(participant).unwrap_or_else(|| "-".into()),
            if participant.alive { "alive" } else { "dead" }.into(),
            units::age(participant.joined_ns, now),
            counters.messages.to_string(),
            units::size(counters.bytes),
            counters.slept.to_string(),
            counters.redelivered.to_string(),
            counters.skipped.to_string(),
            counters.dropped.to_string(),
        ]);
    }
    let mut text = table.render();
    if info.participants.iter().any(|p| !p.same_pid_namespace) {
        text += "* in another PID namespace: the number means nothing here\n";
    }
    text
}
