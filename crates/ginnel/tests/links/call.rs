//! Requests and responses: what is answered, and what each side is told when the other one goes.

use crate::child::{Child, say};
use crate::dice::Dice;
use crate::place::{self, LIMIT, address, number_in, scale, stamped};
use ginnel::call::{Call, CallFailure, Client, OnDeath, Request, ServeFailure, Server};
use ginnel::{ErrorKind, Link, Receiver, Sender, Shape};
use std::io::BufRead;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// By when a survivor must know. The promise is 100 ms; a busy test machine may be late.
const TOLD: Duration = Duration::from_secs(1);

/// The same link between processes and between threads.
fn both(name: &str, options: &str) -> [String; 2] {
    let shm = address(name, options);
    [shm.clone(), shm.replacen("shm:", "mem:", 1)]
}

/// Answers as many requests as are asked for, each with what it holds, reversed.
fn serve(server: &Server, requests: u64) {
    for _ in 0..requests {
        let request = server.recv().unwrap();
        let answer: Vec<u8> = request.iter().rev().copied().collect();
        request.reply(&answer).unwrap();
    }
}

// ---- in one process

#[test]
fn requests_of_any_size_are_answered() {
    let _limit = place::limit(LIMIT);
    for address in both("sizes", "max=2MiB") {
        let server = Server::open(&address).unwrap();
        let client = Client::open(&address).unwrap();
        let sizes = [0, 1, 79, 80, 81, 95, 96, 97, 112, 113, 5000, 1 << 20];
        std::thread::scope(|scope| {
            scope.spawn(move || serve(&server, sizes.len() as u64));
            for len in sizes {
                let request = stamped(len as u64, len);
                let response = client.call(&request).unwrap();
                assert!(response.iter().rev().eq(request.iter()), "{len} bytes");
                assert_eq!((response.redelivered(), response.pid()), (false, std::process::id()));
            }
        });
    }
}

#[test]
fn many_clients_and_many_servers_share_the_work() {
    let _limit = place::limit(LIMIT);
    const CLIENTS: u64 = 3;
    let each = 2000 * scale();
    for address in both("many", "") {
        let served = AtomicU64::new(0);
        let first = Server::open(&address).unwrap();
        std::thread::scope(|scope| {
            for server in [first.try_clone().unwrap(), first.try_clone().unwrap(), first] {
                let served = &served;
                scope.spawn(move || {
                    while served.load(SeqCst) < CLIENTS * each {
                        let Ok(request) = server.recv_timeout(Duration::from_millis(20)) else { continue };
                        let number = number_in(&request);
                        served.fetch_add(1, SeqCst);
                        request.reply(&stamped(number + 1, 8 + number as usize % 300)).unwrap();
                    }
                });
            }
            for client in 0..CLIENTS {
                let address = &address;
                scope.spawn(move || {
                    let handle = Client::open(address).unwrap();
                    for number in client * each..(client + 1) * each {
                        let response = handle.call(&stamped(number, 8 + number as usize % 200)).unwrap();
                        assert_eq!(number_in(&response), number + 1);
                    }
                });
            }
        });
        assert_eq!(served.load(SeqCst), CLIENTS * each);
    }
}

#[test]
fn a_stream_of_responses_ends() {
    let _limit = place::limit(LIMIT);
    for address in both("parts", "") {
        let server = Server::open(&address).unwrap();
        let client = Client::open(&address).unwrap();
        let call = client.begin(b"").unwrap();
        let request = server.recv().unwrap();
        (0..5).for_each(|number| request.part(&stamped(number, 20 + 50 * number as usize)).unwrap());
        request.finish().unwrap();
        for number in 0..5 {
            assert_eq!(number_in(&call.recv().unwrap().unwrap()), number);
        }
        assert!(call.recv().unwrap().is_none() && call.recv().unwrap().is_none(), "the end stays");
    }
}

