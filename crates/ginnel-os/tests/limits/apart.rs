//! A test that runs in user, IPC and mount namespaces of its own: it starts itself again under `unshare(1)`. There it is root over the limits
//! but has none of root's exemptions from them, and whatever it leaves goes with the namespace. Skipped, with a message, where that is forbidden.

use std::fmt::Debug;
use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Set in the process inside.
const INSIDE: &str = "GINNEL_OS_LIMITS_INSIDE";

/// The status of a preparation that is not allowed.
const FORBIDDEN: i32 = 77;

/// Within this time a limit is told.
const TOLD: Duration = Duration::from_secs(1);

/// Runs `body` apart, after the shell commands of `prepare`. `test` is the caller's own name.
pub(crate) fn apart(test: &str, prepare: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let script = format!("{{ {prepare}\n}} || exit {FORBIDDEN}; exec \"$0\" \"$@\"");
    let mut command = Command::new("timeout");
    command.args(["30", "unshare", "--user", "--map-root-user", "--ipc", "--mount", "sh", "-c", &script]);
    command.arg(std::env::current_exe().expect("this program has a path"));
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(INSIDE, "1").stdin(Stdio::null());
    let Ok(output) = command.output() else { return skip(test, "there is no timeout(1)") };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match output.status.code() {
        Some(FORBIDDEN) => skip(test, err.trim()),
        Some(126 | 127) => skip(test, err.trim()),
        Some(1) if err.starts_with("unshare:") => skip(test, err.trim()),
        code => {
            out.lines().filter(|line| line.starts_with("limit: ")).for_each(|line| println!("{line}"));
            assert_eq!(code, Some(0), "{test} failed in its namespaces:\n{out}{err}");
            assert!(out.contains("1 passed"), "{test} is not the name of the test that runs it");
        }
    }
}

fn skip(test: &str, why: &str) {
    println!("skipped: {test}: {why}");
}

/// That a call fails, soon, with an error that says all of these.
#[track_caller]
pub(crate) fn told<T: Debug>(case: &str, call: impl FnOnce() -> io::Result<T>, words: &[&str]) -> io::Error {
    let start = Instant::now();
    let error = call().expect_err(case);
    assert!(start.elapsed() < TOLD, "{case}: told after {:?}", start.elapsed());
    let text = error.to_string();
    println!("limit: {case} -> {text}");
    for word in words {
        assert!(text.contains(word), "{case}: {word:?} is not in {text:?}");
    }
    error
}
