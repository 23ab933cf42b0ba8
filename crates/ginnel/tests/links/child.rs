//! Another process of this test binary: it runs the one test below, in a role, talks over its standard streams, and can be
//! killed. Orders go in line by line; replies are lines that begin with a mark, as libtest writes there too.
#![allow(unsafe_code)] // prctl(2) and dup2(2) with integers.

use crate::mechanisms::porter;
use crate::{
    call, corrupt, death, fork, futures, history, kinds, latest, lifetime, mail, polled, scarce, script, several,
    stream, time,
};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const ROLE: &str = "GINNEL_TEST_ROLE";
const MARK: &str = "@@ ";
const PATIENCE: Duration = Duration::from_secs(20);

/// A child process. Dropping it kills and reaps it.
pub(crate) struct Child {
    process: std::process::Child,
    orders: Option<ChildStdin>,
    replies: mpsc::Receiver<String>,
    role: String,
}

impl Child {
    /// Starts a role with its links in this directory.
    pub(crate) fn start(role: &str, directory: &Path) -> Self {
        Self::start_with(role, directory, None)
    }

    /// The same, with a descriptor of this process under another number.
    pub(crate) fn start_with(role: &str, directory: &Path, descriptor: Option<(i32, i32)>) -> Self {
        Self::spawn(Self::command(role), role, directory, descriptor)
    }

    /// The same, in which every thread blocks a signal.
    pub(crate) fn start_blocking(role: &str, directory: &Path, signal: i32) -> Self {
        let mut command = Self::command(role);
        let block = move || {
            // SAFETY: an all-zero set is an empty one.
            let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
            // SAFETY: changes a set that lives during the call.
            unsafe { libc::sigaddset(&raw mut set, signal) };
            // SAFETY: reads a set that lives during the call; what it sets, exec keeps, and every thread inherits.
            unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
            Ok(())
        };
        // SAFETY: the closure makes system calls only.
        unsafe { command.pre_exec(block) };
        Self::spawn(command, role, directory, None)
    }