#[test]
fn calls_under_way_are_told_apart() {
    let _limit = place::limit(LIMIT);
    for address in both("several", "") {
        let server = Server::open(&address).unwrap();
        let client = Client::open(&address).unwrap();
        let mut calls: Vec<Call<'_>> = (0..20).map(|number| client.begin(&stamped(number, 8)).unwrap()).collect();
        // Answered in another order than asked, and received in a third.
        let requests: Vec<Request<'_>> = (0..20).map(|_| server.recv().unwrap()).collect();
        for request in requests.into_iter().rev() {
            let number = number_in(&request);
            request.part(&stamped(number + 100, 30)).unwrap();
            request.reply(&stamped(number + 200, 300)).unwrap();
        }
        for at in [7, 0, 19, 3] {
            let first = calls[at].recv().unwrap().unwrap();
            assert_eq!(number_in(&first), at as u64 + 100);
        }
        for (number, call) in calls.iter_mut().enumerate() {
            if ![7, 0, 19, 3].contains(&number) {
                assert_eq!(number_in(&call.recv().unwrap().unwrap()), number as u64 + 100);
            }
            assert_eq!(number_in(&call.recv().unwrap().unwrap()), number as u64 + 200);
            assert!(call.recv().unwrap().is_none());
        }
    }
}

#[test]
fn limits_of_a_client_are_errors_that_name_them() {
    let _limit = place::limit(LIMIT);
    let address = address("limits", "capacity=4");
    let server = Server::open(&address).unwrap();
    let client = Client::open(&address).unwrap();
    assert_eq!(client.limit(), 4);
    let mut calls: Vec<Call<'_>> = (0..4).map(|_| client.begin(b"x").unwrap()).collect();
    let error = client.begin(b"x").unwrap_err();
    assert!(matches!(error.reason(), CallFailure::TooManyCalls { limit: 4, given_up: 0 }), "{error}");
    // One that is dropped counts until its server is done with it.
    drop(calls.remove(0));
    assert!(client.begin(b"x").is_err());
    let mut requests: Vec<Request<'_>> = (0..4).map(|_| server.recv().unwrap()).collect();
    drop(requests.remove(0));
    let fifth = client.begin(b"x").unwrap();
    // The stream of one call, unread, is in the way of another.
    let streaming = requests.remove(0);
    (0..4).for_each(|_| streaming.part(b"part").unwrap());
    let error = calls[2].recv().unwrap_err();
    assert!(matches!(error.reason(), CallFailure::SetAside { limit: 4 }), "{error}");
    streaming.part(b"part").unwrap();
    (0..5).for_each(|_| assert_eq!(&*calls[0].recv().unwrap().unwrap(), b"part"));
    drop(fifth);
}

#[test]
fn deadlines_travel_and_are_kept() {
    let _limit = place::limit(LIMIT);
    for address in both("deadline", "") {
        let server = Server::open(&address).unwrap();
        let client = Client::open(&address).unwrap();
        assert!(matches!(server.try_recv().unwrap_err().reason(), ServeFailure::Empty));
        assert!(matches!(server.recv_timeout(Duration::from_millis(2)).unwrap_err().reason(), ServeFailure::TimedOut));
        let deadline = Instant::now() + Duration::from_millis(30);
        let late = client.call_deadline(b"slow", deadline).unwrap_err();
        assert!(matches!(late.reason(), CallFailure::TimedOut), "{late}");
        assert!(Instant::now() >= deadline, "it was given its time");
        let request = server.recv().unwrap();
        let seen = request.deadline().unwrap();
        assert!(seen.max(deadline) - seen.min(deadline) < TOLD, "the same moment");
        assert!(request.is_cancelled(), "its call was dropped when it failed");
        drop(request);
        let call = client.begin(b"no deadline").unwrap();
        assert!(matches!(call.try_recv().unwrap_err().reason(), CallFailure::Empty));
        assert!(matches!(call.recv_timeout(Duration::from_millis(2)).unwrap_err().reason(), CallFailure::TimedOut));
        let request = server.recv().unwrap();
        assert_eq!(request.deadline(), None);
        request.reply(b"after all").unwrap();
        assert_eq!(&*call.recv().unwrap().unwrap(), b"after all");
    }
}

#[test]
fn a_call_that_is_dropped_is_cancelled_and_no_other() {
    let _limit = place::limit(LIMIT);
    for address in both("cancel", "") {
        let server = Server::open(&address).unwrap();
        let client = Client::open(&address).unwrap();
        let (first, second) = (client.begin(b"first").unwrap(), client.begin(b"second").unwrap());
        let (one, two) = (server.recv().unwrap(), server.recv().unwrap());
        assert!(!one.is_cancelled() && !two.is_cancelled());
        drop(first);
        assert!(one.is_cancelled() && !two.is_cancelled());
        one.part(b"thrown away").unwrap(); // nobody waits for it, but the client is there
        one.reply(b"thrown away").unwrap();
        two.reply(b"kept").unwrap();
        assert_eq!(&*second.recv().unwrap().unwrap(), b"kept");
        // A request that no server has taken yet.
        drop(client.begin(b"third").unwrap());
        assert!(server.recv().unwrap().is_cancelled());
    }
}

