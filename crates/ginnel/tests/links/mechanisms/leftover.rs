//! What is left of queues and datagram sockets when all of their users were killed, who collects it, and what is not theirs to remove.

use super::ground::{LATE, LIMIT, eventually};
use super::promises::takes;
use crate::child::Child;
use crate::place;
use ginnel::{Receiver, RecvFailure, Sender};
use ginnel_os::mqueue::{self, Access, Options, Queue};
use ginnel_os::ofd_lock::{self, Kind};
use ginnel_os::sysv_ipc::Key;
use ginnel_os::sysv_mq::{Buffer, Overlong, Which};
use ginnel_os::{socket, sysv_mq, unix};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Mq,
    Sysv,
    Dgram,
}

use What::{Dgram, Mq, Sysv};

/// Links in a directory of their own, where no other test cleans, and one name in each mechanism. What has it goes with this.
struct Yard {
    folder: tempfile::TempDir,
    number: u32,
}

impl Yard {
    fn new() -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        Self { folder: place::new_directory(), number: LAST.fetch_add(1, Ordering::Relaxed) }
    }

    fn porter(&self) -> Child {
        let links = self.folder.path().join("links");
        let mut child = Child::start("porter", &links);
        child.reply().ok();
        child
    }

    fn name(&self) -> String {
        format!("/left-{}-{}", std::process::id(), self.number)
    }

    fn key(&self) -> Key {
        Key::new(0x4800_0000 | (std::process::id() as i32 & 0xffff) << 8 | self.number as i32 & 0xff)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("it")
    }

    /// As a book has it, and the same to open it.
    fn address(&self, what: What) -> (String, String) {
        let address = match what {
            Mq => format!("mq:{}", self.name()),
            Sysv => format!("sysv:{}", self.key().number()),
            Dgram => format!("unix:{}", self.path().display()),
        };
        let kind = if what == Dgram { "?type=dgram" } else { "" };
        (address.clone(), address + kind)
    }

    fn books(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path().join("links/?ends"));
        entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    }

    /// Whether there is a queue or a socket.
    fn is_there(&self, what: What) -> bool {
        match what {
            Mq => Queue::open(self.name(), Access::Both).is_ok(),
            Sysv => sysv_mq::Queue::open(self.key()).is_ok(),
            Dgram => self.path().symlink_metadata().is_ok(),
        }
    }

    /// Another program takes the messages out of it; how many there were.
    fn drain(&self, what: What) -> usize {
        let mut room = vec![0; 8192];
        match what {
            Mq => Queue::open(self.name(), Access::Both)
                .map_or(0, |queue| std::iter::from_fn(|| queue.try_receive(&mut room).ok()).count()),
            Sysv => sysv_mq::Queue::open(self.key()).map_or(0, |queue| {
                let mut buffer = Buffer::new(8192).unwrap();
                std::iter::from_fn(|| queue.try_receive(&mut buffer, Which::Any, Overlong::Refuse).ok()).count()
            }),
            Dgram => 0,
        }
    }

    fn remove(&self) {
        let _ = mqueue::unlink(self.name());
        let _ = sysv_mq::Queue::open(self.key()).and_then(sysv_mq::Queue::remove);
    }

    /// Another program removes what has the name, and makes its own.
    fn replace(&self, what: What) {
        match what {
            Mq => {
                mqueue::unlink(self.name()).unwrap();
                Queue::create(self.name(), Options::default()).unwrap();
            }
            Sysv => {
                sysv_mq::Queue::open(self.key()).unwrap().remove().unwrap();
                sysv_mq::Queue::create(self.key(), 0o600).unwrap();
            }
            Dgram => {
                // Beside the old one, so that it cannot be given the old one's number.
                let beside = self.folder.path().join("beside");
                drop(unix::bind(socket::Kind::Datagram, &unix::Address::path(&beside).unwrap()).unwrap());
                std::fs::rename(&beside, self.path()).unwrap();
            }
        }
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A pair of processes with both ends open, through which a message went.
fn pair(yard: &Yard, what: What) -> [Child; 2] {
    let (mut sender, mut receiver) = (yard.porter(), yard.porter());
    let (_, address) = yard.address(what);
    receiver.must(&format!("receiver {address}"));
    sender.must(&format!("sender {address}"));
    sender.must("exact 1 1 100");
    receiver.must("recv 1");
    [sender, receiver]
}

#[test]
fn what_a_crash_of_everybody_left_is_cleaned() {
    let _limit = place::limit(LIMIT);
    for what in [Mq, Sysv, Dgram] {
        let yard = Yard::new();
        let mut cleaner = yard.porter();
        let users = pair(&yard, what);
        assert_eq!(cleaner.must("clean"), "", "{what:?}: they live");
        for mut user in users {
            assert!(yard.is_there(what), "{what:?}");
            assert_eq!(cleaner.must("clean"), "", "{what:?}: one lives");
            user.kill_and_reap();
        }
        let removed = format!("{} removed", yard.address(what).0);
        assert_eq!(cleaner.must("clean-dry"), removed);
        assert!(yard.is_there(what) && yard.books().len() == 1, "{what:?}: a dry run changes nothing");
        assert_eq!(cleaner.must("clean"), removed);
        assert!(!yard.is_there(what), "{what:?}");
        assert_eq!(yard.books(), [] as [PathBuf; 0], "{what:?}");
        assert_eq!(cleaner.must("clean"), "", "{what:?}: nothing is left");
    }
}

#[test]
fn messages_survive_cleaning() {
    let _limit = place::limit(LIMIT);
    for what in [Mq, Sysv] {
        let yard = Yard::new();
        let (_, address) = yard.address(what);
        let mut sender = yard.porter();
        sender.must(&format!("sender {address}"));
        sender.must("exact 1 2 100");
        sender.kill_and_reap();
        let mut receiver = yard.porter();
        assert_eq!(receiver.must("clean"), "", "{what:?}");
        receiver.must(&format!("receiver {address}"));
        assert_eq!(receiver.must("drain"), "1:2", "{what:?}: and then the end");
        receiver.kill_and_reap();
        assert!(yard.porter().must("clean").ends_with(" removed"));
        assert!(!yard.is_there(what) && yard.books().is_empty(), "{what:?}");
    }
}

/// Whoever uses ginnel on it and is killed leaves the queue to its maker.
#[test]
fn what_another_program_made_stays() {
    let _limit = place::limit(LIMIT);
    for what in [Mq, Sysv, Dgram] {
        let yard = Yard::new();
        let mut users = pair(&yard, what);
        users.iter_mut().for_each(Child::kill_and_reap);
        yard.replace(what);
        assert_eq!(yard.porter().must("clean"), format!("{} forgotten", yard.address(what).0));
        assert!(yard.is_there(what), "{what:?}: the queue is another program's");
        assert_eq!(yard.books(), [] as [PathBuf; 0], "{what:?}");
    }
}

/// The last one to leave, by itself, removes the queue that ginnel made, and not the one that has its name now.
#[test]
fn the_last_one_out_removes_no_other_queue() {
    let _limit = place::limit(LIMIT);
    for what in [Mq, Sysv] {
        for somebody_joins in [false, true] {
            let yard = Yard::new();
            let [mut sender, mut receiver] = pair(&yard, what);
            yard.replace(what);
            if somebody_joins {
                receiver.must("close");
                receiver.must(&format!("receiver {}", yard.address(what).1));
            }
            sender.must("close");
            receiver.must("close");
            assert!(yard.is_there(what), "{what:?}: the queue is another program's");
            assert_eq!(yard.books(), [] as [PathBuf; 0], "{what:?}");
        }
    }
}

/// `?memory=` changes by when a System V queue is told from another.
#[test]
fn a_queue_stays_ginnels_when_its_room_is_changed() {
    let _limit = place::limit(LIMIT);
    let yard = Yard::new();
    let address = yard.address(Sysv).1;
    let mut users = [yard.porter(), yard.porter()];
    users[0].must(&format!("sender {address}"));
    std::thread::sleep(Duration::from_millis(1100)); // the kernel's clock for it counts seconds
    users[1].must(&format!("receiver {address}?memory=8192"));
    users.iter_mut().for_each(|user| drop(user.must("close")));
    assert!(!yard.is_there(Sysv));
}

/// At the same moment: joining, leaving, and several who clean.
#[test]
fn cleaning_does_no_harm_to_who_comes_and_goes() {
    let _limit = place::limit(LIMIT);
    for what in [Mq, Sysv] {
        let yard = Yard::new();
        let mut cleaners = [yard.porter(), yard.porter()];
        let mut users = [yard.porter(), yard.porter(), yard.porter()];
        cleaners.iter_mut().for_each(|cleaner| cleaner.tell("keep-clean 2000"));
        let (_, shared) = yard.address(what);
        let alone = Yard::new();
        let (_, own) = alone.address(what);
        for (user, address) in users.iter_mut().zip([&shared, &shared, &own]) {
            user.tell(&format!("churn {address} {}", 150 * place::scale()));
        }
        for user in &mut users {
            user.reply_within(LIMIT).ok();
        }
        for cleaner in &mut cleaners {
            cleaner.reply().ok();
        }
        cleaners[0].must("clean");
        assert!(!yard.is_there(what) && !alone.is_there(what) && yard.books().is_empty(), "{what:?}");
    }
}

/// The same while users are killed at any moment: nothing is left, and nobody is kept from joining.
#[test]
fn users_that_are_killed_anywhere_are_cleaned_up_after() {
    let _limit = place::limit(LIMIT);
    let mut random = super::freight::Random::new(7);
    for what in [Mq, Sysv, Dgram] {
        let yard = Yard::new();
        let mut cleaner = yard.porter();
        for _ in 0..60 * place::scale() {
            let mut user = yard.porter();
            let order = match what {
                Dgram => format!("receiver {}", yard.address(what).1),
                _ => format!("churn {} 1000000", yard.address(what).1),
            };
            user.tell(&order);
            std::thread::sleep(Duration::from_micros(random.len(20_000) as u64));
            user.kill_and_reap();
            cleaner.must("clean");
            if yard.drain(what) > 0 {
                assert!(yard.is_there(what) && yard.books().len() == 1, "{what:?}: a message stays, and who sent it");
                cleaner.must("clean");
                assert!(!yard.is_there(what), "{what:?}");
            }
            assert!(!yard.is_there(what), "{what:?}: made, and nobody knows by whom");
            assert_eq!(yard.books(), [] as [PathBuf; 0], "{what:?}");
        }
    }
}

/// What is no book stays, with a word.
#[test]
fn a_strange_file_among_the_books_stays() {
    let _limit = place::limit(LIMIT);
    let yard = Yard::new();
    let mut users = pair(&yard, Mq);
    let stray = yard.folder.path().join("links/?ends/stray");
    let another_links = [&[0; 32][..], b"mq:/nobody"].concat();
    for bytes in [&b""[..], &[0xff; 40], &another_links, &[0; 10_000]] {
        std::fs::write(&stray, bytes).unwrap();
        let [kind, object, ..] = users[0].ask("clean").err();
        assert!(format!("{kind}{object}").contains("stray"), "{kind} {object}");
        assert!(stray.exists());
    }
    users[1].must("close");
}

/// One thread and one instance of inotify watch for all handles of a process.
#[test]
fn many_handles_take_one_instance_of_inotify() {
    let _limit = place::limit(LIMIT);
    let yard = Yard::new();
    assert_eq!(yard.porter().must(&format!("many {} 300", yard.address(Mq).1)), "1");
}

/// The kernel says that somebody let go of the file, and is kept from dropping the lock for a while: here a lock that goes without a further report.
#[test]
fn a_report_long_before_the_lock_goes_is_not_missed() {
    let _limit = place::limit(LIMIT);
    place::home();
    let name = format!("mq:/late-{}", std::process::id());
    let (receiver, sender) = (Receiver::open(&name).unwrap(), Sender::open(&name).unwrap());
    let books = std::fs::read_dir(place::home().join("?ends")).unwrap().flatten();
    let is_its = |path: &PathBuf| path.to_string_lossy().contains(&format!("late-{}", std::process::id()));
    let book = books.map(|entry| entry.path()).find(is_its).unwrap();
    let file = File::options().read(true).write(true).open(book).unwrap();
    let a_sender = (1 << 62) + 9;
    let held = ofd_lock::try_lock(file.as_fd(), Kind::Write, a_sender..=a_sender).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || receiver.recv_timeout(LATE * 10).map(drop).unwrap_err());
        std::thread::sleep(Duration::from_millis(50));
        drop(sender); // the report
        std::thread::sleep(Duration::from_millis(150));
        assert!(!waiting.is_finished(), "a sender is there still");
        drop(held); // no report
        let told = takes(Duration::ZERO, || waiting.join().unwrap()); // not at the end of its time only
        assert_eq!(told, RecvFailure::Closed { died: 0 });
    });
    assert!(eventually(|| Queue::open(&name[3..], Access::Send).is_err()));
}

/// Who waits for a System V queue is woken by ginnel's senders, and looks 50 times a second for those of other programs.
#[test]
fn who_waits_for_a_system_v_queue_sleeps() {
    let _limit = place::limit(LIMIT);
    let yard = Yard::new();
    let mut receiver = yard.porter();
    receiver.must(&format!("receiver {}", yard.address(Sysv).1));
    let switches = |child: &Child| {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", child.pid())).unwrap().flatten();
        let status = tasks.map(|task| std::fs::read_to_string(task.path().join("status")).unwrap_or_default());
        let count = |status: String| {
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).map(str::trim);
            line.and_then(|number| number.parse::<u32>().ok()).unwrap_or(0)
        };
        status.map(count).sum::<u32>()
    };
    let before = switches(&receiver);
    receiver.must("try 2000");
    let naps = switches(&receiver) - before;
    assert!(naps < 200, "it looked {naps} times in 2 s");
}
