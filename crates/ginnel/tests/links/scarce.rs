//! Where the kernel has no inotify instance or watch left: who waits for several links, in an event loop or in a task, is told the limit, its value
//! and what raises it; who waits for one link needs none. And where it has no thread left for the watcher, whose place is taken by looks now and then.

use crate::child::{Child, say};
use crate::place::{self, LIMIT, skipped, within};
use crate::script;
use ginnel::call::{CallFailure, Client, Server};
use ginnel::stream::{Listener, Stream};
use ginnel::{Arrival, ErrorKind, Receiver, RecvError, RecvFailure, Select, SendFailure, Sender};
use ginnel_os::poll;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use std::io::{self, BufRead};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// What there is none of, and the limit as the kernel calls it.
const SCARCE: [(&str, &str); 2] =
    [("instances", "user.max_inotify_instances"), ("watches", "user.max_inotify_watches")];

#[test]
fn the_limit_is_told() {
    for (what, limit) in SCARCE {
        let directory = place::new_directory();
        let prepare = format!("echo 0 > /proc/sys/{}", limit.replace('.', "/"));
        let mut child = Child::start_apart(&format!("scarce {what}"), directory.path(), &prepare);
        match child.try_reply(LIMIT) {
            Some(_) => _ = child.reply_within(LIMIT).ok(),
            None => skipped("no user namespace can be had"),
        }
    }
}

#[test]
fn without_a_thread_nothing_is_used_up_and_one_starts_when_it_may() {
    let directory = place::new_directory();
    let mut child = Child::start("scarce threads", directory.path());
    if child.reply_within(LIMIT).ok() == "skip" {
        skipped("this process may start threads beyond its limit");
    }
}

/// Who sends or receives without a descriptor for it is told which limit that is, its value and what raises it; whatever it is that needs one.
#[test]
fn the_limit_of_descriptors_is_told() {
    let directory = place::new_directory();
    let socket = |options| format!("unix:{}/socket{options}", directory.path().display());
    for address in [socket(""), socket("?type=seqpacket")] {
        let mut child = Child::start("script", directory.path());
        child.reply().ok();
        child.must(&format!("receiver open {address}"));
        let open = open_files(&child);
        child.must(&format!("limit nofile {open}"));
        let sender = Sender::open(&address).unwrap();
        sender.send(b"x").unwrap();
        let [kind, _, _, text] = child.ask("recv 1").err();
        assert!(kind.starts_with("NoneLeft"), "{kind}");
        for word in [address.split('?').next().unwrap(), &format!("RLIMIT_NOFILE allows {open};"), "ulimit -n"] {
            assert!(text.contains(word), "{word} is not in: {text}");
        }
    }
    let mut child = Child::start("script", directory.path());
    child.reply().ok();
    child.must("sender open shm:grows?unbounded");
    let open = open_files(&child);
    child.must(&format!("limit nofile {open}"));
    let told = child.must("fill 8");
    for word in ["shm:grows", &*format!("RLIMIT_NOFILE allows this process {open};"), "ulimit -n"] {
        assert!(told.contains(word) && !told.contains("memory"), "{word} is not in: {told}");
    }
}

/// With this limit it has no descriptor left.
fn open_files(child: &Child) -> usize {
    let is_open = |number: &usize| std::fs::symlink_metadata(format!("/proc/{}/fd/{number}", child.pid())).is_ok();
    (0..).find(|number| !is_open(number)).expect("a process that lives")
}

/// A watcher that began without reports has them once there is an inotify instance for it.
#[test]
fn a_watcher_gets_reports_when_there_are_some() {
    let directory = place::new_directory();
    let mut child =
        Child::start_apart("scarce reports", directory.path(), "echo 0 > /proc/sys/user/max_inotify_instances");
    match child.try_reply(LIMIT) {
        Some(_) => _ = child.reply_within(LIMIT).ok(),
        None => skipped("no user namespace can be had"),
    }
}

/// Whether some inotify instance of this process has a watch.
fn has_watches() -> bool {
    let files = std::fs::read_dir("/proc/self/fdinfo").expect("the descriptors of this process").flatten();
    files.into_iter().any(|file| std::fs::read_to_string(file.path()).is_ok_and(|text| text.contains("inotify wd:")))
}

