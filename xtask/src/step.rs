//! Steps: child commands with a hard limit on their wall-clock time.
//!
//! A hang must end as a failure with a message, and nothing that a step started may outlive it. So each step runs in a
//! process group of its own, led by a *reaper*: a shell that waits on a pipe which we hold, and kills its group when that pipe
//! closes. It closes when the limit is reached, when the step is done, and when this process itself is interrupted or killed.
//! While the reaper lives the group's number cannot be reused, so only what the step started is ever hit. A process that
//! leaves the group of its own accord (`setsid`) escapes.
//!
//! ```text
//! xtask --pipe--> reaper (sh)      one process group
//!   `-- waits -->  cargo -- test binary -- ...
//! ```

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::Outcome;

/// The longest that a step may take unless the caller says otherwise, its build included.
pub(crate) const DEFAULT_LIMIT: Duration = Duration::from_secs(20 * 60);

/// How long to wait for the rest of a step's output after its group is gone: a process that escaped may hold the pipe.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// One command that must succeed.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) command: Command,
    /// Read the test runner's closing lines, and fail when no test ran: a suite that is configured away is not a success.
    pub(crate) counts_tests: bool,
    /// Of these files one must exist, or the step fails before it starts. Empty: nothing is needed.
    pub(crate) needs_one_of: Vec<PathBuf>,
    /// Why this machine cannot run it, if so: it is then neither passed nor failed, and says so.
    pub(crate) skipped: Option<String>,
}

/// What a step came to.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) name: &'static str,
    pub(crate) took: Duration,
    pub(crate) tests_passed: Option<u64>,
    /// Why it failed; `None` when it passed, or was skipped.
    pub(crate) failure: Option<String>,
    /// Why it was not run.
    pub(crate) skipped: Option<String>,
    /// Of a step that failed: the tests that failed, and the last lines that it printed.
    pub(crate) last_words: Vec<String>,
}

impl Step {
    /// A step that runs `cargo` with `arguments` in `root`.
    pub(crate) fn cargo(name: &'static str, root: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(arguments).current_dir(root);
        Self { name, command, counts_tests: false, needs_one_of: Vec::new(), skipped: None }
    }

    /// Runs the step to its end or to `limit`, whichever comes first.
    pub(crate) fn run(mut self, limit: Duration) -> Report {
        eprintln!("\n== {}: {}", self.name, shown(&self.command));
        let start = Instant::now();
        let said = Arc::new(Mutex::new(Said::default()));
        if self.skipped.is_some() {
            let Self { name, skipped, .. } = self;
            let took = start.elapsed();
            let report = Report { name, took, tests_passed: None, failure: None, skipped, last_words: Vec::new() };
            eprintln!("== {report}");
            return report;
        }
        let failure = self.judge(limit, &said).unwrap_or_else(|error| Some(format!("{error:#}")));
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        let tests_passed = self.counts_tests.then_some(said.passed);
        let last_words = if failure.is_some() { said.last_words() } else { Vec::new() };
        let report =
            Report { name: self.name, took: start.elapsed(), tests_passed, failure, skipped: None, last_words };
        eprintln!("== {report}");
        report
    }

    /// Why the step failed, or `None`.
    fn judge(&mut self, limit: Duration, said: &Arc<Mutex<Said>>) -> Result<Option<String>> {
        if !self.needs_one_of.is_empty() && !self.needs_one_of.iter().any(|file| file.is_file()) {
            return Ok(Some(format!("{} is missing", self.needs_one_of[0].display())));
        }
        let ended = self.execute(limit, said)?;
        let no_test = self.counts_tests && said.lock().unwrap_or_else(PoisonError::into_inner).passed == 0;
        Ok(match ended {
            None => Some(format!("killed at the limit of {} s: it hangs or is too slow", limit.as_secs())),
            Some(status) if !status.success() => Some(status.to_string()),
            Some(_) if no_test => Some("no test ran: is the suite configured away?".to_owned()),
            Some(_) => None,
        })
    }

    /// The exit status, or `None` at the limit.
    fn execute(&mut self, limit: Duration, said: &Arc<Mutex<Said>>) -> Result<Option<ExitStatus>> {
        let group = Group::start().context("cannot start `sh`, which guards the step")?;
        self.command.process_group(group.id()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().context("cannot start the command")?;
        let (heard, ends) = mpsc::channel();
        // The tests of this file fake the closing lines of a test runner; an outer run must not count those.
        let sink = cfg!(test);
        if let Some(output) = child.stdout.take() {
            let ours: Box<dyn Write + Send> =
                if sink { Box::new(std::io::sink()) } else { Box::new(std::io::stdout()) };
            forward(output, ours, Arc::clone(said), heard.clone());
        }
        if let Some(output) = child.stderr.take() {
            let ours: Box<dyn Write + Send> =
                if sink { Box::new(std::io::sink()) } else { Box::new(std::io::stderr()) };
            forward(output, ours, Arc::clone(said), heard);
        }

        let status = wait(child, limit)?;
        group.end();
        let until = Instant::now() + LAST_WORDS;
        // An error is the time's end, or that of both outputs.
        while ends.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok() {}
        Ok(status)
    }
}

/// The exit status, or `None` at the limit.
fn wait(mut child: Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let (done, ended) = mpsc::channel();
    thread::spawn(move || done.send(child.wait()));
    match ended.recv_timeout(limit) {
        Ok(status) => Ok(Some(status.context("cannot wait for the command")?)),
        Err(_) => Ok(None),
    }
}

/// A process group that dies with the pipe to its leader's standard input.
pub(crate) struct Group {
    reaper: Child,
}

impl Group {
    pub(crate) fn start() -> std::io::Result<Self> {
        let reaper = Command::new("sh")
            .args(["-c", "read -r never; kill -s KILL 0"])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { reaper })
    }

