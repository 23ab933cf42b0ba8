//! The order of the run: the harness on itself, then the paths, then the verdict, or the new table.

mod paths;
mod ratchet;
mod selftest;
mod stepper;
mod wake;

use std::process::ExitCode;
use std::{env, fs};

use ratchet::{Count, TABLE, Table};

/// `write` makes the table anew.
const VARIABLE: &str = "GINNEL_RATCHET";

/// Runs everything, prints a line for each path, and `N passed, N failed`.
pub(crate) fn main() -> ExitCode {
    if env::args().any(|word| word == "--list") {
        return ExitCode::SUCCESS; // a test runner asks for names: this test is one piece
    }
    let writes = match env::var(VARIABLE).as_deref() {
        Err(_) | Ok("") => false,
        Ok("write") => true,
        Ok(other) => {
            eprintln!("{VARIABLE}={other}: only `write` is known, which makes {TABLE} anew");
            return ExitCode::from(2);
        }
    };
    stepper::pin_to_one_cpu();
    let mut tally = Tally::default();
    selftest::run(&mut tally);
    if cfg!(debug_assertions) {
        println!("skipped: the paths, in a build that is not optimised; use --release");
    } else if let Err(error) = count_all(writes, &mut tally) {
        tally.note("the paths", Err(error));
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    ExitCode::from(u8::from(tally.failed > 0))
}

/// Passes and failures, printed as they come.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    /// A line for what passed, with what there is to say; several for what did not.
    fn note(&mut self, name: &str, verdict: Result<String, String>) {
        match verdict {
            Ok(said) => {
                println!("ok      {name}: {said}");
                self.passed += 1;
            }
            Err(wrong) => {
                println!("FAILED  {name}: {wrong}");
                self.failed += 1;
            }
        }
    }
}

/// Counts every path, and compares with the table or writes it.
fn count_all(writes: bool, tally: &mut Tally) -> Result<(), String> {
    let directory = tempfile::Builder::new().prefix("ginnel-instructions-").tempdir_in("/dev/shm");
    let directory = directory.map_err(|error| format!("a directory in /dev/shm: {error}"))?;
    stepper::set_variable(ginnel::DIRECTORY_VARIABLE, directory.path());
    let mut counts = Vec::new();
    for path in paths::ALL {
        match paths::count(path) {
            Ok(instructions) => counts.push(Count { name: path.name.to_owned(), instructions }),
            Err(error) => tally.note(path.name, Err(error)),
        }
    }
    let rustc = ratchet::compiler();
    if writes {
        if tally.failed > 0 {
            return Err(format!("{TABLE} is left as it is: not every path could be counted"));
        }
        let table = Table { rustc, counts };
        fs::write(ratchet::file(), table.to_string()).map_err(|error| format!("writing {TABLE}: {error}"))?;
        tally.note("the table", Ok(format!("{TABLE} is written; look at its difference before you commit it")));
        print!("{table}");
        return Ok(());
    }
    let text = fs::read_to_string(ratchet::file()).map_err(|error| format!("reading {TABLE}: {error}"))?;
    let table = text.parse::<Table>()?;
    if let Some(said) = table.other_compiler(&rustc) {
        println!("note    {said}");
    }
    for (name, verdict) in table.judge(&rustc, &counts) {
        tally.note(&name, verdict);
    }
    Ok(())
}