/// Its link is full of the stream of a call that it has dropped, and it does not receive.
#[test]
fn a_client_that_took_one_part_of_a_stream_holds_no_server_up() {
    let _limit = place::limit(LIMIT);
    for address in both("dropped-stream", "capacity=4&wait=block") {
        let server = Server::open(&address).unwrap();
        let client = Client::open(&address).unwrap();
        std::thread::scope(|scope| {
            let streaming = scope.spawn(move || {
                let request = server.recv().unwrap();
                let error = (0..100).find_map(|_| request.part(b"one of many").err()).unwrap();
                assert!(matches!(error.reason(), ServeFailure::ClientGone), "{error}");
                drop(request);
                server
            });
            assert_eq!(&*client.call(b"stream").unwrap(), b"one of many");
            let server = streaming.join().unwrap(); // nobody receives meanwhile
            // All places are for new calls again, once the end of the dropped one came.
            assert!(matches!(server.try_recv().unwrap_err().reason(), ServeFailure::Empty));
            scope.spawn(move || serve(&server, 20));
            for _ in 0..5 {
                let mut calls: Vec<Call<'_>> = (0..4).map(|_| begin_patiently(&client)).collect();
                calls.iter_mut().for_each(|call| assert_eq!(&*call.recv().unwrap().unwrap(), b"ba"));
            }
        });
    }
}

/// Begins a call as soon as one is over that was dropped.
fn begin_patiently(client: &Client) -> Call<'_> {
    loop {
        match client.begin(b"ab") {
            Ok(call) => return call,
            Err(e) => assert!(matches!(e.reason(), CallFailure::TooManyCalls { .. }), "{e}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Parts fill the client's link, so the end of the call has no room: the server owes it, and whether it is tried in vain, dropped or both, does not wait.
#[test]
fn an_end_without_room_is_told_later() {
    let _limit = place::limit(2 * LIMIT);
    for address in both("owed", "capacity=4") {
        let mut server = Server::open(&address).unwrap();
        let client = Client::open(&address).unwrap();
        for round in 0..4 {
            let call = client.begin(b"x").unwrap();
            let request = server.recv().unwrap();
            (0..4).for_each(|_| request.part(b"part").unwrap());
            if round % 2 == 0 {
                let error = request.reply_timeout(b"no room", Duration::from_millis(5)).unwrap_err();
                assert!(matches!(error.reason(), ServeFailure::TimedOut), "{error}");
            } else {
                drop(request);
            }
            assert!(matches!(server.try_recv().unwrap_err().reason(), ServeFailure::Empty));
            (0..4).for_each(|_| assert_eq!(&*call.recv().unwrap().unwrap(), b"part"));
            // It sleeps over its next request meanwhile, or is asked now and then.
            let told = AtomicU64::new(0);
            server = std::thread::scope(|scope| {
                let told = &told;
                let serving = scope.spawn(move || {
                    while told.load(SeqCst) == 0 {
                        let none = if round < 2 { server.recv_timeout(TOLD) } else { server.try_recv() };
                        assert!(none.is_err());
                    }
                    server
                });
                let error = call.recv_timeout(LIMIT).unwrap_err();
                assert!(matches!(error.reason(), CallFailure::GivenUp), "{error}");
                told.store(1, SeqCst);
                serving.join().unwrap()
            });
        }
    }
}

#[test]
fn a_server_that_is_dropped_tells_what_it_owes() {
    let _limit = place::limit(LIMIT);
    for address in both("owed-drop", "capacity=4") {
        let server = Server::open(&address).unwrap();
        let _other = server.try_clone().unwrap(); // so that the link does not end
        let client = Client::open(&address).unwrap();
        let call = client.begin(b"x").unwrap();
        let request = server.recv().unwrap();
        (0..4).for_each(|_| request.part(b"part").unwrap());
        drop(request);
        (0..4).for_each(|_| assert_eq!(&*call.recv().unwrap().unwrap(), b"part"));
        drop(server);
        assert!(matches!(call.try_recv().unwrap_err().reason(), CallFailure::GivenUp));
    }
}

/// It has no descriptor for the client's link when its answer is ready.
#[test]
fn a_server_without_descriptors_tells_later() {
    let _limit = place::limit(LIMIT);
    let address = address("no-descriptors", "");
    let client = Client::open(&address).unwrap();
    let mut server = role(place::home());
    server.must(&format!("serve {address}"));
    let call = client.begin(b"x").unwrap();
    server.must("take");
    server.must("nofile 3");
    assert!(server.ask("answer y").text().starts_with("err"), "no descriptor");
    assert!(matches!(call.try_recv().unwrap_err().reason(), CallFailure::Empty));
    server.must("nofile 64");
    server.must("nothing");
    assert!(matches!(call.recv_timeout(LIMIT).unwrap_err().reason(), CallFailure::GivenUp));
}

#[test]
fn a_request_without_an_answer_is_told() {
    let _limit = place::limit(LIMIT);
    for address in both("given-up", "") {
        let server = Server::open(&address).unwrap();
        let client = Client::open(&address).unwrap();
        let answered = |how: &dyn Fn(Request<'_>)| {
            let call = client.begin(b"x").unwrap();
            how(server.recv().unwrap());
            call.recv().map(|response| response.is_some())
        };
        let error = answered(&|request| drop(request)).unwrap_err();
        assert!(matches!(error.reason(), CallFailure::GivenUp), "{error}");
        let error = answered(&|request| request.fail("out of ink").unwrap()).unwrap_err();
        assert!(matches!(error.reason(), CallFailure::Failed(why) if why == b"out of ink"), "{error}");
        assert!(error.to_string().contains("out of ink"));
        assert!(!answered(&|request| request.finish().unwrap()).unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let client = Client::open(&address).unwrap();
                let error = client.call(b"x").unwrap_err();
                assert!(matches!(error.reason(), CallFailure::NoResponse), "{error}");
            });
            server.recv().unwrap().finish().unwrap();
        });
    }
}

