//! Runs of the tool, each with a time limit, each killed if the test ends before it does. Nothing else is ever killed.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// No run of a test takes so long unless it hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// A directory of links, and room for files.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

/// A run that has ended.
pub(crate) struct Done {
    /// Exit status, or 128 and the signal that ended it.
    pub(crate) status: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Done {
    pub(crate) fn out_text(&self) -> String {
        String::from_utf8(self.out.clone()).expect("the output is UTF-8")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        json_of(&self.out)
    }
}

pub(crate) fn json_of(out: &[u8]) -> serde_json::Value {
    assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 1, "one object a line");
    serde_json::from_slice(out).expect("the output is JSON")
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir_in("/dev/shm").expect("a directory on tmpfs") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn links(&self) -> PathBuf {
        self.path("links")
    }

    /// Names of what is in the directory of links.
    pub(crate) fn link_files(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.links()) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Lets others write to the directory of links.
    pub(crate) fn make_directory_unsafe(&self) {
        std::fs::create_dir(self.links()).unwrap();
        std::fs::set_permissions(self.links(), Permissions::from_mode(0o777)).unwrap();
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ginnel"));
        command.args(args).env("GINNEL_DIR", self.links()).env("TMPDIR", self.dir.path());
        command
    }

    /// Runs to the end with this input.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>, input: &[u8]) -> Done {
        let mut run = self.start(args);
        run.write(input);
        run.end()
    }

    /// Runs as a user who owns nothing; only root can do that. The links are those of nobody, so there are none.
    pub(crate) fn run_as_nobody<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Done {
        const NOBODY: u32 = 65534;
        let mut command = self.command(args);
        command.uid(NOBODY).gid(NOBODY).env("GINNEL_DIR", "/dev/shm/ginnel-of-nobody").current_dir("/");
        Run::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped())).end()
    }

    /// Starts a run whose input is written later.
    pub(crate) fn start<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        Run::spawn(self.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()))
    }

    /// Starts a shell script, in which `$GINNEL` is the tool.
    pub(crate) fn start_shell(&self, script: &str) -> Run {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("GINNEL", env!("CARGO_BIN_EXE_ginnel"));
        command.env("GINNEL_DIR", self.links()).current_dir(self.dir.path());
        Run::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))
    }

    /// Starts a run whose output goes to a file.
    pub(crate) fn start_into<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>, out: &Path) -> Run {
        let out = File::options().write(true).create(true).truncate(false).open(out).unwrap();
        Run::spawn(self.command(args).stdin(Stdio::null()).stdout(out))
    }

    /// Starts a run whose output is a pipe that nobody reads any more.
    pub(crate) fn start_closed<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(reader);
        Run::spawn(self.command(args).stdin(Stdio::null()).stdout(std::os::fd::OwnedFd::from(writer)))
    }

    /// Waits until the link looks so, as `info --json` shows it.
    pub(crate) fn wait_for(&self, address: &str, looks: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let end = Instant::now() + LIMIT;
        loop {
            let info = self.run(["info", "--json", address], b"");
            if info.status == 0 && looks(&info.json()) {
                return info.json();
            }
            assert!(Instant::now() < end, "{address} never looked so: {}{}", info.out_text(), info.err);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the link holds so many messages.
    pub(crate) fn wait_for_messages(&self, address: &str, messages: u64) {
        self.wait_for(address, |info| info["messages"] == messages);
    }

    /// Waits until so many live handles are open.
    pub(crate) fn wait_for_open(&self, address: &str, handles: usize) {
        self.wait_for(address, |info| {
            let participants = info["participants"].as_array().unwrap();
            participants.iter().filter(|participant| participant["alive"] == true).count() == handles
        });
    }
}

/// A run that goes on.
pub(crate) struct Run {
    child: Child,
    input: Option<ChildStdin>,
    out: Option<JoinHandle<Vec<u8>>>,
    err: Option<JoinHandle<Vec<u8>>>,
    started: Instant,
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

impl Run {
    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the tool starts");
        let input = child.stdin.take();
        let out = child.stdout.take().map(collect);
        let err = child.stderr.take().map(collect);
        Self { child, input, out, err, started: Instant::now() }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its input, which stays open. That it does not read to the end is no error.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let _ = self.input.as_mut().unwrap().write_all(bytes);
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Kills it as nothing can be caught.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.id())).status().unwrap();
        assert!(sent.success());
    }

    /// Closes its input.
    pub(crate) fn close(&mut self) {
        self.input = None;
    }

    /// Closes its input and waits for its end.
    pub(crate) fn end(mut self) -> Done {
        drop(self.input.take());
        self.end_by_itself()
    }

    /// Waits for its end though its input stays open.
    pub(crate) fn end_by_itself(mut self) -> Done {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(self.started.elapsed() < LIMIT, "it hangs");
            std::thread::sleep(Duration::from_millis(2));
        };
        let join = |thread: Option<JoinHandle<Vec<u8>>>| thread.map(|t| t.join().unwrap()).unwrap_or_default();
        Done {
            status: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            out: join(self.out.take()),
            err: String::from_utf8_lossy(&join(self.err.take())).into_owned(),
        }
    }

    /// Processor time so far.
    pub(crate) fn processor_time(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        let nanoseconds = tasks.map(|task| {
            let statistics = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap_or_default();
            statistics.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0)
        });
        Duration::from_nanos(nanoseconds.sum())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill(); // does nothing if it has ended
        let _ = self.child.wait();
    }
}

/// Waits until something is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes without any structure.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| byte()).collect()
}

/// The numbers from 1, a line each.
pub(crate) fn sequence(last: u64) -> Vec<u8> {
    (1..=last).map(|n| format!("{n}\n")).collect::<String>().into_bytes()
}