    fn id(&self) -> i32 {
        i32::try_from(self.reaper.id()).expect("a process id of Linux fits an i32")
    }

    /// Starts a command in the group, and waits for its end for so long.
    pub(crate) fn run(&self, command: &mut Command, limit: Duration) -> Result<Option<ExitStatus>> {
        let child = command.process_group(self.id()).spawn().context("cannot start the command")?;
        wait(child, limit)
    }

    /// Kills whatever is left of the group, and waits until its leader is gone.
    pub(crate) fn end(mut self) {
        // `wait` closes the pipe first. How the leader died is of no interest.
        let _ = self.reaper.wait();
    }
}

/// Copies an output to ours as it comes, and notes what it says; tells `heard` of its end.
fn forward(
    mut output: impl Read + Send + 'static,
    mut ours: Box<dyn Write + Send>,
    said: Arc<Mutex<Said>>,
    heard: mpsc::Sender<()>,
) {
    thread::spawn(move || {
        let mut line = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = output.read(&mut buffer) {
            // Nobody may be reading us any more; the tests are still worth running.
            let _ = ours.write_all(&buffer[..length]).and_then(|()| ours.flush());
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            for &byte in &buffer[..length] {
                if byte == b'\n' {
                    said.line(&String::from_utf8_lossy(&line));
                    line.clear();
                } else {
                    line.push(byte);
                }
            }
        }
        heard.send(())
    });
}

/// What a step said on both its outputs, as far as it is of use afterwards.
#[derive(Default)]
struct Said {
    /// How many tests passed, by the closing lines of their runners.
    passed: u64,
    failed: Vec<String>,
    last: VecDeque<String>,
}

impl Said {
    /// So many failed tests and last lines are kept: a log may be read through a window of a few thousand characters.
    const KEPT: usize = 24;

    fn line(&mut self, line: &str) {
        self.passed += passed_in(line).unwrap_or(0);
        if line.starts_with("test ") && line.ends_with("FAILED") && self.failed.len() < Self::KEPT {
            self.failed.push(line.to_owned());
        }
        if self.last.len() == Self::KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
    }

    fn last_words(&mut self) -> Vec<String> {
        self.failed.drain(..).chain(self.last.drain(..)).collect()
    }
}

/// `test result: ok. 12 passed; 0 failed; ...` says 12, and so does the plain `12 passed, 0 failed` of a harness of our own.
fn passed_in(line: &str) -> Option<u64> {
    if let Some(result) = line.strip_prefix("test result: ") {
        return result.split_once(". ")?.1.split_once(" passed;")?.0.parse().ok();
    }
    let (passed, failed) = line.trim_end().split_once(" passed, ")?;
    failed.strip_suffix(" failed")?.parse::<u64>().ok()?;
    passed.parse().ok()
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(why) = &self.skipped {
            return write!(f, "{:12} SKIPPED: {why}", self.name);
        }
        let verdict = if self.failure.is_none() { "passed" } else { "FAILED" };
        write!(f, "{:12} {verdict} in {:.1} s", self.name, self.took.as_secs_f64())?;
        if let Some(tests) = self.tests_passed {
            write!(f, ", {tests} tests passed")?;
        }
        match &self.failure {
            Some(why) => write!(f, ": {why}"),
            None => Ok(()),
        }
    }
}

/// Prints the table of all steps; failed when one failed.
pub(crate) fn summarise(reports: &[Report]) -> Outcome {
    eprintln!("\n== summary");
    for report in reports {
        eprintln!("   {report}");
    }
    for report in reports.iter().filter(|report| !report.last_words.is_empty()) {
        eprintln!("\n== {}: what failed, and its last lines", report.name);
        for line in &report.last_words {
            eprintln!("   {line}");
        }
    }
    let skipped = reports.iter().filter(|report| report.skipped.is_some()).count();
    if skipped > 0 {
        eprintln!("   {skipped} of {} steps were skipped, and show nothing", reports.len());
    }
    if reports.iter().any(|report| report.failure.is_some()) { Outcome::Failed } else { Outcome::Passed }
}

/// Takes `--limit SECONDS` out of `arguments`; gives the limit and the rest, or what is wrong.
pub(crate) fn limit_of(arguments: &[String]) -> Result<(Duration, Vec<&str>), String> {
    limit_or(DEFAULT_LIMIT, arguments)
}

