//! Waiting for handles of every kind in one `Select`: requests, responses, letters, connections, bytes. In turn, asleep, by a descriptor, and when peers are
//! killed. Receivers are in `several`.

use crate::child::{Child, say};
use crate::dice::Dice;
use crate::place::{self, LIMIT, address, name_of, number_in, scale, stamped};
use ginnel::call::{Call, CallFailure, Client, Server};
use ginnel::mail::{Mailbox, Post};
use ginnel::stream::{Listener, Reader, Stream, Writer};
use ginnel::{Arrival, Interrupter, Link, Select, Selected};
use ginnel_os::poll;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(5);

/// Between processes, and between threads.
const SCHEMES: [&str; 2] = ["shm", "mem"];

/// What is waited for: one of each kind, in this order.
const KINDS: [&str; 5] = ["request", "response", "letter", "connection", "bytes"];

fn kind_of(arrival: &Arrival<'_>) -> &'static str {
    match arrival {
        Arrival::Request(Ok(_)) => KINDS[0],
        Arrival::Response(Ok(Some(_))) => KINDS[1],
        Arrival::Letter(Ok(_)) => KINDS[2],
        Arrival::Connection(Ok(_)) => KINDS[3],
        Arrival::Bytes(Ok(1..)) => KINDS[4],
        other => panic!("{other:?}"),
    }
}

/// The handles that are waited for.
struct Near {
    server: Server,
    client: Client,
    mailbox: Mailbox,
    listener: Listener,
    reader: Reader,
    /// Its other way is nobody's business.
    _writer: Writer,
}

/// Those of their peers.
struct Far {
    client: Client,
    server: Server,
    post: Post,
    mailbox: String,
    listener: String,
    writer: Stream,
}

fn ends(scheme: &str) -> (Near, Far) {
    let of = |what: &str| format!("{scheme}:{}", name_of(&address(what, "")));
    let [requests, calls, mailbox, listener, bytes] = ["kind-r", "kind-c", "kind-m", "kind-l", "kind-b"].map(of);
    let connecting = Listener::bind(&bytes).unwrap();
    let writer = Stream::connect(&bytes).unwrap();
    let (reader, _writer) = connecting.accept().unwrap().split();
    let near = Near {
        server: Server::open(&requests).unwrap(),
        client: Client::open(&calls).unwrap(),
        mailbox: Mailbox::open(&mailbox).unwrap(),
        listener: Listener::bind(&listener).unwrap(),
        reader,
        _writer,
    };
    let (client, server) = (Client::open(&requests).unwrap(), Server::open(&calls).unwrap());
    (near, Far { client, server, post: Post::new(), mailbox, listener, writer })
}

impl Near {
    fn select<'a>(&'a self, call: &'a Call<'_>) -> Select<'a> {
        Select::new().recv(&self.server).recv(call).recv(&self.mailbox).recv(&self.listener).recv(&self.reader)
    }
}

impl Far {
    /// Has something of each kind arrive, one at a time, each when the one before has arrived and whoever waits may be asleep again.
    fn act(self, rounds: u64, arrived: &mpsc::Receiver<()>) {
        let mut calls = Vec::new();
        let mut streams = Vec::new();
        let request = self.server.recv().unwrap();
        for round in 0..rounds {
            for kind in KINDS {
                std::thread::sleep(Duration::from_millis(1));
                match kind {
                    "request" => calls.push(self.client.begin(&stamped(round, 40)).unwrap()),
                    "response" => request.part(&stamped(round, 400)).unwrap(),
                    "letter" => self.post.send_to(&self.mailbox, &stamped(round, 8)).unwrap(),
                    "connection" => streams.push(Stream::connect(&self.listener).unwrap()),
                    _ => (&self.writer).write_all(&stamped(round, 8)).unwrap(),
                }
                arrived.recv().unwrap();
            }
        }
        request.finish().unwrap();
        arrived.recv().unwrap();
    }
}

