//! `ginnel rm`: links are removed by name.

use super::address;
use crate::exit::Failure;
use ginnel::Link;

const AFTER_HELP: &str = "\
Without --force a link is removed only if nobody has it open and no message is
in it. With it, those who have it open go on with each other, and messages
that nobody receives are lost.

Examples:
  ginnel rm shm:orders
  ginnel rm --force shm:orders shm:replies";

/// Remove links
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Links to remove
    #[arg(value_parser = address, required = true)]
    address: Vec<Link>,

    /// Remove them even if they are open or hold messages
    #[arg(short, long)]
    force: bool,
}

/// Tries them all; ends as the first one that failed.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut first = Ok(());
    for link in &args.address {
        let Err(e) = link.unlink(args.force) else { continue };
        match &first {
            Ok(()) => first = Err(Failure::from(e)),
            Err(_) => drop(Failure::from(e).report()),
        }
    }
    first
}