#[test]
fn the_last_server_that_leaves_is_told_to_who_sleeps() {
    let _limit = place::limit(LIMIT);
    for address in both("leaves", "wait=block") {
        let client = Client::open(&address).unwrap();
        let server = Server::open(&address).unwrap();
        let clone = server.try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(10));
                drop(clone);
                std::thread::sleep(Duration::from_millis(10));
                drop(server);
            });
            let error = client.call(b"anybody?").unwrap_err();
            assert!(matches!(error.reason(), CallFailure::Closed { died: 0 }), "{error}");
        });
        let error = client.call(b"now?").unwrap_err();
        assert!(matches!(error.reason(), CallFailure::Closed { died: 0 }), "it is not even sent: {error}");
        assert!(client.is_closed());
    }
}

#[test]
fn a_follower_waits_for_the_next_server() {
    let _limit = place::limit(LIMIT);
    for address in both("follower", "follow") {
        let client = Client::open(&address).unwrap();
        drop(Server::open(&address).unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                serve(&Server::open(&address).unwrap(), 1);
            });
            assert_eq!(&*client.call(b"ab").unwrap(), b"ba");
        });
    }
}

#[test]
fn waits_are_interrupted() {
    let _limit = place::limit(LIMIT);
    for address in both("interrupt", "wait=block") {
        let (server, client) = (Server::open(&address).unwrap(), Client::open(&address).unwrap());
        for interrupter in [client.interrupter(), server.interrupter()] {
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(10));
                interrupter.interrupt();
            });
        }
        assert!(server.recv().unwrap_err().to_string().contains("interrupted"));
        let error = client.call(b"x").unwrap_err();
        assert!(error.to_string().contains("interrupted"), "{error}");
    }
}

#[test]
fn a_client_leaves_nothing_behind() {
    let _limit = place::limit(LIMIT);
    let directory = place::new_directory();
    let mut child = role(directory.path());
    for _ in 0..3 {
        child.must("whole shm:tidy");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "responses that nobody read are no reason");
    }
}

// ---- bad input