/// Each kind arrives while `next` waits for all of them.
fn each_wakes(scheme: &str, rounds: u64, mut next: impl for<'a> FnMut(&mut Select<'a>) -> Selected<'a>) {
    let (near, far) = ends(scheme);
    let call = near.client.begin(b"many parts").unwrap();
    let (say, arrived) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || far.act(rounds, &arrived));
        let mut select = near.select(&call);
        for round in 0..rounds {
            for (index, kind) in KINDS.into_iter().enumerate() {
                let found = next(&mut select);
                assert_eq!((found.index, kind_of(&found.arrival)), (index, kind), "{scheme}, round {round}");
                match found.arrival {
                    Arrival::Request(request) => assert_eq!(number_in(&request.unwrap()), round),
                    Arrival::Response(response) => assert_eq!(number_in(&response.unwrap().unwrap()), round),
                    Arrival::Letter(letter) => assert_eq!(number_in(&letter.unwrap()), round),
                    Arrival::Bytes(there) => {
                        let mut bytes = vec![0; there.unwrap()];
                        assert_eq!((&near.reader).read(&mut bytes).unwrap(), bytes.len());
                        assert_eq!(number_in(&bytes), round);
                    }
                    _ => {}
                }
                say.send(()).unwrap();
            }
        }
        let end = next(&mut select);
        assert!(matches!(end.arrival, Arrival::Response(Ok(None))), "{end:?}");
        say.send(()).unwrap();
    });
}

#[test]
fn each_kind_wakes_a_select_that_sleeps() {
    let _limit = place::limit(LIMIT);
    for scheme in SCHEMES {
        each_wakes(scheme, 10 * scale(), |select| select.wait());
    }
}

#[test]
fn each_kind_makes_a_descriptor_readable() {
    let _limit = place::limit(LIMIT);
    let directory = place::new_directory();
    assert_eq!(Child::start("kinds alone .", directory.path()).reply_within(LIMIT).ok(), "done");
}

/// Not a test: in a process of its own, where the news of others, and others who drain them, do not help.
fn alone() {
    for scheme in SCHEMES {
        each_wakes(scheme, 10 * scale(), when_readable);
    }
    a_descriptor_tells_of_pipes_and_of_deadlines();
    a_descriptor_is_not_readable_for_nothing();
    say("ok done");
}

/// What made it readable is taken away by the next look.
fn a_descriptor_is_not_readable_for_nothing() {
    for scheme in SCHEMES {
        let (near, far) = ends(scheme);
        let call = near.client.begin(b"never answered").unwrap();
        let mut select = near.select(&call);
        let ready = select.descriptor().unwrap().try_clone_to_owned().unwrap();
        let mut is_readable = |ms: u64| {
            assert!(select.try_now().is_none());
            let soon = Instant::now() + Duration::from_millis(ms);
            poll::readable(&[ready.as_fd()], Some(soon)).unwrap()
        };
        // What the handles had to say when they were made.
        (0..100).find(|_| !is_readable(20)).expect("it comes to rest");
        far.post.send_to(&far.mailbox, b"a letter").unwrap();
        assert!(poll::readable(&[ready.as_fd()], None).unwrap());
        assert!(matches!(select.try_now().unwrap().arrival, Arrival::Letter(Ok(_))));
        let mut is_readable = |ms: u64| {
            assert!(select.try_now().is_none());
            let soon = Instant::now() + Duration::from_millis(ms);
            poll::readable(&[ready.as_fd()], Some(soon)).unwrap()
        };
        (0..10).find(|_| !is_readable(20)).expect("it comes to rest again");
    }
}

/// What is waited for by a descriptor of its own, and by the clock.
fn a_descriptor_tells_of_pipes_and_of_deadlines() {
    let (near, _far) = ends("shm");
    let (writer, pipe) = Link::new("pipe:").unwrap().pair().unwrap();
    let idle = near.client.begin(b"never answered").unwrap();
    let mut select = near.select(&idle).recv(&pipe);
    let sending = std::thread::spawn(move || {
        std::thread::sleep(SHORT);
        writer.send(b"through the kernel").unwrap();
        writer
    });
    let found = when_readable(&mut select);
    assert_eq!((found.index, &*found.arrival.message().unwrap()), (5, &b"through the kernel"[..]));
    drop(sending.join().unwrap());

    let call = near.client.begin_timeout(b"never answered", SHORT).unwrap();
    let told = when_readable(&mut near.select(&call));
    assert!(
        matches!(&told.arrival, Arrival::Response(Err(e)) if matches!(e.reason(), CallFailure::TimedOut)),
        "{told:?}"
    );
}

