//! `ginnel completions`: what a shell needs in order to complete the tool's command line.

use super::Cli;
use crate::exit::Failure;
use crate::output;
use clap::CommandFactory;
use clap_complete::Shell;

const AFTER_HELP: &str = "\
Examples:
  ginnel completions bash > ~/.local/share/bash-completion/completions/ginnel
  ginnel completions zsh > ~/.zfunc/_ginnel
  ginnel completions fish > ~/.config/fish/completions/ginnel.fish";

/// Print completions for a shell
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Shell that will read them
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ginnel", &mut script);
    output::emit(&String::from_utf8_lossy(&script))
}
