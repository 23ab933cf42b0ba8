//! A process that does what it is told, one order a line:
//!
//! | order | what |
//! |---|---|
//! | `dir PATH` | looks for links there from now on |
//! | `limit WHAT N` | `setrlimit(2)`: nofile, as, fsize, nproc; at most what is allowed |
//! | `idle` | runs only when no other process wants to |
//! | `become UID` | `setuid(2)`, and the group |
//! | `tmpfs PATH BYTES` | mounts one in a mount namespace of its own |
//! | `sender MODE ADDRESS`, `receiver MODE ADDRESS` | opens a handle: open, create, join |
//! | `send COUNT BYTES FIRST` | sends numbered messages |
//! | `flood BYTES` | sends until that fails |
//! | `fill BYTES` | the same, and says how many were sent, and why no more |
//! | `loan BYTES` | borrows a block and keeps it |
//! | `recv COUNT`, `hold COUNT` | receives; `hold` keeps the guards |
//! | `grab COUNT` | receives up to so many at once, and keeps them |
//! | `drain`, `sweep` | receives until the end, or what is there, and says how many |
//! | `close` | closes every handle |
//! | `fork` | leaves a child behind that lives until the orders end |
//! | `list`, `clean dry`, `clean real`, `info ADDRESS`, `unlink soft ADDRESS`, `unlink force ADDRESS` | from outside |
#![allow(unsafe_code)] // setrlimit, setuid, unshare, mount, fork: system calls with plain arguments.

use crate::child::say;
use crate::place::{number_in, stamped};
use ginnel::{Error, Info, Link, Mode, Receiver, RecvError, SendError, Sender};
use std::ffi::CString;
use std::io::BufRead;

#[derive(Default)]
struct Script {
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
}

/// A failure as its parent gets it.
struct Failure(String);

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self(format!("{:?}|{}|{}|{e}", e.kind(), e.object(), e.remedy_text()))
    }
}

impl From<SendError> for Failure {
    fn from(e: SendError) -> Self {
        Self(format!("{:?}|||{e}", e.reason()))
    }
}

impl From<RecvError> for Failure {
    fn from(e: RecvError) -> Self {
        Self(format!("{:?}|||{e}", e.reason()))
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Self(format!("io|||{e}"))
    }
}

/// The role: says `ok ready`, then obeys until the orders end.
pub(crate) fn run() {
    let mut script = Script::default();
    say("ok ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("orders");
        match script.obey(&line.split(' ').collect::<Vec<_>>()) {
            Ok(text) => say(&format!("ok {text}")),
            Err(Failure(text)) => say(&format!("err {text}")),
        }
    }
}

fn parse<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}

impl Script {
    fn obey(&mut self, order: &[&str]) -> Result<String, Failure> {
        match order {
            ["dir", path] => set_directory(path),
            ["limit", what, value] => limit(what, parse(value))?,
            ["idle"] => become_idle()?,
            ["become", user] => become_user(parse(user))?,
            ["tmpfs", path, bytes] => mount_tmpfs(path, parse(bytes))?,
            ["sender", mode, address] => self.senders.push(link(mode, address)?.sender()?),
            ["receiver", mode, address] => self.receivers.push(link(mode, address)?.receiver()?),
            ["send", count, bytes, first] => self.send(parse(count), parse(bytes), parse(first))?,
            ["flood", bytes] => self.flood(parse(bytes))?,
            ["fill", bytes] => return Ok(self.fill(parse(bytes))),
            ["loan", bytes] => std::mem::forget(self.sender().loan(parse(bytes))?), // given back when its sender closes
            ["recv", count] => return self.recv(parse(count), false),
            ["hold", count] => return self.recv(parse(count), true),
            ["grab", count] => return self.grab(parse(count)),
            ["drain"] => return Ok(self.drain()),
            ["sweep"] => return Ok(self.sweep()),
            ["close"] => *self = Self::default(),
            ["fork"] => leave_a_child(),
            ["list"] => return list(),
            ["clean", how] => return clean(*how == "dry"),
            ["info", address] => return Ok(told(&Link::new(address)?.info()?)),
            ["unlink", how, address] => Link::new(address)?.unlink(*how == "force")?,
            _ => panic!("no such order: {order:?}"),
        }
        Ok(String::new())
    }

    fn sender(&self) -> &Sender {
        self.senders.last().expect("an open sender")
    }

    fn receiver(&self) -> &Receiver {
        self.receivers.last().expect("an open receiver")
    }

    fn send(&self, count: u64, bytes: usize, first: u64) -> Result<(), Failure> {
        for number in first..first + count {
            self.sender().send(&stamped(number, bytes))?;
        }
        Ok(())
    }

    fn flood(&self, bytes: usize) -> Result<(), Failure> {
        for number in 0.. {
            self.sender().send(&stamped(number, bytes))?;
        }
        Ok(())
    }

    fn fill(&self, bytes: usize) -> String {
        let sent = (0..).find_map(|number| self.sender().send(&stamped(number, bytes)).err().map(|why| (number, why)));
        sent.map_or_else(String::new, |(count, why)| format!("{count} {why}"))
    }

