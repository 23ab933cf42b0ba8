//! `ginnel man`: the manual, from the same declarations as the help.

use super::Cli;
use crate::exit::Failure;
use crate::output;
use clap::CommandFactory;
use clap_mangen::Man;
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Examples:
  ginnel man | man -l -                 read it
  ginnel man ~/.local/share/man/man1    install all pages";

/// Print the manual page, or write all pages into a directory
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Directory for ginnel.1 and one page a command; it must exist
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let command = Cli::command();
    if let Some(dir) = &args.dir {
        return clap_mangen::generate_to(command, dir).map_err(|e| Failure::file("write to", dir.display(), &e));
    }
    let mut page = Vec::new();
    Man::new(command).render(&mut page).map_err(|e| Failure::failed(format!("cannot make the page: {e}")))?;
    output::emit(&String::from_utf8_lossy(&page))
}
