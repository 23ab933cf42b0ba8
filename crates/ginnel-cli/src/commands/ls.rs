//! `ginnel ls`: the links of this user.

use crate::exit::{Failure, say};
use crate::table::Align::{Left, Right};
use crate::table::Table;
use crate::{json, output, units};
use ginnel::{Info, Role};
use serde::Serialize;

const AFTER_HELP: &str = "\
A link is `live` while a process has it open, `waiting` when nobody has and
messages are in it, and `stale` when a crash left it: the next opener, or
`ginnel clean`, collects it. Looking disturbs nobody.

Examples:
  ginnel ls
  ginnel ls --json | jq -r '.links[] | select(.state == \"waiting\") | .address'";

/// List links
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Print JSON: one object with all links
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Links {
    links: Vec<json::Link>,
}

pub(crate) fn run(args: &Args, quiet: bool) -> Result<(), Failure> {
    let (mut links, mut strange) = (Vec::new(), Vec::new());
    for found in ginnel::list()? {
        match found {
            Ok(info) => links.push(info),
            Err(e) => strange.push(e),
        }
    }
    links.sort_by(|a, b| a.address.cmp(&b.address));
    if args.json {
        json::print(&Links { links: links.iter().map(json::Link::from).collect() })?;
    } else if !links.is_empty() {
        output::emit(&table(&links))?;
    } else if !quiet {
        say("no links");
    }
    for e in strange {
        say(&format!("warning: {e}"));
    }
    Ok(())
}

fn table(links: &[Info]) -> String {
    let mut table = Table::new(&[
        ("ADDRESS", Left),
        ("STATE", Left),
        ("MESSAGES", Right),
        ("CAPACITY", Right),
        ("SENDERS", Right),
        ("RECEIVERS", Right),
        ("MEMORY", Right),
        ("AGE", Right),
    ]);
    let now = ginnel_os::process::now_ns();
    for info in links {
        let alive = |role: Role| info.participants.iter().filter(|p| p.alive && p.role == role).count().to_string();
        table.row(vec![
            info.address.clone(),
            json::state(info.liveness).into(),
            info.messages.to_string(),
            info.geometry.capacity.to_string(),
            alive(Role::Sender),
            alive(Role::Receiver),
            units::size(info.allocated),
            units::age(info.created_ns, now),
        ]);
    }
    table.render()
}
