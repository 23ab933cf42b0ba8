//! `ginnel rm`: links and other objects are removed by name.

use crate::exit::Failure;
use crate::inventory::find::Target;
use crate::inventory::remove::remove;

const AFTER_HELP: &str = "\
Without --force only what nobody has open, and no message is in, is removed.
With it, those who have it open go on with each other, but of System V queues
and semaphores, where they get an error; messages that nobody receives are lost.

What is no link can be removed if `ginnel ls` shows it with a name or a key:
sem:/name, posix-shm:/name, sysv-sem:KEY, sysv-shm:KEY, sysv:[ID], ...

Examples:
  ginnel rm shm:orders
  ginnel rm --force shm:orders shm:replies
  ginnel rm sysv-shm:0x4711 sem:/slots";

/// Remove links and other objects
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Links or objects to remove
    #[arg(value_parser = Target::parse, required = true)]
    address: Vec<Target>,

    /// Remove them even if they are open or hold messages
    #[arg(short, long)]
    force: bool,
}

/// Tries them all; ends as the first one that failed.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut first = Ok(());
    for target in &args.address {
        let done = match target {
            Target::Link(link) => link.unlink(args.force).map_err(Failure::from),
            Target::Object(mechanism, name) => remove(*mechanism, name, args.force),
        };
        match (done, &first) {
            (Ok(()), _) => {}
            (failed, Ok(())) => first = failed,
            (Err(failure), Err(_)) => drop(failure.report()),
        }
    }
    first
}
