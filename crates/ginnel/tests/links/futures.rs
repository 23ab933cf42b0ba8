//! Futures, streams and sinks over links in shared memory: dropped at every poll, many at once, in runtimes that come and go.

use crate::child::Child;
use crate::place::{self, LIMIT, address, number_in, scale, stamped};
use futures_util::{SinkExt, StreamExt};
use ginnel::call::{CallFailure, Client, Server};
use ginnel::mail::{Mailbox, Post};
use ginnel::{Receiver, RecvFailure, SendFailure, Sender};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// An address of each kind that the engine carries.
fn addresses(name: &str, options: &str) -> [String; 2] {
    let shm = address(name, options);
    let mem = shm.replacen("shm:", "mem:", 1);
    [shm, mem]
}

/// One poll, and then the future is dropped, as a `select!` drops those that were not first.
fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

/// One poll within the task that runs, after which the future is dropped: whether it was pending.
async fn poll_here<F: Future>(future: F) -> bool {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

#[test]
fn futures_that_are_dropped_at_every_poll_lose_nothing() {
    let _limit = place::limit(LIMIT);
    let _in = runtime();
    let _guard = _in.enter();
    let count = 2000 * scale();
    for address in addresses("dropped", "capacity=4&max=64") {
        let mut receiver = Receiver::open(&address).unwrap();
        let there = address.clone();
        let sending = std::thread::spawn(move || {
            let runtime = runtime();
            let _guard = runtime.enter();
            let mut sender = Sender::open(&there).unwrap();
            for number in 0..count {
                while poll_once(sender.send_async(&stamped(number, 40))).map(Result::unwrap).is_none() {
                    std::thread::yield_now();
                }
            }
        });
        for number in 0..count {
            let got = loop {
                match poll_once(receiver.recv_async()) {
                    Some(message) => break number_in(&message.unwrap()),
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(got, number);
        }
        sending.join().unwrap();
    }
}

/// Time-outs that are about as long as a message takes: some win, some lose, and every message comes.
#[test]
fn time_outs_of_the_runtime_lose_nothing() {
    let _limit = place::limit(LIMIT);
    let count = 1000 * scale();
    for address in addresses("raced", "capacity=8") {
        let mut receiver = Receiver::open(&address).unwrap();
        let there = address.clone();
        let sending = std::thread::spawn(move || {
            let sender = Sender::open(&there).unwrap();
            for number in 0..count {
                if number % 7 == 0 {
                    std::thread::sleep(Duration::from_micros(number % 300));
                }
                sender.send(&stamped(number, 300)).unwrap();
            }
        });
        runtime().block_on(async {
            for number in 0..count {
                let got = loop {
                    // Dropped in mid-wait, if it took longer.
                    let raced = tokio::time::timeout(Duration::from_micros(50), receiver.recv_async()).await;
                    if let Ok(message) = raced {
                        break number_in(&message.unwrap());
                    }
                };
                assert_eq!(got, number);
            }
        });
        sending.join().unwrap();
    }
}

#[test]
fn a_stream_and_a_sink_carry_what_they_are_given() {
    let _limit = place::limit(LIMIT);
    let count = 500 * scale();
    for address in addresses("streamed", "capacity=4") {
        let mut receiver = Receiver::open(&address).unwrap();
        let mut sender = Sender::open(&address).unwrap();
        let send = async move {
            let mut sink = sender.sink();
            for number in 0..count {
                sink.feed(stamped(number, 200)).await.unwrap();
            }
            SinkExt::<Vec<u8>>::close(&mut sink).await.unwrap();
        };
        let receive = async move {
            let got: Vec<u64> = receiver.stream().map(|message| number_in(&message.unwrap())).collect().await;
            assert_eq!(got, (0..count).collect::<Vec<_>>());
        };
        smol::block_on(futures_util::future::join(receive, send));
    }
}

/// What a sink keeps is told.
#[test]
fn a_sink_keeps_one_that_does_not_fit() {
    let _limit = place::limit(LIMIT);
    let address = address("kept", "capacity=2");
    let _receiver = Receiver::open(&address).unwrap();
    let mut sender = Sender::open(&address).unwrap();
    runtime().block_on(async {
        let mut sink = sender.sink();
        for number in 0..3 {
            sink.feed(stamped(number, 8)).await.unwrap();
        }
        assert!(poll_once(SinkExt::<Vec<u8>>::flush(&mut sink)).is_none());
        assert_eq!(sink.take_pending(), Some(stamped(2, 8)));
        SinkExt::<Vec<u8>>::flush(&mut sink).await.unwrap();
    });
    assert_eq!(sender.len(), 2);
}

fn instances() -> usize {
    let files = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    links.filter(|link| link.as_os_str() == "anon_inode:inotify").count()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Not a test: in a process of its own, as descriptors and threads are counted. A thousand links, each with one who waits.
pub(crate) fn crowd(count: &str) {
    let count: u64 = count.parse().expect("a number");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_io().build().unwrap();
    let addresses: Vec<String> =
        (0..count).map(|n| format!("shm:crowd-{n}?capacity=2&max=64&participants=2")).collect();
    let receivers: Vec<Receiver> = addresses.iter().map(|address| Receiver::open(address).unwrap()).collect();
    let senders: Vec<Sender> = addresses.iter().map(|address| Sender::open(address).unwrap()).collect();
    // Their threads are there before any link waits.
    let tasks: Vec<_> = (0..count)
        .zip(receivers)
        .map(|(number, mut receiver)| {
            runtime.spawn(async move {
                for turn in 0..3 {
                    assert_eq!(number_in(&receiver.recv_async().await.unwrap()), 3 * number + turn);
                }
                receiver.recv_async().await.map(drop).unwrap_err().reason()
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(50));
    // The watcher's, with its thread, which is told of deaths; and the one of all who listen.
    assert_eq!(instances(), 2);
    assert_eq!(threads(), 2 + 1 + 2, "this one and that of the test, the watcher, two workers");
    for turn in 0..3 {
        for (number, sender) in (0..count).zip(&senders) {
            sender.send(&stamped(3 * number + turn, 20)).unwrap();
        }
    }
    drop(senders);
    for task in tasks {
        assert_eq!(runtime.block_on(task).unwrap(), RecvFailure::Closed { died: 0 });
    }
    assert_eq!(instances(), 2);
    crate::child::say("ok done");
}

#[test]
fn a_thousand_receivers_wait_with_one_instance_and_no_thread() {
    let _limit = place::limit(2 * LIMIT);
    let directory = place::new_directory();
    let mut child = Child::start("crowd 1000", directory.path());
    assert_eq!(child.reply_within(LIMIT).ok(), "done");
}

#[test]
fn a_death_is_told_as_to_one_who_blocks() {
    let _limit = place::limit(LIMIT);
    for _ in 0..5 * scale() {
        let address = address("future-death", "capacity=2&max=64");
        let mut receiver = Receiver::open(&address).unwrap();
        let mut child = Child::start("script", place::home());
        child.reply().ok();
        child.must(&format!("sender open {address}"));
        child.must("send 1 40 0");
        let killing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(10));
            child.kill();
            assert!(child.becomes_zombie());
            child
        });
        runtime().block_on(async {
            assert_eq!(number_in(&receiver.recv_async().await.unwrap()), 0);
            let told = receiver.recv_async().await.map(drop).unwrap_err();
            assert_eq!(told, RecvFailure::Closed { died: 1 });
            // As a stream: the error, and then the end.
            let told: Vec<_> = receiver.stream().collect().await;
            assert!(matches!(&told[..], [Err(e)] if e.reason() == RecvFailure::Closed { died: 1 }), "{told:?}");
        });
        drop(killing.join().unwrap());
    }
}

#[test]
fn a_sender_is_told_of_a_death() {
    let _limit = place::limit(LIMIT);
    let address = address("future-receiver-death", "capacity=2&max=64");
    let mut sender = Sender::open(&address).unwrap();
    let mut child = Child::start("script", place::home());
    child.reply().ok();
    child.must(&format!("receiver open {address}"));
    let killing = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(10));
        child.kill();
        child
    });
    let told = smol::block_on(async {
        loop {
            if let Err(e) = sender.send_async(b"until it is full for ever").await {
                return e;
            }
        }
    });
    assert!(matches!(told.reason(), SendFailure::Closed { died: 1 }), "{told}");
    drop(killing.join().unwrap());
}

/// Handles outlive runtimes, and wait in several kinds of them at once.
#[test]
fn runtimes_come_and_go() {
    let _limit = place::limit(LIMIT);
    let [here, there, smol] = ["first", "second", "third"].map(|name| address(name, ""));
    let mut receivers = [&here, &there, &smol].map(|address| Receiver::open(address).unwrap());
    let senders = [&here, &there, &smol].map(|address| Sender::open(address).unwrap());
    for round in 0..20 * scale() {
        // In this one somebody waits and is dropped with the runtime, half of the time with news on the way.
        let gone = runtime();
        gone.block_on(async {
            assert!(poll_here(receivers[0].recv_async()).await);
        });
        if round % 2 == 0 {
            drop(gone);
            senders[0].send(&stamped(round, 8)).unwrap();
        } else {
            senders[0].send(&stamped(round, 8)).unwrap();
            drop(gone);
        }
        let [first, second, third] = &mut receivers;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                runtime().block_on(async { assert_eq!(number_in(&first.recv_async().await.unwrap()), round) });
            });
            scope.spawn(|| {
                runtime().block_on(async { assert_eq!(number_in(&second.recv_async().await.unwrap()), round) });
            });
            scope.spawn(|| smol::block_on(async { assert_eq!(number_in(&third.recv_async().await.unwrap()), round) }));
            std::thread::sleep(Duration::from_millis(3));
            senders[1].send(&stamped(round, 8)).unwrap();
            senders[2].send(&stamped(round, 8)).unwrap();
        });
    }
}