fn late_reports() {
    say("ok begins");
    let (_sender, receiver) = (Sender::open("shm:scarce").unwrap(), Receiver::open("shm:scarce").unwrap());
    assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty);
    assert!(!has_watches());
    std::fs::write("/proc/sys/user/max_inotify_instances", "16").expect("a limit of the namespace");
    within(LIMIT, || {
        while !has_watches() {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    say("ok");
}

/// The lowest number that no descriptor has.
fn next_descriptor() -> i32 {
    std::fs::File::open("/dev/null").expect("a file that is everywhere").as_raw_fd()
}

fn is_watched_by_a_thread() -> bool {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the threads of this process").flatten();
    tasks
        .into_iter()
        .any(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "ginnel-watch"))
}

/// A user who has nothing here.
const NOBODY: u32 = 65534;

/// Has this process start no threads from now on. Root has no such limit, so it becomes another user; whoever else runs the tests stays who it is.
fn spawns_no_thread() -> bool {
    let _ = script::become_user(NOBODY);
    script::limit("nproc", 0).expect("a limit can be lowered");
    std::thread::Builder::new().spawn(|| ()).is_err()
}

fn without_threads() {
    if !spawns_no_thread() {
        return say("ok skip");
    }
    let (_sender, receiver) = (Sender::open("mem:scarce").unwrap(), Receiver::open("mem:scarce").unwrap());
    assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty);
    let next = next_descriptor();
    for _ in 0..4 {
        assert_eq!(receiver.recv_timeout(Duration::from_millis(50)).unwrap_err(), RecvFailure::TimedOut);
    }
    assert_eq!(next_descriptor(), next, "each try took some");
    assert!(!is_watched_by_a_thread());
    script::limit("nproc", u64::MAX).expect("a limit can be raised again");
    while !is_watched_by_a_thread() {
        assert_eq!(receiver.recv_timeout(Duration::from_millis(1)).unwrap_err(), RecvFailure::TimedOut);
    }
    assert_eq!(next_descriptor(), next);
    say("ok");
}

/// Who listens, and to what end.
const LISTENS: [&str; 4] = ["select", "descriptor", "task", "sender"];

#[test]
fn without_a_thread_who_listens_is_told_of_a_death() {
    let directory = place::new_directory();
    let _ = std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY)); // see `spawns_no_thread`
    let mut waiting = Child::start("scarce deaths", directory.path());
    for how in LISTENS {
        if waiting.reply_within(LIMIT).ok() == "skip" {
            return skipped("this process may start threads beyond its limit");
        }
        let mut peer = Child::start("script", directory.path());
        peer.reply().ok();
        peer.ask(&format!("become {NOBODY}"));
        let end = if how == "sender" { "receiver" } else { "sender" };
        peer.must(&format!("{end} join shm:{how}"));
        peer.kill();
        assert_eq!(waiting.reply_within(LIMIT).ok(), how);
    }
}

fn untold_deaths() {
    smol::block_on(smol::Timer::after(Duration::from_millis(1))); // its own thread is there before
    if !spawns_no_thread() {
        return say("ok skip");
    }
    for how in LISTENS {
        let address = format!("shm:{how}?capacity=1&max=64");
        if how == "sender" {
            let mut sender = Sender::open(&address).unwrap();
            sender.send(b"until it is full").unwrap();
            say("ok waits");
            let error = smol::block_on(sender.send_async(b"more")).unwrap_err();
            assert!(matches!(error.reason(), SendFailure::Closed { died: 1 }), "{error}");
        } else {
            let mut receiver = Receiver::open(&address).unwrap();
            say("ok waits");
            let end = match how {
                "select" => Select::new().recv(&receiver).wait().arrival.message().map(drop),
                "descriptor" => received(&receiver),
                _ => smol::block_on(receiver.recv_async()).map(drop),
            };
            assert_eq!(end.unwrap_err(), RecvFailure::Closed { died: 1 }, "{how}");
        }
        assert!(!is_watched_by_a_thread());
        say(&format!("ok {how}"));
    }
}

/// The same for shapes that are made of links: who waits, and in what way.
const CONVERSES: [&str; 7] = ["stream", "stream-task", "write-task", "refused", "call", "call-task", "server"];

#[test]
fn without_a_thread_who_converses_is_told_of_a_death() {
    let directory = place::new_directory();
    let _ = std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY)); // see `spawns_no_thread`
    let mut waiting = Child::start("scarce talks", directory.path());
    for how in CONVERSES {
        if waiting.reply_within(LIMIT).ok() == "skip" {
            return skipped("this process may start threads beyond its limit");
        }
        let mut peer = Child::start(&format!("scarce peer-{how}"), directory.path());
        peer.reply().ok();
        waiting.must("go on");
        std::thread::sleep(Duration::from_millis(50)); // it has looked, and waits
        peer.kill();
        assert_eq!(waiting.reply_within(LIMIT).ok(), how);
    }
}

/// Which of them is at which link.
fn talk(how: &str) -> String {
    format!("shm:{how}")
}

/// Until the parent says so.
fn wait_for_word() {
    std::io::stdin().lock().read_line(&mut String::new()).expect("an order");
}

fn untold_talks() {
    smol::block_on(smol::Timer::after(Duration::from_millis(1))); // its own thread is there before
    if !spawns_no_thread() {
        return say("ok skip");
    }
    for how in CONVERSES {
        match how {
            "refused" | "call" | "call-task" => is_left_by_server(how),
            "server" => gets_what_another_had(how),
            _ => is_left_by_client(how),
        }
        assert!(!is_watched_by_a_thread());
        say(&format!("ok {how}"));
    }
}