#[test]
fn a_request_that_is_too_large_names_the_limit() {
    let _limit = place::limit(LIMIT);
    for address in both("large", "max=1000") {
        let (server, client) = (Server::open(&address).unwrap(), Client::open(&address).unwrap());
        assert_eq!(client.max_request(), 968);
        let error = client.call(&[0; 969]).unwrap_err();
        assert!(matches!(error.reason(), CallFailure::TooLarge { len: 969, max: 968 }), "{error}");
        assert!(error.to_string().contains("968") && error.to_string().contains("?max="), "{error}");
        // An answer that is too large leaves no client without one.
        let call = client.begin(&[1; 968]).unwrap();
        let request = server.recv().unwrap();
        let error = request.reply(&[0; 985]).unwrap_err();
        assert!(matches!(error.reason(), ServeFailure::TooLarge { len: 985, max: 984 }), "{error}");
        assert!(matches!(call.recv().unwrap_err().reason(), CallFailure::GivenUp));
    }
}

#[test]
fn shapes_are_not_mixed() {
    let _limit = place::limit(LIMIT);
    for address in both("shape", "") {
        let server = Server::open(&address).unwrap();
        for error in [Sender::open(&address).unwrap_err(), Receiver::open(&address).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
            assert!(error.to_string().contains("queue") && error.to_string().contains("request"), "{error}");
            assert!(error.remedy_text().contains("`ginnel call`"), "{error}");
        }
        let client = Client::open(&address).unwrap();
        if address.starts_with("shm:") {
            let response =
                ginnel::list().unwrap().into_iter().flatten().find(|info| {
                    info.geometry.shape == Shape::Response && info.address.contains(place::name_of(&address))
                });
            let error = Receiver::open(&response.unwrap().address).unwrap_err();
            assert!(error.remedy_text().contains("belongs to one client"), "{error}");
        }
        drop((server, client));
        let _queue = Receiver::open(&address).unwrap();
        for error in [Client::open(&address).unwrap_err(), Server::open(&address).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
            assert!(error.to_string().contains("queue") && error.to_string().contains("request"), "{error}");
        }
    }
}

#[test]
fn a_name_may_be_as_long_as_any() {
    let _limit = place::limit(LIMIT);
    place::home();
    for name in ["x".repeat(200), "日".repeat(66)] {
        let address = format!("shm:{name}");
        let (server, client) = (Server::open(&address).unwrap(), Client::open(&address).unwrap());
        let call = client.begin(b"x").unwrap();
        server.recv().unwrap().reply(b"y").unwrap();
        assert_eq!(&*call.recv().unwrap().unwrap(), b"y");
    }
}

/// Messages that no client of ours sends, and links of responses that do not exist.
#[test]
fn hostile_requests_are_refused_one_by_one() {
    let _limit = place::limit(LIMIT);
    let address = address("hostile", "max=4KiB");
    let (server, client) = (Server::open(&address).unwrap(), Client::open(&address).unwrap());
    let forger = Link::new(&address).unwrap().shape(Shape::Request).sender().unwrap();
    let mut dice = Dice::new(7);
    for round in 0..200 * scale() {
        let len = dice.below(120) as usize;
        let mut bytes: Vec<u8> = (0..len).map(|_| dice.below(256) as u8).collect();
        let looks_good = round % 2 == 0 && len >= 32;
        if looks_good {
            bytes[0] = 1;
        } else if let Some(version) = bytes.first_mut() {
            *version = 2;
        }
        forger.send(&bytes).unwrap();
        match server.recv() {
            Ok(request) => {
                assert!(looks_good);
                assert_eq!(&*request, &bytes[32..]);
                let _ = request.deadline();
                assert!(request.is_cancelled(), "there is no such client");
                assert!(matches!(request.reply(b"x").unwrap_err().reason(), ServeFailure::ClientGone));
            }
            Err(error) => {
                assert!(!looks_good && matches!(error.reason(), ServeFailure::Malformed), "{error}");
            }
        }
    }
    let call = client.begin(b"still works").unwrap();
    server.recv().unwrap().reply(b"yes").unwrap();
    assert_eq!(&*call.recv().unwrap().unwrap(), b"yes");
}