/// Waits as an event loop does.
fn when_readable<'a>(select: &mut Select<'a>) -> Selected<'a> {
    let ready = select.descriptor().unwrap().try_clone_to_owned().unwrap();
    loop {
        match select.try_now() {
            Some(found) => break found,
            None => _ = poll::readable(&[ready.as_fd()], None).unwrap(),
        }
    }
}

#[test]
fn each_kind_has_its_turn() {
    let _limit = place::limit(LIMIT);
    for scheme in SCHEMES {
        let (near, far) = ends(scheme);
        let call = near.client.begin(b"many parts").unwrap();
        let request = far.server.recv().unwrap();
        let (mut calls, mut streams) = (Vec::new(), Vec::new());
        for number in 0..6 {
            calls.push(far.client.begin(&stamped(number, 8)).unwrap());
            request.part(&stamped(number, 8)).unwrap();
            far.post.send_to(&far.mailbox, &stamped(number, 8)).unwrap();
            streams.push(Stream::connect(&far.listener).unwrap());
        }
        (&far.writer).write_all(b"these stay").unwrap();
        let mut select = near.select(&call);
        let served: Vec<usize> = (0..30).map(|_| select.wait().index).collect();
        assert_eq!(served, [0, 1, 2, 3, 4].repeat(6), "{scheme}");
    }
}

#[test]
fn a_deadline_ends_a_select_of_every_kind() {
    let _limit = place::limit(LIMIT);
    for scheme in SCHEMES {
        let (near, _far) = ends(scheme);
        let call = near.client.begin(b"never answered").unwrap();
        let mut select = near.select(&call);
        let begun = Instant::now();
        assert!(select.wait_timeout(SHORT).is_none());
        assert!(begun.elapsed() >= SHORT);
        assert!(select.wait_deadline(begun).is_none() && select.try_now().is_none());
    }
}

#[test]
fn an_interrupter_ends_a_select_of_every_kind() {
    let _limit = place::limit(LIMIT);
    for scheme in SCHEMES {
        let (near, _far) = ends(scheme);
        let call = near.client.begin(b"never answered").unwrap();
        let interrupters: [Interrupter; 5] = [
            near.server.interrupter(),
            near.client.interrupter(),
            near.mailbox.interrupter(),
            near.listener.interrupter(),
            near.reader.interrupter(),
        ];
        let mut select = near.select(&call);
        for (index, interrupter) in interrupters.into_iter().enumerate() {
            let interrupting = std::thread::spawn(move || {
                std::thread::sleep(SHORT);
                interrupter.interrupt();
            });
            let ended = select.wait();
            assert_eq!(ended.index, index, "{scheme}: {ended:?}");
            let said = match ended.arrival {
                Arrival::Request(ended) => ended.unwrap_err().to_string(),
                Arrival::Response(ended) => ended.unwrap_err().to_string(),
                Arrival::Letter(ended) => ended.unwrap_err().to_string(),
                Arrival::Connection(ended) => ended.unwrap_err().to_string(),
                Arrival::Bytes(ended) => ended.unwrap_err().to_string(),
                other => panic!("{other:?}"),
            };
            assert!(said.contains("interrupted"), "{scheme}: {said}");
            interrupting.join().unwrap();
        }
    }
}

/// A call's own deadline counts, also where the select has none.
#[test]
fn a_call_that_is_over_is_told() {
    let _limit = place::limit(LIMIT);
    for scheme in SCHEMES {
        let (near, _far) = ends(scheme);
        let begun = Instant::now();
        let call = near.client.begin_timeout(b"never answered", SHORT).unwrap();
        let mut select = near.select(&call);
        for _ in 0..2 {
            let told = select.wait();
            assert!(begun.elapsed() >= SHORT);
            assert!(
                matches!(&told.arrival, Arrival::Response(Err(e)) if matches!(e.reason(), CallFailure::TimedOut)),
                "{told:?}"
            );
        }
        select.remove(1);
        assert!(select.try_now().is_none());
    }
}