fn is_left_by_client(how: &str) {
    let listener = Listener::bind(&talk(how)).unwrap();
    say("ok open");
    wait_for_word();
    let mut stream = listener.accept().unwrap();
    say("ok waits");
    let told = match how {
        "stream" => bytes(Select::new().recv(&stream).wait().arrival),
        "stream-task" => smol::block_on(AsyncReadExt::read(&mut stream, &mut [0])),
        _ => smol::block_on(AsyncWriteExt::write_all(&mut stream, &vec![0; 1 << 20])).map(|()| 0),
    };
    let kind = if how == "write-task" { io::ErrorKind::BrokenPipe } else { io::ErrorKind::ConnectionReset };
    assert_eq!(told.unwrap_err().kind(), kind, "{how}");
}

fn is_left_by_server(how: &str) {
    say("ok open");
    wait_for_word();
    if how == "refused" {
        let stream = Stream::connect(&talk(how)).unwrap();
        say("ok waits");
        let told = bytes(Select::new().recv(&stream).wait().arrival);
        return assert_eq!(told.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
    let mut client = Client::open(&talk(how)).unwrap();
    let error = if how == "call" {
        let call = client.begin(b"?").unwrap();
        say("ok waits");
        let Arrival::Response(told) = Select::new().recv(&call).wait().arrival else { panic!("of a call") };
        told.unwrap_err()
    } else {
        say("ok waits");
        smol::block_on(client.call_async(b"?")).unwrap_err()
    };
    assert!(matches!(error.reason(), CallFailure::Closed { died: 1 }), "{error}");
}

fn gets_what_another_had(how: &str) {
    let server = Server::open(&talk(how)).unwrap();
    say("ok open");
    wait_for_word();
    say("ok waits");
    let Arrival::Request(request) = Select::new().recv(&server).wait().arrival else { panic!("of a server") };
    assert!(request.unwrap().redelivered());
}

fn bytes(arrival: Arrival<'_>) -> io::Result<usize> {
    let Arrival::Bytes(bytes) = arrival else { panic!("of a stream: {arrival:?}") };
    bytes
}

/// Who is killed.
fn peer(how: &str) {
    let _ = script::become_user(NOBODY);
    let address = &talk(how);
    let mut kept: (Option<Stream>, Option<Listener>, Option<Server>) = Default::default();
    match how {
        "refused" => kept.1 = Some(Listener::bind(address).unwrap()),
        "call" | "call-task" => kept.2 = Some(Server::open(address).unwrap()),
        "server" => {
            let server = Server::open(address).unwrap();
            std::mem::forget(Client::open(address).unwrap().begin(b"?").unwrap());
            std::mem::forget(server.recv().unwrap());
            kept.2 = Some(server);
        }
        _ => kept.0 = Some(Stream::connect(address).unwrap()),
    }
    say("ok");
    wait_for_word();
}

/// By an event loop.
fn received(receiver: &Receiver) -> Result<(), RecvError> {
    let ready = receiver.readiness().unwrap();
    loop {
        match ready.try_recv() {
            Err(error) if error == RecvFailure::Empty => _ = poll::readable(&[ready.as_fd()], None).unwrap(),
            result => return result.map(drop),
        }
    }
}

/// The role.
pub(crate) fn role(what: &str) {
    match what {
        "threads" => return without_threads(),
        "deaths" => return untold_deaths(),
        "talks" => return untold_talks(),
        "reports" => return late_reports(),
        _ => {}
    }
    if let Some(how) = what.strip_prefix("peer-") {
        return peer(how);
    }
    say("ok begins");
    let (_, limit) = SCARCE.into_iter().find(|(name, _)| *name == what).unwrap();
    within(LIMIT, || {
        let (mut sender, mut receiver) = (Sender::open("shm:scarce").unwrap(), Receiver::open("shm:scarce").unwrap());
        let told = |text: String| {
            for word in ["shm:scarce", &*format!("{limit} allows"), &*format!("sysctl -w {limit}=")] {
                assert!(text.contains(word), "{word} is not in: {text}");
            }
            assert!(!text.contains("ulimit") && !text.contains("ginnel"), "{text}");
        };
        for error in [receiver.readiness().unwrap_err(), sender.readiness().unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::NoWatches, "{error}");
            told(error.to_string());
        }
        assert!(Select::new().recv(&receiver).try_now().is_none(), "who does not wait needs nothing");
        let error = Select::new().recv(&receiver).wait().arrival.message().unwrap_err();
        assert_eq!(error, RecvFailure::NoneLeft { limit, value: 0 });
        told(error.to_string());
        let error = smol::block_on(receiver.recv_async()).unwrap_err();
        assert_eq!(error, RecvFailure::NoneLeft { limit, value: 0 });
        told(error.to_string());
        let error = smol::block_on(sender.send_async(b"x")).unwrap_err();
        assert!(matches!(error.reason(), SendFailure::Os(_)), "{error}");
        told(error.to_string());
        sender.send(b"still").unwrap();
        assert_eq!(&*receiver.recv().unwrap(), b"still");
    });
    say("ok");
}