#[test]
fn hostile_responses_are_refused() {
    let _limit = place::limit(LIMIT);
    let address = address("forged", "");
    let (_server, client) = (Server::open(&address).unwrap(), Client::open(&address).unwrap());
    let prefix = format!("{}.re-", place::name_of(&address));
    let names =
        std::fs::read_dir(place::home()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let name = names.into_iter().find(|name| name.starts_with(&prefix)).expect("the client's link");
    let forger = Link::new(&format!("shm:{name}")).unwrap().shape(Shape::Response).sender().unwrap();
    let call = client.begin(b"x").unwrap();
    for bad in [&b""[..], b"short", &[9; 16], &[1, 77, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]] {
        forger.send(bad).unwrap();
        let error = call.recv().unwrap_err();
        assert!(matches!(error.reason(), CallFailure::Malformed), "{error}");
    }
    // For a call that is not under way: passed over.
    forger.send(&[1, 1, 0, 0, 0, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    forger.send(&[1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, b'!']).unwrap();
    assert_eq!(&*call.recv().unwrap().unwrap(), b"!");
}

// ---- deaths

#[test]
fn a_request_in_the_hand_of_a_killed_server_goes_to_another() {
    let _limit = place::limit(LIMIT);
    for late in [false, true] {
        let address = address("redeliver", "");
        let client = Client::open(&address).unwrap();
        let mut doomed = role(place::home());
        doomed.must(&format!("serve {address}"));
        let call = client.begin(b"precious").unwrap();
        assert_eq!(doomed.must("take"), "precious");
        if late {
            doomed.must("part one"); // it has opened the client's link
            assert_eq!(&*call.recv().unwrap().unwrap(), b"one");
        }
        let server = Server::open(&address).unwrap();
        doomed.kill();
        let request = server.recv_timeout(LIMIT).unwrap();
        assert!(request.redelivered() && &*request == b"precious" && !request.is_cancelled());
        request.reply(b"done").unwrap();
        let response = call.recv().unwrap().unwrap();
        assert!(response.redelivered() && &*response == b"done");
    }
}

#[test]
fn who_asks_for_it_is_told_of_a_killed_server() {
    let _limit = place::limit(LIMIT);
    let address = address("tell", "");
    let client = Client::open(&address).unwrap().on_death(OnDeath::Tell);
    let mut doomed = role(place::home());
    doomed.must(&format!("serve {address}"));
    let call = client.begin(b"only once").unwrap();
    assert_eq!(doomed.must("take"), "only once");
    let server = Server::open(&address).unwrap();
    doomed.kill();
    // Telling is this server's work; there is nothing else for it.
    assert!(matches!(server.recv_timeout(Duration::from_millis(300)).unwrap_err().reason(), ServeFailure::TimedOut));
    let error = call.recv().unwrap_err();
    assert!(matches!(error.reason(), CallFailure::ServerDied), "{error}");
    // A request that nobody had in hand is served as any other.
    let call = client.begin(b"next").unwrap();
    server.recv().unwrap().reply(b"served").unwrap();
    assert_eq!(&*call.recv().unwrap().unwrap(), b"served");
}

/// The last server is killed: before it took the request, with it in hand, and when it had opened the client's link. The client sleeps, and is told.
#[test]
fn the_death_of_the_last_server_is_told_to_who_sleeps() {
    let _limit = place::limit(3 * LIMIT);
    let mut times = Vec::new();
    for round in 0..15 * scale() {
        let address = address("last", "wait=block");
        let client = Client::open(&address).unwrap();
        let mut doomed = role(place::home());
        doomed.must(&format!("serve {address}"));
        let call = client.begin(b"x").unwrap();
        if round % 3 > 0 {
            doomed.must("take");
        }
        if round % 3 > 1 {
            doomed.must("part one");
            assert_eq!(&*call.recv().unwrap().unwrap(), b"one");
        }
        let killed = std::thread::scope(|scope| {
            let killing = scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(10)); // past spinning, asleep
                let now = Instant::now();
                doomed.kill();
                now
            });
            let error = call.recv().unwrap_err();
            assert!(matches!(error.reason(), CallFailure::Closed { died: 1 }), "{error}");
            times.push(Instant::now());
            killing.join().unwrap()
        });
        let told = times.pop().unwrap().saturating_duration_since(killed);
        assert!(told < TOLD, "told after {told:?}");
        times.push(killed + told);
        // Whoever serves next sees that nobody waits.
        drop(call);
        let server = Server::open(&address).unwrap();
        let request = server.recv_timeout(LIMIT).unwrap();
        assert!(request.is_cancelled() && request.redelivered() == (round % 3 > 0));
    }
}

