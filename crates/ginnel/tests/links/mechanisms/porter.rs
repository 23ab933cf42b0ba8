//! A process that carries messages over any mechanism, one order a line:
//!
//! | order | what |
//! |---|---|
//! | `sender ADDRESS`, `receiver ADDRESS` | opens a handle |
//! | `send WHO COUNT MOST` | sends numbered messages of random length up to MOST |
//! | `exact WHO COUNT LEN` | sends numbered messages of one length |
//! | `bulk WHO BYTES MOST` | sends numbered messages of random length until they are so many bytes; says as `drain` does |
//! | `flood WHO LEN` | sends until it is killed; says `ok begun` first |
//! | `text` | receives a message and says it |
//! | `keep` | receives a message and does not let go of it |
//! | `recv COUNT`, `drain` | receives so many, or until the end, and says what came |
//! | `sweep` | as `drain`, of a link that others drain too; says how many came |
//! | `early MS` | waits so long, and says how long that was |
//! | `idle` | whether a wait of 0.3 s for a message that does not come costs next to nothing |
//! | `try MS` | waits so long for a message that does not come |
//! | `wait` | says `ok begun`, then waits for a message, and says what came of it |
//! | `storm` | from now on a signal comes each millisecond, and interrupts system calls |
//! | `signals` | how many came |
//! | `fork` | uses and drops the handles in a forked child |
//! | `hold` | leaves a forked child behind that has copies of all descriptors until the orders end |
//! | `no-more`, `more` | no more descriptors than it has; many more |
//! | `descriptors` | how many this process has |
//! | `shut N` | closes a descriptor |
//! | `clean`, `clean-dry` | what crashes left is collected, or would be; says what was done |
//! | `keep-clean MS` | does so again and again, for so long; says how often something was collected |
//! | `churn ADDRESS COUNT` | opens both ends, one message goes through, closes them, so often |
//! | `many ADDRESS COUNT` | so many receivers wait on one link, and hear of its end; says how many instances of inotify they have |
//! | `close` | closes the handles |
#![allow(unsafe_code)] // A timer and its handler, fork, setrlimit: system calls with plain arguments.

use super::freight::{Ledger, Random, message};
use crate::child::say;
use crate::script::linger;
use ginnel::{Receiver, RecvFailure, SendFailure, Sender};
use std::error::Error;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Porter {
    sender: Option<Sender>,
    receiver: Option<Receiver>,
}

/// The role: says `ok ready`, then obeys until the orders end.
pub(crate) fn run() {
    let mut porter = Porter::default();
    say("ok ready");
    for line in std::io::stdin().lines() {
        let line = line.expect("orders");
        match porter.obey(&line.split(' ').collect::<Vec<_>>()) {
            Ok(text) => say(&format!("ok {text}")),
            Err(e) => say(&format!("err {e}")),
        }
    }
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}

impl Porter {
    fn obey(&mut self, order: &[&str]) -> Result<String, Box<dyn Error>> {
        match *order {
            ["sender", address] => self.sender = Some(Sender::open(address)?),
            ["receiver", address] => self.receiver = Some(Receiver::open(address)?),
            ["send", who, count, most] => self.send(number(who), number(count), number(most))?,
            ["exact", who, count, len] => self.exact(number(who), number(count), number(len))?,
            ["flood", who, len] => self.flood(number(who), number(len))?,
            ["text"] => return Ok(String::from_utf8_lossy(&self.receiver().recv()?).into_owned()),
            ["keep"] => std::mem::forget(self.receiver().recv()?),
            ["recv", count] => return self.recv(number(count)),
            ["drain"] => return Ok(self.drain(Ledger::default())?.to_string()),
            ["sweep"] => return Ok(self.drain(Ledger::shared())?.entries().to_string()),
            ["bulk", who, bytes, most] => return self.bulk(number(who), number(bytes), number(most)),
            ["early", ms] => return Ok(self.early(Duration::from_millis(number(ms)))),
            ["signals"] => return Ok(SIGNALS.load(SeqCst).to_string()),
            ["idle"] => return Ok(self.is_idle().to_string()),
            ["try", ms] => _ = self.receiver().recv_timeout(Duration::from_millis(number(ms))),
            ["wait"] => return Ok(self.wait()),
            ["storm"] => storm(),
            ["fork"] => return Ok(self.fork()),
            ["hold"] => leave_a_child(),
            ["no-more"] => limit(lowest_free()? as u64),
            ["more"] => limit(1000),
            ["descriptors"] => return Ok(std::fs::read_dir("/proc/self/fd")?.count().to_string()),
            ["shut", descriptor] => shut(number(descriptor)),
            ["clean"] => return clean(false),
            ["clean-dry"] => return clean(true),
            ["keep-clean", ms] => return keep_clean(Duration::from_millis(number(ms))),
            ["churn", address, count] => churn(address, number(count))?,
            ["many", address, count] => return many(address, number(count)),
            ["close"] => *self = Self::default(),
            _ => panic!("no such order: {order:?}"),
        }
        Ok(String::new())
    }