/// Responses to several calls of one client come by one link: a look at one may take what belongs to another.
#[test]
fn calls_of_one_client_share_a_select() {
    let _limit = place::limit(LIMIT);
    const CALLS: usize = 4;
    for (scheme, seed) in SCHEMES.into_iter().zip([3, 4]) {
        let (near, far) = ends(scheme);
        for round in 0..20 * scale() {
            std::thread::scope(|scope| {
                let calls: Vec<Call<'_>> =
                    (0..CALLS as u64).map(|number| near.client.begin(&stamped(number, 8)).unwrap()).collect();
                let answering = far.server.try_clone().unwrap();
                scope.spawn(move || {
                    let mut dice = Dice::new(seed + round);
                    let mut requests: Vec<_> = (0..CALLS).map(|_| Some(answering.recv().unwrap())).collect();
                    let mut sent = [0; CALLS];
                    while requests.iter().any(Option::is_some) {
                        let at = dice.below(CALLS as u64) as usize;
                        let Some(request) = &requests[at] else { continue };
                        if sent[at] == 10 {
                            requests[at].take().unwrap().finish().unwrap();
                            continue;
                        }
                        let number = number_in(request);
                        request.part(&stamped(number * 100 + sent[at], 20)).unwrap();
                        sent[at] += 1;
                        if dice.below(3) == 0 {
                            std::thread::sleep(Duration::from_micros(50));
                        }
                    }
                });
                let mut select = Select::new();
                calls.iter().for_each(|call| _ = select.add(call));
                let mut next = [0; CALLS];
                while !select.is_empty() {
                    let found = select.wait();
                    match found.arrival {
                        Arrival::Response(Ok(Some(part))) => {
                            assert_eq!(number_in(&part), found.index as u64 * 100 + next[found.index]);
                            next[found.index] += 1;
                        }
                        Arrival::Response(Ok(None)) => select.remove(found.index),
                        other => panic!("{other:?}"),
                    }
                }
                assert_eq!(next, [10; CALLS]);
            });
        }
    }
}

/// Serves some calls: fills their client's link with parts of the last one, says so, sends the rest, and then answers the others.
fn stream_first(server: &Server, calls: usize, filled: &mpsc::Sender<()>) {
    let mut requests: Vec<_> = (0..calls).map(|_| server.recv().unwrap()).collect();
    let busy = requests.pop().unwrap();
    for number in 0..PARTS {
        busy.part(&stamped(number, 8)).unwrap();
        if number == 7 {
            filled.send(()).unwrap();
        }
    }
    busy.finish().unwrap();
    requests.into_iter().for_each(|request| request.reply(b"at last").unwrap());
}

const PARTS: u64 = 1000;

/// Those that wait beside a stream are looked at first. They do not fail for its parts, and get their answers.
#[test]
fn calls_wait_beside_the_stream_of_another() {
    let _limit = place::limit(LIMIT);
    for (scheme, calls) in SCHEMES.into_iter().zip([2, 8]).chain(SCHEMES.into_iter().zip([8, 2])) {
        let address = address("beside", "capacity=8").replacen("shm", scheme, 1);
        let (server, client) = (Server::open(&address).unwrap(), Client::open(&address).unwrap());
        let begun: Vec<_> = (0..calls).map(|_| client.begin(b"x").unwrap()).collect();
        let (say, filled) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || stream_first(&server, calls, &say));
            filled.recv().unwrap();
            let mut select = Select::new();
            begun.iter().for_each(|call| _ = select.add(call));
            let mut next = 0;
            while !select.is_empty() {
                let found = select.wait();
                match found.arrival {
                    Arrival::Response(Ok(Some(part))) if found.index == calls - 1 => {
                        assert_eq!(number_in(&part), next);
                        next += 1;
                    }
                    Arrival::Response(Ok(Some(answer))) => assert_eq!((&*answer, next), (&b"at last"[..], PARTS)),
                    Arrival::Response(Ok(None)) => select.remove(found.index),
                    other => panic!("{scheme}, {calls}: {other:?}"),
                }
            }
            assert_eq!(next, PARTS);
        });
    }
}