    /// Numbers of the messages; an `r` after those that were delivered before.
    fn recv(&self, count: usize, hold: bool) -> Result<String, Failure> {
        let mut numbers = Vec::new();
        for _ in 0..count {
            let message = self.receiver().recv()?;
            numbers.push(format!("{}{}", number_in(&message), if message.redelivered() { "r" } else { "" }));
            if hold {
                std::mem::forget(message); // as good as held: it goes back when the handle is gone
            }
        }
        Ok(numbers.join(","))
    }

    fn grab(&self, count: usize) -> Result<String, Failure> {
        let batch = self.receiver().recv_many(count)?;
        let numbers: Vec<String> = batch.iter().map(|m| number_in(&m).to_string()).collect();
        std::mem::forget(batch); // as in `recv`
        Ok(numbers.join(","))
    }

    fn sweep(&self) -> String {
        let mut count = 0;
        for message in self.receiver().try_iter() {
            number_in(&message);
            count += 1;
        }
        count.to_string()
    }

    fn drain(&self) -> String {
        let mut count = 0;
        loop {
            match self.receiver().recv() {
                Ok(message) => {
                    number_in(&message);
                    count += 1;
                }
                Err(end) => return format!("{count} {:?}", end.reason()),
            }
        }
    }
}

fn link(mode: &str, address: &str) -> Result<Link, Error> {
    let mode = match mode {
        "create" => Mode::Create,
        "join" => Mode::Join,
        _ => Mode::Open,
    };
    Ok(Link::new(address)?.mode(mode))
}

fn list() -> Result<String, Failure> {
    let told_or_refused =
        |one: Result<Info, Error>| one.map_or_else(|e| format!("{:?}:{}", e.kind(), e.object()), |info| told(&info));
    Ok(ginnel::list()?.into_iter().map(told_or_refused).collect::<Vec<_>>().join(";"))
}

/// One link: address, liveness, messages, then its participants, each with `+` if it lives and `-` if not.
fn told(info: &Info) -> String {
    let sign = |alive: bool| if alive { '+' } else { '-' };
    let people: String = info.participants.iter().map(|p| format!(" {:?}{}", p.role, sign(p.alive))).collect();
    format!("{} {:?} {}{people}", info.address, info.liveness, info.messages)
}

fn clean(dry_run: bool) -> Result<String, Failure> {
    let told = |one: Result<ginnel::Cleaned, Error>| match one {
        Ok(cleaned) => format!("{} dead={} removed={}", cleaned.address, cleaned.dead, cleaned.removed),
        Err(e) => format!("{:?}:{}", e.kind(), e.object()),
    };
    Ok(ginnel::clean(dry_run)?.into_iter().map(told).collect::<Vec<_>>().join(";"))
}

fn checked(result: libc::c_int) -> std::io::Result<()> {
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn set_directory(path: &str) {
    // SAFETY: this program reads its environment only through std, which locks it.
    unsafe { std::env::set_var(ginnel::DIRECTORY_VARIABLE, path) };
}

pub(crate) fn limit(what: &str, value: u64) -> std::io::Result<()> {
    let resource = match what {
        "nofile" => libc::RLIMIT_NOFILE,
        "as" => libc::RLIMIT_AS,
        "fsize" => libc::RLIMIT_FSIZE,
        "nproc" => libc::RLIMIT_NPROC,
        _ => panic!("no such limit: {what}"),
    };
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills in a struct that lives during the call.
    checked(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    limit.rlim_cur = value.min(limit.rlim_max);
    // SAFETY: reads a struct that lives during the call.
    checked(unsafe { libc::setrlimit(resource, &raw const limit) })
}

pub(crate) fn become_user(user: u32) -> std::io::Result<()> {
    // SAFETY: takes an integer.
    checked(unsafe { libc::setgid(user) })?;
    // SAFETY: takes an integer.
    checked(unsafe { libc::setuid(user) })
}

fn become_idle() -> std::io::Result<()> {
    let none = libc::sched_param { sched_priority: 0 };
    let main = std::process::id() as libc::pid_t;
    for thread in [0, main] {
        // SAFETY: reads a struct that lives during the call.
        checked(unsafe { libc::sched_setscheduler(thread, libc::SCHED_IDLE, &raw const none) })?;
    }
    Ok(())
}

fn mount_tmpfs(path: &str, bytes: u64) -> std::io::Result<()> {
    // SAFETY: takes an integer.
    checked(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let mount = |source: &str, to: &str, kind: &str, flags, data: &str| {
        let [source, to, kind, data] = [source, to, kind, data].map(|text| CString::new(text).expect("no NUL"));
        // SAFETY: four strings that live during the call.
        checked(unsafe { libc::mount(source.as_ptr(), to.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) })
    };
    mount("none", "/", "", libc::MS_REC | libc::MS_PRIVATE, "")?; // so that the host does not see the next one
    mount("tmpfs", path, "tmpfs", 0, &format!("size={bytes},mode=0700"))
}

fn leave_a_child() {
    // SAFETY: the child makes system calls only.
    if unsafe { libc::fork() } == 0 {
        linger();
    }
}

/// Until the writing end of the standard input is closed.
pub(crate) fn linger() -> ! {
    let mut input = libc::pollfd { fd: 0, events: 0, revents: 0 };
    while input.revents & libc::POLLHUP == 0 {
        // SAFETY: one pollfd that lives during the call.
        unsafe { libc::poll(&raw mut input, 1, -1) };
    }
    // SAFETY: leaves without destructors.
    unsafe { libc::_exit(0) }
}
