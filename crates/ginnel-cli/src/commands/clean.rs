//! `ginnel clean`: what crashes left is collected.

use super::tour;
use crate::exit::{Failure, say};
use crate::{escape, json, output};
use ginnel::ErrorKind;
use serde::Serialize;

const AFTER_HELP: &str = "\
Links in shared memory; queues and datagram sockets that ginnel made; and what
a killed tour had. Links that living processes have open stay, and so do
messages that wait for a receiver. Opening a link does the same for that link, so this is never needed
for ginnel to work; it gives memory back.

Examples:
  ginnel clean --dry-run    what would be done
  ginnel clean";

/// Collect what dead processes left
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Change nothing, only show what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Print JSON: one object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    dry_run: bool,
    cleaned: Vec<json::Swept>,
}

pub(crate) fn run(args: &Args, quiet: bool) -> Result<(), Failure> {
    let (mut cleaned, mut failed) = (Vec::new(), None);
    cleaned.extend(tour::clean(args.dry_run).iter().map(|dir| json::Swept::directory(dir)));
    for found in ginnel::clean(args.dry_run)? {
        match found {
            Ok(done) => cleaned.push(json::Swept::from(&done)),
            // Somebody else's file: not ours to clean, and no failure.
            Err(e) if e.kind() == ErrorKind::NotALink => say(&format!("warning: {e}")),
            Err(e) => {
                say(&e.to_string());
                failed.get_or_insert(Failure::from(e).code());
            }
        }
    }
    if args.json {
        json::print(&Report { dry_run: args.dry_run, cleaned })?;
    } else if !cleaned.is_empty() {
        output::emit(&cleaned.iter().map(|done| line(done, args.dry_run)).collect::<String>())?;
    } else if !quiet && failed.is_none() {
        say("nothing to clean");
    }
    failed.map_or(Ok(()), |code| Err(Failure::quiet(code)))
}

fn line(done: &json::Swept, dry_run: bool) -> String {
    let mut deeds = Vec::new();
    if done.dead > 0 {
        deeds.push(format!("{} {} dead", if dry_run { "would recover" } else { "recovered" }, done.dead));
    }
    if done.removed {
        deeds.push(if dry_run { "would be removed" } else { "removed" }.to_owned());
    }
    if deeds.is_empty() {
        deeds.push(format!(
            "{} who was there; it is another program's",
            if dry_run { "would forget" } else { "forgot" }
        ));
    }
    format!("{}: {}\n", escape::terminal(done.address.as_bytes()), deeds.join(", "))
}