/// Nobody waits for what is before the response in the link: it goes aside while there is room, and then the call says so.
#[test]
fn a_call_comes_by_what_nobody_receives() {
    let _limit = place::limit(LIMIT);
    for scheme in SCHEMES {
        let address = address("before", "capacity=8").replacen("shm", scheme, 1);
        let (server, client) = (Server::open(&address).unwrap(), Client::open(&address).unwrap());
        let [first, second, third] = [b"1", b"2", b"3"].map(|request| client.begin(request).unwrap());
        let [one, two, three] = [(); 3].map(|()| server.recv().unwrap());
        let mut select = Select::new().recv(&second);
        assert!(select.try_now().is_none());
        (0..7).for_each(|number| one.part(&stamped(number, 8)).unwrap());
        two.reply(b"second").unwrap();
        let arrival = select.wait().arrival;
        assert!(matches!(&arrival, Arrival::Response(Ok(Some(answer))) if **answer == *b"second"), "{arrival:?}");
        drop(arrival);
        let mut select = Select::new().recv(&third);
        one.part(&stamped(7, 8)).unwrap();
        three.reply(b"third").unwrap();
        let told = select.wait().arrival;
        let Arrival::Response(Err(e)) = told else { panic!("{told:?}") };
        assert!(matches!(e.reason(), CallFailure::SetAside { limit: 8 }), "{e}");
        // Whoever adds the other then is not told again.
        select.add(&first);
        for number in 0..8 {
            let found = select.wait();
            let Arrival::Response(Ok(Some(part))) = found.arrival else { panic!("{found:?}") };
            if found.index == 0 {
                assert_eq!(&*part, b"third");
                break;
            }
            assert_eq!(number_in(&part), number);
        }
    }
}

/// The debt arises when the descriptor is armed: it becomes readable for that, and again when it is time to try once more.
#[test]
fn a_descriptor_tells_of_what_a_server_owes() {
    let _limit = place::limit(LIMIT);
    for scheme in SCHEMES {
        let address = address("owes", "capacity=4").replacen("shm", scheme, 1);
        let (server, client) = (Server::open(&address).unwrap(), Client::open(&address).unwrap());
        let call = client.begin(b"x").unwrap();
        let mut select = Select::new().recv(&server);
        let ready = select.descriptor().unwrap().try_clone_to_owned().unwrap();
        let arrival = select.try_now().unwrap().arrival;
        let Arrival::Request(Ok(request)) = arrival else { panic!("{arrival:?}") };
        (0..4).for_each(|_| request.part(b"part").unwrap());
        assert!(select.try_now().is_none());
        drop(request);
        (0..4).for_each(|_| assert_eq!(&*call.recv().unwrap().unwrap(), b"part"));
        let error = loop {
            poll::readable(&[ready.as_fd()], None).unwrap();
            assert!(select.try_now().is_none());
            match call.try_recv() {
                Err(e) if matches!(e.reason(), CallFailure::Empty) => {}
                other => break other.unwrap_err(),
            }
        };
        assert!(matches!(error.reason(), CallFailure::GivenUp), "{error}");
    }
}

// ---- killed

/// Not a test: a process that listens, or connects, until it is killed.
pub(crate) fn role(rest: &str) {
    let (what, address) = rest.split_once(' ').expect("what, and an address");
    let _kept: Box<dyn std::any::Any> = match what {
        "alone" => return alone(),
        "listen" => Box::new(Listener::bind(address).unwrap()),
        _ => {
            let mut stream = Stream::connect(address).unwrap();
            stream.write_all(&stamped(7, 40)).unwrap();
            Box::new(stream)
        }
    };
    say("ok there");
    std::thread::sleep(LIMIT);
}

/// Kills a child when whoever waits is asleep.
fn kill_soon(mut child: Child) -> std::thread::JoinHandle<Child> {
    std::thread::spawn(move || {
        std::thread::sleep(2 * SHORT);
        child.kill();
        assert!(child.becomes_zombie());
        child
    })
}

fn start(role: &str) -> Child {
    let mut child = Child::start(role, place::home());
    child.reply().ok();
    child
}

#[test]
fn a_killed_server_wakes_a_select_with_its_call() {
    let _limit = place::limit(LIMIT);
    for _ in 0..3 * scale() {
        let (near, _far) = ends("shm");
        let address = address("kind-death", "");
        let mut child = start("call");
        child.must(&format!("serve {address}"));
        let client = Client::open(&address).unwrap();
        let (idle, call) = (near.client.begin(b"never answered").unwrap(), client.begin(b"precious").unwrap());
        assert_eq!(child.must("take"), "precious");
        let mut select = near.select(&idle).recv(&call);
        let killing = kill_soon(child);
        let told = select.wait();
        assert_eq!(told.index, 5);
        let Arrival::Response(Err(e)) = told.arrival else { panic!("{told:?}") };
        assert!(matches!(e.reason(), CallFailure::Closed { died: 1 }), "{e}");
        drop(killing.join().unwrap());
    }
}