/// One who listens alone in its process is called before the news are read. It, and others that are called together, also get what comes next: on one link, on
/// several, two at one of them.
#[test]
fn one_message_after_the_other_wakes() {
    for how in ["tokio 1", "smol 1", "tokio 2", "smol 2", "tokio 5", "smol 5", "tokio 30", "smol 30"] {
        let _limit = place::limit(LIMIT);
        let directory = place::new_directory();
        let mut sender = Child::start("script", directory.path());
        sender.reply().ok();
        let mut child = Child::start(&format!("woken {how}"), directory.path());
        assert_eq!(child.reply().ok(), "ready");
        let links: u64 = how.split_once(' ').unwrap().1.parse::<u64>().unwrap().div_ceil(2);
        (0..links).for_each(|link| _ = sender.must(&format!("sender join shm:woken-{link}")));
        for turn in 0..40 {
            // Asleep before most of them.
            std::thread::sleep(Duration::from_micros(1500 * (turn % 2)));
            // The last that was opened is the one that is sent to; the others are there.
            sender.must(&format!("send 1 8 {turn}"));
            assert_eq!(child.reply().ok(), turn.to_string(), "{how}");
            if turn % 5 == 4 {
                sender.must(&format!("sender join shm:woken-{}", turn % links));
            }
        }
        sender.finish();
        assert_eq!(child.reply().ok(), "done", "{how}");
    }
}