/// The same with another limit where none is said.
pub(crate) fn limit_or(mut limit: Duration, arguments: &[String]) -> Result<(Duration, Vec<&str>), String> {
    let mut rest = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--limit" {
            let seconds = arguments.next().and_then(|text| text.parse().ok()).filter(|&seconds| seconds > 0);
            limit = Duration::from_secs(seconds.ok_or("--limit needs a number of seconds above 0")?);
        } else {
            rest.push(argument.as_str());
        }
    }
    Ok((limit, rest))
}

/// Those of the steps that are named, in their own order; all if none is. Or what is wrong.
pub(crate) fn choose(mut steps: Vec<Step>, names: &[&str]) -> Result<Vec<Step>, String> {
    let known: Vec<_> = steps.iter().map(|step| step.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        return Err(format!("there is no step `{unknown}`; the steps are {}", known.join(", ")));
    }
    steps.retain(|step| names.is_empty() || names.contains(&step.name));
    Ok(steps)
}

/// The command as one could type it, with the variables that were set for it.
fn shown(command: &Command) -> String {
    let mut words = Vec::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!("{}={value:?}", name.to_string_lossy()));
        }
    }
    let program = Path::new(command.get_program());
    words.push(program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned());
    words.extend(command.get_args().map(|argument| argument.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Step {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Step { name: "shell", command, counts_tests: false, needs_one_of: Vec::new(), skipped: None }
    }

    #[test]
    fn the_status_of_the_command_decides() {
        assert!(shell("exit 0").run(DEFAULT_LIMIT).failure.is_none());
        assert_eq!(shell("exit 7").run(DEFAULT_LIMIT).failure.unwrap(), "exit status: 7");
    }

    #[test]
    fn a_hang_is_killed_with_its_children_and_reported() {
        // The grandchild holds the output open: were it alive, the count of tests would never come.
        let mut step = shell("sleep 600 & sleep 600");
        step.counts_tests = true;
        let report = step.run(Duration::from_millis(200));
        assert!(report.failure.unwrap().contains("killed at the limit"));
        assert!(report.took < LAST_WORDS, "a grandchild outlived the step");
    }

    #[test]
    fn what_a_step_leaves_behind_is_killed() {
        let mut step = shell("sleep 600 & echo 'test result: ok. 1 passed; 0 failed'");
        step.counts_tests = true;
        let report = step.run(DEFAULT_LIMIT);
        assert_eq!((report.tests_passed, report.failure), (Some(1), None));
        assert!(report.took < LAST_WORDS, "a process outlived its step");
    }

    #[test]
    fn a_suite_without_tests_fails() {
        let mut step = shell("echo 'test result: ok. 0 passed; 0 failed'");
        step.counts_tests = true;
        assert!(step.run(DEFAULT_LIMIT).failure.unwrap().contains("no test ran"));
    }

    #[test]
    fn a_missing_test_target_fails_before_it_starts() {
        let mut step = shell("exit 0");
        step.needs_one_of = vec!["/nonexistent/tests/loom.rs".into()];
        assert!(step.run(DEFAULT_LIMIT).failure.unwrap().contains("loom.rs is missing"));
    }

    #[test]
    fn passed_tests_are_summed_over_binaries_and_reads() {
        let mut step = shell(
            "printf 'test a ... ok\\ntest result: ok. 3 pas'; sleep 0.1; echo 'sed; 0 failed'; echo 'test result: FAILED. 4 passed; 1 failed'",
        );
        step.counts_tests = true;
        assert_eq!(step.run(DEFAULT_LIMIT).tests_passed, Some(7));
    }

    #[test]
    fn a_failed_step_names_its_failed_tests_and_gives_its_last_words() {
        let report = shell("echo 'test a ... FAILED'; seq 100; echo 'signal: 11' >&2; exit 101").run(DEFAULT_LIMIT);
        assert_eq!(report.last_words[0], "test a ... FAILED");
        assert_eq!(report.last_words.len(), 1 + Said::KEPT);
        assert!(report.last_words.iter().any(|line| line == "signal: 11"), "{:?}", report.last_words);
        assert!(shell("seq 3").run(DEFAULT_LIMIT).last_words.is_empty());
    }

    #[test]
    fn a_skipped_step_does_not_run_and_says_why() {
        let mut step = shell("exit 1");
        step.skipped = Some("no such tool here".to_owned());
        let report = step.run(DEFAULT_LIMIT);
        assert_eq!((&report.failure, &report.tests_passed), (&None, &None));
        assert!(report.to_string().contains("SKIPPED: no such tool here") && !report.to_string().contains("passed"));
        assert_eq!(summarise(&[report]), Outcome::Passed);
    }

    #[test]
    fn the_limit_is_taken_out_of_the_arguments() {
        let arguments = ["loom", "--limit", "5"].map(String::from);
        assert_eq!(limit_of(&arguments), Ok((Duration::from_secs(5), vec!["loom"])));
        assert!(limit_of(&["--limit".into(), "soon".into()]).is_err());
    }
}