#[test]
fn a_killed_server_s_request_wakes_a_select_with_another_server() {
    let _limit = place::limit(LIMIT);
    for _ in 0..3 * scale() {
        let (near, far) = ends("shm");
        let mut child = start("call");
        child.must(&format!("serve {}", near.server.address()));
        let pending = far.client.begin(b"precious").unwrap();
        assert_eq!(child.must("take"), "precious");
        let idle = near.client.begin(b"never answered").unwrap();
        let mut select = near.select(&idle);
        let killing = kill_soon(child);
        let found = select.wait();
        let Arrival::Request(Ok(request)) = found.arrival else { panic!("{found:?}") };
        assert!(request.redelivered() && &*request == b"precious");
        request.reply(b"done").unwrap();
        assert_eq!(&*pending.recv().unwrap().unwrap(), b"done");
        drop(killing.join().unwrap());
    }
}

#[test]
fn a_killed_peer_of_a_stream_wakes_a_select() {
    let _limit = place::limit(LIMIT);
    for _ in 0..3 * scale() {
        let (near, far) = ends("shm");
        let idle = near.client.begin(b"never answered").unwrap();
        let child = start(&format!("kinds connect {}", far.listener));
        let found = near.select(&idle).wait();
        let Arrival::Connection(Ok(stream)) = found.arrival else { panic!("{found:?}") };
        let stream = *stream;
        let mut select = near.select(&idle).recv(&stream);
        let Arrival::Bytes(Ok(40)) = select.wait().arrival else { panic!("what it wrote arrives first") };
        let mut bytes = [0; 40];
        (&stream).read_exact(&mut bytes).unwrap();
        assert_eq!(number_in(&bytes), 7);
        let killing = kill_soon(child);
        let told = select.wait();
        assert!(matches!(&told.arrival, Arrival::Bytes(Err(e)) if e.kind() == ErrorKind::ConnectionReset), "{told:?}");
        drop(killing.join().unwrap());
    }
}

/// The listener goes without accepting.
#[test]
fn a_killed_listener_wakes_a_select_with_a_stream_that_it_had_not_accepted() {
    let _limit = place::limit(LIMIT);
    for _ in 0..3 * scale() {
        let (near, _far) = ends("shm");
        let idle = near.client.begin(b"never answered").unwrap();
        let address = address("kind-refused", "");
        let child = start(&format!("kinds listen {address}"));
        let stream = Stream::connect(&address).unwrap();
        let mut select = near.select(&idle).recv(&stream);
        let killing = kill_soon(child);
        let told = select.wait();
        assert!(matches!(&told.arrival, Arrival::Bytes(Err(e)) if e.kind() == ErrorKind::ConnectionReset), "{told:?}");
        drop(killing.join().unwrap());
    }
}

/// A peer that leaves in good order.
#[test]
fn the_end_of_a_stream_and_the_last_server_s_leaving_are_told() {
    let _limit = place::limit(LIMIT);
    for scheme in SCHEMES {
        let (near, far) = ends(scheme);
        let call = near.client.begin(b"x").unwrap();
        let mut select = near.select(&call);
        let leaving = std::thread::spawn(move || {
            std::thread::sleep(SHORT);
            drop(far.server);
            std::thread::sleep(SHORT);
            drop(far.writer);
        });
        let told = select.wait();
        let Arrival::Response(Err(e)) = told.arrival else { panic!("{told:?}") };
        assert!(matches!(e.reason(), CallFailure::Closed { died: 0 }), "{e}");
        select.remove(told.index);
        for _ in 0..2 {
            assert!(matches!(select.wait().arrival, Arrival::Bytes(Ok(0))), "the end stays");
        }
        leaving.join().unwrap();
    }
}

#[test]
#[should_panic(expected = "expected of a receiver")]
fn what_is_no_message_is_not_taken_for_one() {
    let (near, far) = ends("mem");
    far.post.send_to(&far.mailbox, b"a letter").unwrap();
    drop(Select::new().recv(&near.mailbox).wait().arrival.message());
}