/// Not a test: in a process of its own, where nobody else reads the news. So many tasks, two a link, each of which says what it gets.
pub(crate) fn woken(how: &str) {
    async fn listen(mut receiver: Receiver) {
        while let Ok(number) = receiver.recv_async().await.map(|message| number_in(&message)) {
            crate::child::say(&format!("ok {number}"));
        }
    }
    let (runtime_name, count) = how.split_once(' ').expect("a runtime and a number");
    let count: u64 = count.parse().expect("a number");
    let receivers = (0..count).map(|number| Receiver::open(&format!("shm:woken-{}", number / 2)).unwrap());
    let receivers: Vec<Receiver> = receivers.collect();
    crate::child::say("ok ready");
    if runtime_name == "tokio" {
        let runtime = runtime();
        let tasks: Vec<_> = receivers.into_iter().map(|receiver| runtime.spawn(listen(receiver))).collect();
        tasks.into_iter().for_each(|task| runtime.block_on(task).unwrap());
    } else {
        smol::block_on(futures_util::future::join_all(receivers.into_iter().map(listen)));
    }
    crate::child::say("ok done");
}

#[test]
fn who_waits_is_not_run() {
    let _limit = place::limit(LIMIT);
    let directory = place::new_directory();
    assert_eq!(Child::start("idle", directory.path()).reply().ok(), "done");
}