    /// The same, in a user namespace of its own, after shell commands there. Without it, as a sandbox may forbid, it never replies.
    pub(crate) fn start_apart(role: &str, directory: &Path, prepare: &str) -> Self {
        let inside = Self::command(role);
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c", &format!("{prepare} && exec \"$0\" \"$@\"")]);
        command.arg(inside.get_program()).args(inside.get_args());
        command.envs(inside.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self::spawn(command, role, directory, None)
    }

    fn spawn(mut command: Command, role: &str, directory: &Path, descriptor: Option<(i32, i32)>) -> Self {
        if let Some((here, there)) = descriptor {
            let inherit = move || {
                // SAFETY: makes one system call, on integers; nothing in the child has the new number yet.
                let copied = unsafe { libc::dup2(here, there) };
                if copied == -1 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
            };
            // SAFETY: the closure makes one system call, which is allowed between fork and exec.
            unsafe { command.pre_exec(inherit) };
        }
        let mut process = command
            .env(ginnel::DIRECTORY_VARIABLE, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child process");
        let orders = process.stdin.take();
        let output = BufReader::new(process.stdout.take().expect("a piped output"));
        let (send, replies) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some((_, reply)) = line.split_once(MARK) {
                    let _ = send.send(reply.to_owned());
                }
            }
        });
        Self { process, orders, replies, role: role.to_owned() }
    }

    /// This binary in a role.
    pub(crate) fn command(role: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("the path of this binary"));
        command.args(["--exact", "child::child_role", "--nocapture", "--test-threads=1"]).env(ROLE, role);
        command
    }

    /// Gives an order, without waiting for the reply.
    pub(crate) fn tell(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("orders are still taken");
        writeln!(orders, "{order}").expect("a child that takes orders");
    }

    /// The next reply.
    pub(crate) fn reply(&mut self) -> Reply {
        self.reply_within(PATIENCE)
    }

    /// The next reply, for those that take their time.
    pub(crate) fn reply_within(&mut self, limit: Duration) -> Reply {
        match self.replies.recv_timeout(limit) {
            Ok(reply) => Reply(reply),
            Err(e) => panic!("no reply from {}: {e}", self.role),
        }
    }

    /// The next reply, or `None` if the child has ended.
    pub(crate) fn try_reply(&mut self, limit: Duration) -> Option<Reply> {
        self.replies.recv_timeout(limit).ok().map(Reply)
    }

    /// Gives an order and waits for its reply.
    pub(crate) fn ask(&mut self, order: &str) -> Reply {
        self.tell(order);
        self.reply()
    }

    /// Gives an order that must work, and returns what it says.
    pub(crate) fn must(&mut self, order: &str) -> String {
        self.ask(order).ok()
    }

    /// SIGKILL. The child stays a zombie until it is reaped.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("a child that can be killed");
    }

    /// Waits for its end.
    pub(crate) fn reap(&mut self) -> ExitStatus {
        self.process.wait().expect("a child that can be reaped")
    }

    /// SIGKILL, and waits for its end.
    pub(crate) fn kill_and_reap(&mut self) {
        self.kill();
        self.reap();
    }

    /// Takes no more orders, and waits until the role has ended well.
    pub(crate) fn finish(mut self) {
        drop(self.orders.take());
        let status = self.reap();
        assert!(status.success(), "{} ended with {status}", self.role);
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits until it is dead; it is not reaped.
    pub(crate) fn becomes_zombie(&self) -> bool {
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let is_zombie = || stat().rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'));
        (0..2000).any(|_| {
            is_zombie() || {
                std::thread::sleep(Duration::from_millis(1));
                false
            }
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a child says: `ok TEXT`, or `err KIND|OBJECT|REMEDY|TEXT`.
#[derive(Debug)]
pub(crate) struct Reply(String);

impl Reply {
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// The text of a good reply.
    #[track_caller]
    pub(crate) fn ok(&self) -> String {
        match self.0.strip_prefix("ok") {
            Some(text) => text.trim().to_owned(),
            None => panic!("a child failed: {}", self.0),
        }
    }

    /// The fields of a bad reply: kind, object, remedy, text.
    #[track_caller]
    pub(crate) fn err(&self) -> [String; 4] {
        let fields = self.0.strip_prefix("err ").unwrap_or_else(|| panic!("this should have failed: {}", self.0));
        let mut parts = fields.splitn(4, '|').map(str::to_owned);
        std::array::from_fn(|_| parts.next().unwrap_or_default())
    }
}

/// In a child: says something to its parent.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let line = text.replace('\n', " ");
    writeln!(out, "{MARK}{line}").and_then(|()| out.flush()).expect("a parent that listens");
}

/// Not a test: what a child process runs. Alone it returns at once.
#[test]
fn child_role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    // SAFETY: asks the kernel to end this process with its parent; takes integers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let (role, rest) = role.split_once(' ').unwrap_or((&role, ""));
    match role {
        "script" => script::run(),
        "porter" => porter::run(),
        "call" => call::run(),
        "mail" => mail::run(),
        "nested" => death::nested(rest),
        "reuser" => death::reuser(rest),
        "forker" => death::forker(rest),
        "storm" => time::storm(),
        "racer" => lifetime::racer(rest),
        "cleaner" => lifetime::cleaner(rest),
        "fork" => fork::role(rest),
        "crowd" => futures::crowd(rest),
        "history" => history::role(rest),
        "idle" => futures::idle(),
        "quiet" => several::quiet(),
        "kinds" => kinds::role(rest),
        "latest" => latest::role(rest),
        "scribbler" => corrupt::scribbler(rest),
        "stream" => stream::role(rest),
        "stream-test" => stream::test_role(rest),
        "polled-test" => polled::test_role(),
        "http" => polled::client(rest),
        "scarce" => scarce::role(rest),
        "wrong-length" => corrupt::wrong_length(),
        _ => panic!("no such role: {role}"),
    }
}