/// The watcher of the client's process is not the first to recover the dead server: somebody else is, and the client learns of it all the same.
#[test]
fn a_death_that_another_process_recovers_is_told_too() {
    let _limit = place::limit(LIMIT);
    for _ in 0..10 * scale() {
        let address = address("recovered", "wait=block");
        let client = Client::open(&address).unwrap();
        let (mut doomed, mut other) = (role(place::home()), role(place::home()));
        doomed.must(&format!("serve {address}"));
        let call = client.begin(b"x").unwrap();
        doomed.must("take");
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(10));
                doomed.kill();
                other.must(&format!("client {address} redeliver")); // whoever opens recovers first
            });
            let error = call.recv_timeout(LIMIT).unwrap_err();
            assert!(matches!(error.reason(), CallFailure::Closed { died: 1 }), "{error}");
        });
    }
}

#[test]
fn the_server_learns_that_its_client_was_killed() {
    let _limit = place::limit(LIMIT);
    for opened in [false, true] {
        let address = address("client-dies", "");
        let server = Server::open(&address).unwrap();
        let mut doomed = role(place::home());
        doomed.must(&format!("client {address} redeliver"));
        doomed.must("begin hello");
        let request = server.recv().unwrap();
        assert_eq!(request.pid(), doomed.pid());
        if opened {
            assert!(!request.is_cancelled());
            request.part(b"unread").unwrap();
        }
        doomed.kill_and_reap();
        let end = Instant::now() + TOLD;
        while !request.is_cancelled() {
            assert!(Instant::now() < end, "not told for {TOLD:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
        let error = request.reply(b"too late").unwrap_err();
        assert!(matches!(error.reason(), ServeFailure::ClientGone), "{error}");
        assert!(error.to_string().contains("killed"), "{error}");
    }
}

/// Everybody is killed, and responses are left that nobody will ever receive.
#[test]
fn clean_collects_what_killed_clients_left() {
    let _limit = place::limit(LIMIT);
    let directory = place::new_directory();
    let (mut client, mut server) = (role(directory.path()), role(directory.path()));
    server.must("serve shm:wreck");
    client.must("client shm:wreck redeliver");
    client.must("begin hello");
    server.must("take");
    server.must("part one");
    let mut cleaner = Child::start("script", directory.path());
    cleaner.reply().ok();
    assert_eq!(cleaner.must("clean real"), "", "everybody lives");
    client.kill_and_reap();
    server.kill_and_reap();
    let listed = cleaner.must("list");
    assert!(listed.contains(".re-") && listed.matches("Stale").count() == 2, "{listed}");
    let cleaned = cleaner.must("clean dry");
    assert!(cleaned.contains(".re-") && cleaned.contains("removed=true"), "{cleaned}");
    cleaner.must("clean real");
    // The request that the server had in hand waits for the next one.
    let left = cleaner.must("list");
    assert!(left.starts_with("shm:wreck Waiting 1") && !left.contains(';'), "{left}");
}

/// Clients and servers that are killed at random: each call that ends well ends with its own answer, and nothing hangs.
#[test]
fn a_soak_with_kills() {
    let _limit = place::limit(2 * LIMIT + Duration::from_secs(4 * scale()));
    let directory = place::new_directory();
    let lasts = Duration::from_secs(2 * scale());
    let mut dice = Dice::new(0xCA11);
    let server = || {
        let mut child = role(directory.path());
        child.must("serve shm:soak");
        child.tell("echo");
        child
    };
    let client = |seed: u64| {
        let mut child = role(directory.path());
        child.must("client shm:soak redeliver");
        child.tell(&format!("pound {} {seed}", lasts.as_millis()));
        child
    };
    let _steady = server();
    let mut servers = [server(), server()];
    let mut pounding = client(1);
    let mut doomed = client(2);
    let (end, mut kills) = (Instant::now() + lasts, 0);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5 + dice.below(40)));
        match dice.below(3) as usize {
            at @ (0 | 1) => {
                servers[at].kill_and_reap();
                servers[at] = server();
            }
            _ => {
                doomed.kill_and_reap();
                doomed = client(kills + 3);
            }
        }
        kills += 1;
    }
    let done = pounding.reply_within(LIMIT + lasts).ok();
    println!("{kills} kills, {done} calls answered");
    assert!(done.parse::<u64>().unwrap() > 0);
}

// ---- another process

struct Part {
    /// Leaked: what is taken from them is kept beside them.
    server: Option<&'static Server>,
    client: Option<&'static Client>,
    request: Option<Request<'static>>,
    call: Option<Call<'static>>,
}