/// Not a test: in a process of its own, where nobody else has news. One who waits uses nothing: no switch of its thread between the beginning and the message.
pub(crate) fn idle() {
    let mut receiver = Receiver::open("shm:idle").unwrap();
    let sender = Sender::open("shm:idle").unwrap();
    let sending = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        sender.send(b"at last").unwrap();
        sender
    });
    runtime().block_on(async {
        assert!(poll_here(receiver.recv_async()).await);
        let before = place::switches();
        let message = receiver.recv_async().await.unwrap();
        assert_eq!(&*message, b"at last");
        let switches = place::switches() - before;
        assert!(switches <= 5, "its thread was run {switches} times");
    });
    drop(sending.join().unwrap());
    crate::child::say("ok done");
}

#[test]
#[should_panic(expected = "enable_io")]
fn a_runtime_without_io_is_told() {
    let address = address("no-io", "");
    let mut receiver = Receiver::open(&address).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { drop(receiver.recv_async().await) });
}

// ---- requests and letters

/// As a multi-threaded runtime asks of what it spawns.
fn is_send<F: Future + Send>(future: F) -> F {
    future
}

#[test]
fn requests_are_answered_in_tasks() {
    let _limit = place::limit(LIMIT);
    let count = 300 * scale();
    for address in addresses("asked", "capacity=4") {
        let (mut server, mut client) = (Server::open(&address).unwrap(), Client::open(&address).unwrap());
        let serving = async move {
            for _ in 0..count {
                let request = is_send(server.recv_async()).await.unwrap();
                let number = number_in(&request);
                request.reply(&stamped(number + 1, 8 + number as usize % 300)).unwrap();
            }
        };
        let asking = async move {
            for number in 0..count {
                let response = is_send(client.call_async(&stamped(number, 8 + number as usize % 200))).await.unwrap();
                assert_eq!(number_in(&response), number + 1);
            }
        };
        if address.starts_with("shm:") {
            runtime().block_on(futures_util::future::join(serving, asking));
        } else {
            smol::block_on(futures_util::future::join(serving, asking));
        }
    }
}

#[test]
fn requests_and_letters_survive_futures_that_are_dropped_at_every_poll() {
    let _limit = place::limit(LIMIT);
    let _in = runtime();
    let _guard = _in.enter();
    let count = 300 * scale();
    for address in addresses("asked-dropped", "") {
        let mut server = Server::open(&address).unwrap();
        let name = address.replace("asked-dropped", "letters");
        let mut mailbox = Mailbox::open(&name).unwrap();
        let there = address.clone();
        let asking = std::thread::spawn(move || {
            let (client, post) = (Client::open(&there).unwrap(), Post::new());
            for number in 0..count {
                assert_eq!(number_in(&client.call(&stamped(number, 40)).unwrap()), number + 1);
                post.send_to(&name, &stamped(number, 40)).unwrap();
            }
        });
        for number in 0..count {
            loop {
                match poll_once(server.recv_async()) {
                    Some(request) => {
                        let request = request.unwrap();
                        assert_eq!(number_in(&request), number);
                        break request.reply(&stamped(number + 1, 40)).unwrap();
                    }
                    None => std::thread::yield_now(),
                }
            }
            loop {
                match poll_once(is_send(mailbox.recv_async())) {
                    Some(letter) => break assert_eq!(number_in(&letter.unwrap()), number),
                    None => std::thread::yield_now(),
                }
            }
        }
        asking.join().unwrap();
    }
}

