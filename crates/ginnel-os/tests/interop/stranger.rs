//! The C program, compiled once for all tests of this process, and its runs.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// One kind of object of the C program.
#[derive(Clone)]
pub(crate) struct Stranger {
    program: &'static PathBuf,
    kind: &'static str,
    name: String,
}

impl Stranger {
    /// `None`, said, where there is no compiler.
    pub(crate) fn of(kind: &'static str, name: impl ToString) -> Option<Self> {
        static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
        let Some(program) = PROGRAM.get_or_init(compiled) else {
            println!("skipped: {kind}: cc is not there");
            return None;
        };
        Some(Self { program, kind, name: name.to_string() })
    }

    /// Runs to the end; what it printed.
    #[track_caller]
    pub(crate) fn does(&self, acts: &[&str]) -> String {
        let output = self.command(acts).stdin(Stdio::null()).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{} {acts:?}: {}: {out}{err}", self.kind, output.status);
        out.trim_end().to_owned()
    }

    pub(crate) fn starts(&self, acts: &[&str]) -> Running {
        Running(self.command(acts).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn command(&self, acts: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.args([self.kind, &self.name]).args(acts);
        command
    }
}

/// In the folder that cargo keeps for tests; of this name so that no other process writes it meanwhile.
fn compiled() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (made, program) = (folder.join(format!("objects-{}", std::process::id())), folder.join("objects"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/objects.c");
    let mut cc = Command::new("cc");
    let status = cc.args(["-Wall", "-Werror", "-pthread", "-o"]).arg(&made).args([source, "-lrt"]).status().ok()?;
    assert!(status.success(), "{source} does not compile");
    std::fs::rename(made, &program).unwrap();
    Some(program)
}

/// A run that goes on. Dropping it kills and reaps it.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// The next line that it prints, or "" at its end.
    pub(crate) fn says(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