fn role(directory: &std::path::Path) -> Child {
    let mut child = Child::start("call", directory);
    child.reply().ok();
    child
}

/// A process that serves and calls as it is told.
pub(crate) fn run() {
    let mut part = Part { server: None, client: None, request: None, call: None };
    say("ok ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("orders");
        match part.obey(&line.split(' ').collect::<Vec<_>>()) {
            Ok(text) => say(&format!("ok {text}")),
            Err(text) => say(&format!("err {text}")),
        }
    }
}

impl Part {
    fn obey(&mut self, order: &[&str]) -> Result<String, String> {
        let told = |e: &dyn std::fmt::Display| e.to_string();
        match order {
            ["serve", address] => self.server = Some(Box::leak(Box::new(Server::open(address).map_err(|e| told(&e))?))),
            ["client", address, how] => {
                let on_death = if *how == "tell" { OnDeath::Tell } else { OnDeath::Redeliver };
                let client = Client::open(address).map_err(|e| told(&e))?.on_death(on_death);
                self.client = Some(Box::leak(Box::new(client)));
            }
            ["take"] => {
                let request = self.server.expect("a server").recv().map_err(|e| told(&e))?;
                let text = String::from_utf8_lossy(&request).into_owned();
                self.request = Some(request);
                return Ok(text);
            }
            ["part", text] => self.request.as_ref().expect("a request").part(text.as_bytes()).map_err(|e| told(&e))?,
            ["answer", text] => {
                self.request.take().expect("a request").reply(text.as_bytes()).map_err(|e| told(&e))?;
            }
            ["begin", text] => {
                let call = self.client.expect("a client").begin(text.as_bytes()).map_err(|e| told(&e))?;
                self.call = Some(call);
            }
            ["whole", address] => return whole(address).map(|()| String::new()).map_err(|e| told(&*e)),
            ["nofile", most] => {
                crate::script::limit("nofile", most.parse().expect("a number")).map_err(|e| told(&e))?;
            }
            ["nothing"] => {
                let none = self.server.expect("a server").recv_timeout(Duration::from_millis(100));
                assert!(matches!(none.unwrap_err().reason(), ServeFailure::TimedOut));
            }
            ["echo"] => echo(self.server.expect("a server")),
            ["pound", ms, seed] => {
                let lasts = Duration::from_millis(ms.parse().expect("a number"));
                return pound(self.client.expect("a client"), lasts, seed.parse().expect("a number"));
            }
            _ => panic!("no such order: {order:?}"),
        }
        Ok(String::new())
    }
}

/// A conversation from beginning to end; nobody receives the responses.
fn whole(address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let (server, client) = (Server::open(address)?, Client::open(address)?);
    let _unheard = client.begin(b"hello")?;
    let request = server.recv()?;
    request.part(b"one")?;
    request.reply(b"two")?;
    Ok(())
}

/// Answers until it is killed: the number and one more; now and then in parts.
fn echo(server: &Server) -> ! {
    loop {
        let request = server.recv().expect("requests");
        let number = number_in(&request);
        if number % 5 == 0 && request.part(&stamped(number, 40)).is_err() {
            continue;
        }
        let _ = request.reply(&stamped(number + 1, 8 + number as usize % 500));
    }
}

/// Calls for a while, checks each answer, and says how many came.
fn pound(client: &Client, lasts: Duration, seed: u64) -> Result<String, String> {
    let (end, mut dice, mut number, mut answered) = (Instant::now() + lasts, Dice::new(seed), seed << 32, 0u64);
    while Instant::now() < end {
        number += 1;
        let call = client.begin(&stamped(number, 8 + dice.below(300) as usize)).map_err(|e| e.to_string())?;
        if dice.below(20) == 0 {
            continue; // given up
        }
        let mut last = None;
        while let Some(response) = call.recv_timeout(LIMIT).map_err(|e| e.to_string())? {
            let came = number_in(&response);
            if came != number + 1 && !(came == number && number % 5 == 0) {
                return Err(format!("{came} came for {number}"));
            }
            // A part comes once more if the request was redelivered, and is marked then.
            if came == number && last == Some(number) && !response.redelivered() {
                return Err(format!("a part of {number} came twice"));
            }
            last = Some(came);
        }
        if last != Some(number + 1) {
            return Err(format!("{number} ended with {last:?}"));
        }
        answered += 1;
    }
    Ok(answered.to_string())
}