/// Each poll may set letters aside, and is dropped.
#[test]
fn letters_from_one_name_are_awaited_and_the_others_kept() {
    let _limit = place::limit(LIMIT);
    let _in = runtime();
    let _guard = _in.enter();
    let count = 300 * scale();
    for address in addresses("from-dropped", "") {
        let mut inbox = Mailbox::open(&address).unwrap();
        let names = ["b", "c"].map(|suffix| address.replace("from-dropped", &format!("from-dropped-{suffix}")));
        let writers = names.clone().map(|name| {
            let to = address.clone();
            std::thread::spawn(move || {
                let mailbox = Mailbox::open(&name).unwrap();
                (0..count).for_each(|number| mailbox.send_to(&to, &stamped(number, 40)).unwrap());
                mailbox.name().to_owned()
            })
        });
        let mut got = [0, 0];
        while got.iter().sum::<u64>() < 2 * count {
            // First the one, then the other; whose letters are all there is not waited for.
            for (at, name) in names.iter().enumerate().filter(|(at, _)| got[*at] < count).collect::<Vec<_>>() {
                let sender = name.trim_start_matches("shm:").trim_start_matches("mem:");
                match poll_once(is_send(inbox.recv_from_async(sender))) {
                    Some(letter) => {
                        assert_eq!(number_in(&letter.unwrap()), got[at], "of {sender}");
                        got[at] += 1;
                    }
                    None => std::thread::yield_now(),
                }
            }
        }
        assert_eq!(inbox.set_aside(), 0);
        for (writer, name) in writers.into_iter().zip(&names) {
            assert!(name.ends_with(&writer.join().unwrap()));
        }
    }
}

#[test]
fn a_call_whose_future_is_dropped_is_given_up() {
    let _limit = place::limit(LIMIT);
    for address in addresses("asked-cancelled", "") {
        let (server, mut client) = (Server::open(&address).unwrap(), Client::open(&address).unwrap());
        runtime().block_on(async {
            // More than may be under way, so that each ends when its server has ended it.
            for _ in 0..2 * client.limit() {
                assert!(poll_here(client.call_async(b"never mind")).await);
                let request = server.recv().unwrap();
                assert!(request.is_cancelled());
                request.reply(b"too late").unwrap();
            }
            let answering = async {
                let request = server.recv().unwrap();
                assert!(!request.is_cancelled());
                request.reply(b"in time").unwrap();
            };
            let (response, ()) = futures_util::future::join(client.call_async(b"still works"), answering).await;
            assert_eq!(&*response.unwrap(), b"in time");
        });
    }
}