    fn sender(&self) -> &Sender {
        self.sender.as_ref().expect("an open sender")
    }

    fn receiver(&self) -> &Receiver {
        self.receiver.as_ref().expect("an open receiver")
    }

    fn send(&self, who: u32, count: u32, most: usize) -> Result<(), Box<dyn Error>> {
        let mut random = Random::new(u64::from(who));
        for index in 0..count {
            self.sender().send(&message(who, index, random.len(most)))?;
        }
        Ok(())
    }

    fn exact(&self, who: u32, count: u32, len: usize) -> Result<(), Box<dyn Error>> {
        for index in 0..count {
            self.sender().send(&message(who, index, len))?;
        }
        Ok(())
    }

    fn bulk(&self, who: u32, bytes: u64, most: usize) -> Result<String, Box<dyn Error>> {
        let (mut random, mut sent, mut count) = (Random::new(u64::from(who)), 0, 0);
        while sent < bytes {
            let next = message(who, count, random.len(most));
            self.sender().send(&next)?;
            sent += next.len() as u64;
            count += 1;
        }
        Ok(format!("{who}:{count}"))
    }

    /// Milliseconds that a wait took for which nothing came.
    fn early(&self, wait: Duration) -> String {
        let begin = Instant::now();
        let reason = self.receiver().recv_timeout(wait).map(|_| ()).unwrap_err().reason();
        assert_eq!(reason, RecvFailure::TimedOut);
        begin.elapsed().as_millis().to_string()
    }

    fn flood(&self, who: u32, len: usize) -> Result<(), Box<dyn Error>> {
        say("ok begun");
        for index in 0.. {
            self.sender().send(&message(who, index, len))?;
        }
        Ok(())
    }

    fn recv(&self, count: usize) -> Result<String, Box<dyn Error>> {
        let mut ledger = Ledger::default();
        for _ in 0..count {
            ledger.enter(&self.receiver().recv()?);
        }
        Ok(ledger.to_string())
    }

    fn drain(&self, mut ledger: Ledger) -> Result<Ledger, Box<dyn Error>> {
        loop {
            match self.receiver().recv() {
                Ok(message) => ledger.enter(&message),
                Err(e) if matches!(e.reason(), RecvFailure::Closed { .. }) => return Ok(ledger),
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn is_idle(&self) -> bool {
        let (begin, wait) = (cpu_time(), Duration::from_millis(300));
        let nothing = self.receiver().recv_timeout(wait).is_err_and(|e| e.reason() == RecvFailure::TimedOut);
        nothing && cpu_time() - begin < wait / 2
    }

    fn wait(&self) -> String {
        say("ok begun");
        let begin = Instant::now();
        let came = self.receiver().recv().map(|message| message.len()).map_err(|e| e.reason());
        format!("{came:?} after {} ms", begin.elapsed().as_millis())
    }

    /// What a forked child may do with the handles: nothing, and dropping them there changes nothing here.
    fn fork(&mut self) -> String {
        // SAFETY: no other thread of this process holds a lock that the child needs: it has none besides the harness's, which waits.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let sends = self.sender.as_ref().is_none_or(|sender| {
                sender.try_send(b"from a child").is_err_and(|e| matches!(e.reason(), SendFailure::Forked))
            });
            let receives = self
                .receiver
                .as_ref()
                .is_none_or(|receiver| receiver.try_recv().is_err_and(|e| e.reason() == RecvFailure::Forked));
            *self = Self::default();
            // SAFETY: leaves without destructors of the harness.
            unsafe { libc::_exit(i32::from(!sends) + 2 * i32::from(!receives)) };
        }
        crate::fork::status_of(child).to_string()
    }
}

fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills in a struct that lives during the call.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn leave_a_child() {
    // SAFETY: the child makes system calls only.
    if unsafe { libc::fork() } == 0 {
        linger();
    }
}

fn shut(descriptor: i32) {
    // SAFETY: the parent of this process gave it this descriptor for this, and nothing else here owns it.
    drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
}

fn lowest_free() -> std::io::Result<i32> {
    use std::os::fd::AsRawFd;
    Ok(std::fs::File::open("/dev/null")?.as_raw_fd())
}

fn limit(most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: 4096 };
    // SAFETY: reads a struct that lives during the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

static SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: libc::c_int) {
    SIGNALS.fetch_add(1, SeqCst);
}

fn clean(dry_run: bool) -> Result<String, Box<dyn Error>> {
    let mut said = Vec::new();
    for cleaned in ginnel::clean(dry_run)? {
        let cleaned = cleaned?;
        said.push(format!("{} {}", cleaned.address, if cleaned.removed { "removed" } else { "forgotten" }));
    }
    Ok(said.join(";"))
}

fn keep_clean(time: Duration) -> Result<String, Box<dyn Error>> {
    let (end, mut count) = (Instant::now() + time, 0);
    while Instant::now() < end {
        for cleaned in ginnel::clean(false)? {
            cleaned?;
            count += 1;
        }
    }
    Ok(count.to_string())
}

/// The receiver is opened after the sender has sent: if somebody removed the empty queue between, it has another one.
fn churn(address: &str, count: u32) -> Result<(), Box<dyn Error>> {
    for _ in 0..count {
        let sender = Sender::open(address)?;
        std::thread::sleep(Duration::from_micros(200));
        sender.send(b"there")?;
        let receiver = Receiver::open(address)?;
        receiver.recv_timeout(Duration::from_secs(10))?;
    }
    Ok(())
}

fn many(address: &str, count: usize) -> Result<String, Box<dyn Error>> {
    let sender = Sender::open(address)?;
    let receivers = (0..count).map(|_| Receiver::open(address)).collect::<Result<Vec<_>, _>>()?;
    for receiver in &receivers {
        assert_eq!(receiver.recv_timeout(Duration::from_millis(1)).unwrap_err(), RecvFailure::TimedOut);
    }
    let links = std::fs::read_dir("/proc/self/fd")?.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let instances = links.filter(|link| link.as_os_str() == "anon_inode:inotify").count();
    std::thread::scope(|scope| {
        let waiting =
            |receiver: Receiver| scope.spawn(move || receiver.recv_timeout(Duration::from_secs(20)).map(drop));
        let waiting: Vec<_> = receivers.into_iter().map(waiting).collect();
        std::thread::sleep(Duration::from_millis(50));
        drop(sender);
        for thread in waiting {
            let told = thread.join().expect("a thread").unwrap_err();
            assert_eq!(told, RecvFailure::Closed { died: 0 });
        }
    });
    Ok(instances.to_string())
}

/// `SIGALRM` each millisecond, without `SA_RESTART`, to whichever thread it hits: the others of the harness are asleep.
fn storm() {
    let handler = count as extern "C" fn(libc::c_int);
    // SAFETY: an all-zero struct is a valid one: no flags, so system calls are not restarted, and an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // SAFETY: installs a handler that only adds to an atomic.
    assert_eq!(unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) }, 0);
    // SAFETY: takes no argument; names this thread to the kernel.
    let thread = unsafe { libc::syscall(libc::SYS_gettid) };
    let process = libc::c_long::from(std::process::id() as i32);
    // A timer of the process would hit the harness's main thread, which joins this one.
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(std::time::Duration::from_millis(1));
            // SAFETY: takes integers: the thread that obeys orders, which lives as long as the process.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::c_long::from(libc::SIGALRM)) };
        }
    });
}