/// A client's queue of requests that is full holds up the task, not its thread.
#[test]
fn a_call_waits_for_room_in_its_task() {
    let _limit = place::limit(LIMIT);
    let address = address("asked-full", "capacity=2");
    let (server, mut client) = (Server::open(&address).unwrap(), Client::open(&address).unwrap());
    let other = Client::open(&address).unwrap();
    let _others: Vec<_> = (0..2).map(|_| other.begin(b"first").unwrap()).collect();
    runtime().block_on(async {
        let mut call = pin!(client.call_async(b"second"));
        assert!(poll_here(call.as_mut()).await);
        assert_eq!(&*server.recv().unwrap(), b"first");
        assert_eq!(&*server.recv().unwrap(), b"first");
        let serving = async {
            loop {
                match server.try_recv() {
                    Ok(request) => break request.reply(b"done").unwrap(),
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let (response, ()) = futures_util::future::join(call, serving).await;
        assert_eq!(&*response.unwrap(), b"done");
    });
}

#[test]
fn several_calls_of_one_client_wait_in_one_thread() {
    let _limit = place::limit(LIMIT);
    let count = 100 * scale();
    for address in addresses("asked-several", "") {
        let (server, client) = (Server::open(&address).unwrap(), Client::open(&address).unwrap());
        let serving = std::thread::spawn(move || {
            for round in 0..count {
                let (first, second) = (server.recv().unwrap(), server.recv().unwrap());
                let swapped = round % 2 == 0;
                let (one, other) = if swapped { (second, first) } else { (first, second) };
                let answers = [stamped(number_in(&one) + 1, 20), stamped(number_in(&other) + 1, 20)];
                one.reply(&answers[0]).unwrap();
                if round % 3 == 0 {
                    std::thread::sleep(Duration::from_micros(100));
                }
                other.reply(&answers[1]).unwrap();
            }
        });
        smol::block_on(async {
            for round in 0..count {
                let calls = [0, 1].map(|at| client.begin(&stamped(10 * round + at, 20)).unwrap());
                let (first, second) = futures_util::future::join(calls[0].recv_async(), calls[1].recv_async()).await;
                let numbers = [first, second].map(|response| number_in(&response.unwrap().unwrap()));
                assert_eq!(numbers, [10 * round + 1, 10 * round + 2]);
            }
        });
        serving.join().unwrap();
    }
}

/// A task that is slow to receive a stream is no reason for another one's call to fail; it is called when there is room again.
#[test]
fn a_call_waits_in_a_task_beside_the_stream_of_another() {
    let _limit = place::limit(LIMIT);
    const PARTS: u64 = 200;
    for address in addresses("asked-beside", "capacity=8") {
        let (server, client) = (Server::open(&address).unwrap(), Client::open(&address).unwrap());
        let [idle, busy] = [b"1", b"2"].map(|request| client.begin(request).unwrap());
        let (say, filled) = std::sync::mpsc::channel();
        let serving = std::thread::spawn(move || {
            let (idle, busy) = (server.recv().unwrap(), server.recv().unwrap());
            for number in 0..PARTS {
                busy.part(&stamped(number, 8)).unwrap();
                if number == 7 {
                    say.send(()).unwrap();
                }
            }
            busy.finish().unwrap();
            idle.reply(b"at last").unwrap();
        });
        filled.recv().unwrap();
        runtime().block_on(async {
            let receiving = async {
                let mut next = 0;
                loop {
                    if next % 50 == 0 {
                        tokio::time::sleep(Duration::from_millis(10)).await; // the other one has taken what it may
                    }
                    let Some(part) = busy.recv_async().await.unwrap() else { break next };
                    assert_eq!(number_in(&part), next);
                    next += 1;
                }
            };
            let (answer, parts) = futures_util::future::join(idle.recv_async(), receiving).await;
            assert_eq!((&*answer.unwrap().unwrap(), parts), (&b"at last"[..], PARTS));
        });
        serving.join().unwrap();
    }
}

#[test]
fn a_killed_server_ends_a_call_in_a_task() {
    let _limit = place::limit(LIMIT);
    let address = address("asked-killed", "");
    let mut child = Child::start("call", place::home());
    child.reply().ok();
    child.must(&format!("serve {address}"));
    let mut client = Client::open(&address).unwrap();
    child.tell("take");
    let killing = std::thread::spawn(move || {
        child.reply().ok();
        std::thread::sleep(Duration::from_millis(10));
        child.kill();
        child
    });
    let told = runtime().block_on(async { client.call_async(b"precious").await.map(drop).unwrap_err() });
    assert!(matches!(told.reason(), CallFailure::Closed { died: 1 }), "{told}");
    drop(killing.join().unwrap());
}
