//! Requests, responses and letters: conversations that are made of links, so a death must leave each of their links in order, and the conversation too.
//!
//! After each kill: what the victim sent is there whole or not at all; what it had in hand goes to the next; whoever waits for it is answered, or told;
//! those who were there and those who come now can talk; and when all have left and `clean` has run, nothing is there.

use std::time::{Duration, Instant};

use ginnel::ErrorKind;
use ginnel::call::{Call, CallFailure, Client, ServeFailure, Server};
use ginnel::mail::{Absent, MailFailure, Mailbox, Post};

use super::judge::*;
use super::stepper::Outcome;
use super::sweep::Scenario;

const CALC: &str = "shm:calc?capacity=8&max=8KiB&participants=8";
const INBOX: &str = "inbox?capacity=8&max=8KiB&participants=8";

/// Every scenario of this file.
pub(super) fn all() -> Vec<Scenario> {
    let mut all = vec![client_open(), give_up(), take_response(), close_client()];
    for (size, len) in [("inline", INLINE), ("block", BLOCK)] {
        all.push(begin(&format!("call, begin {size}"), len));
        all.push(take_request(&format!("serve, recv {size}"), len));
        all.push(reply(&format!("serve, reply {size}"), len));
        all.push(send_letter(&format!("mail, send_to {size}"), len));
        all.push(receive_letter(&format!("mail, recv_from {size}"), len));
    }
    all.push(claim());
    all
}

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn server() -> Result<Server, String> {
    Server::open(CALC).map_err(text)
}

fn client() -> Result<Client, String> {
    Client::open(CALC).map_err(text)
}

/// A client that lives, and never hears of the victim.
type Caller = (&'static Client, Call<'static>);

fn caller(len: usize) -> Result<Caller, String> {
    let client = leak(client()?);
    let call = client.begin(&message(IN_FLIGHT, len)).map_err(text)?;
    Ok((client, call))
}

/// Everybody is told to go, and what is left is cleaned: then nothing is there. Handles that were leaked go with their process, so the caller counts
/// them as links that stay.
fn nothing_left(but: usize) -> Result<(), String> {
    let end = Instant::now() + SOON;
    loop {
        ginnel::clean(false).map_err(text)?;
        let left = left_in_directory()?;
        if left.len() <= but {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!("all have left, and this is still there: {left:?}"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A newcomer calls, the server answers.
fn converse(server: &Server) -> Result<(), String> {
    let started = Instant::now();
    let newcomer = client()?;
    let call = newcomer.begin(&message(30, BLOCK)).map_err(text)?;
    let request = server.recv_timeout(SOON).map_err(|e| format!("a newcomer's request: {e}"))?;
    if *request != message(30, BLOCK) || request.redelivered() {
        return Err("the server got something else than a newcomer's request".into());
    }
    request.reply(&message(31, INLINE)).map_err(text)?;
    let response = call.recv_timeout(SOON).map_err(|e| format!("a newcomer's response: {e}"))?;
    if response.is_none_or(|response| *response != message(31, INLINE)) {
        return Err("a newcomer got something else than its response".into());
    }
    if started.elapsed() > SOON {
        return Err(format!("a newcomer was served only after {:?}", started.elapsed()));
    }
    Ok(())
}

// ---- calls

/// The victim opens a client: two links.
fn client_open() -> Scenario {
    let setup = || {
        fresh()?;
        server()
    };
    let check = |server: Server, _: &Outcome| {
        converse(&server)?;
        drop(server);
        nothing_left(0)
    };
    Scenario::new("call, open", setup, |_: &Server| Ok(()), |()| client(), check)
}

/// The victim sends a request.
fn begin(name: &str, len: usize) -> Scenario {
    let setup = || {
        fresh()?;
        server()
    };
    let prepare = move |_: &Server| Ok((leak(client()?), message(IN_FLIGHT, len)));
    let operation = |(client, bytes): (&'static Client, Vec<u8>)| client.begin(&bytes).map_err(text);
    let check = move |server: Server, outcome: &Outcome| {
        match server.recv_timeout(SOON / 50) {
            Ok(request) => {
                if *request != message(IN_FLIGHT, len) || request.redelivered() {
                    return Err("a request that nobody sent, or a torn one".into());
                }
                let end = Instant::now() + SOON;
                while !request.is_cancelled() {
                    if Instant::now() > end {
                        return Err("the server is not told that its client is dead".into());
                    }
                }
                match request.reply(b"too late").map_err(|e| matches!(e.reason(), ServeFailure::ClientGone)) {
                    Err(true) => {}
                    other => return Err(format!("a dead client was answered: {other:?}")),
                }
            }
            Err(e) if matches!(e.reason(), ServeFailure::TimedOut) => {
                if matches!(outcome, Outcome::Finished { .. }) {
                    return Err("a request was lost".into());
                }
            }
            Err(e) => return Err(text(e)),
        }
        converse(&server)?;
        drop(server);
        nothing_left(0)
    };
    Scenario::new(name, setup, prepare, operation, check)
}

/// The victim drops its call. The server finds it cancelled, by that or by the death.
fn give_up() -> Scenario {
    let setup = || {
        fresh()?;
        server()
    };
    let prepare = |_: &Server| leak(client()?).begin(&message(IN_FLIGHT, INLINE)).map_err(text);
    let operation = |call: Call<'static>| {
        drop(call);
        Ok(())
    };
    let check = |server: Server, _: &Outcome| {
        let request = server.recv_timeout(SOON).map_err(text)?;
        let end = Instant::now() + SOON;
        while !request.is_cancelled() {
            if Instant::now() > end {
                return Err("the server is not told that its client is dead".into());
            }
        }
        drop(request);
        converse(&server)?;
        drop(server);
        nothing_left(0)
    };
    Scenario::new("call, give up", setup, prepare, operation, check)
}

/// The victim is the client, and takes a response that is there.
fn take_response() -> Scenario {
    let setup = || {
        fresh()?;
        server()
    };
    let prepare = |server: &Server| {
        // In a process of its own: only the victim's client is used here, and its request is answered by a server of its own.
        let _ = server;
        let call = leak(client()?).begin(&message(IN_FLIGHT, INLINE)).map_err(text)?;
        let own = self::server()?;
        own.recv_timeout(SOON).map_err(text)?.reply(&message(IN_FLIGHT, BLOCK)).map_err(text)?;
        Ok(call)
    };
    let operation = |call: Call<'static>| {
        let response = call.try_recv().map_err(text)?;
        Ok((call, response))
    };
    let check = |server: Server, _: &Outcome| {
        converse(&server)?;
        drop(server);
        nothing_left(0)
    };
    Scenario::new("call, recv", setup, prepare, operation, check)
}

/// The victim leaves, with a response that it has not read.
fn close_client() -> Scenario {
    let setup = || {
        fresh()?;
        server()
    };
    let prepare = |_: &Server| {
        let client = client()?;
        std::mem::forget(client.begin(&message(IN_FLIGHT, INLINE)).map_err(text)?);
        let own = self::server()?;
        own.recv_timeout(SOON).map_err(text)?.reply(&message(IN_FLIGHT, BLOCK)).map_err(text)?;
        Ok(client)
    };
    let operation = |client: Client| {
        drop(client);
        Ok(())
    };
    let check = |server: Server, _: &Outcome| {
        converse(&server)?;
        drop(server);
        nothing_left(0)
    };
    Scenario::new("call, close", setup, prepare, operation, check)
}

/// The victim is a server, and takes a request. Another gets it.
fn take_request(name: &str, len: usize) -> Scenario {
    let setup = move || {
        fresh()?;
        caller(len)
    };
    let operation = |server: Server| leak(server).try_recv().map_err(text);
    let check = move |caller: Caller, _: &Outcome| served_by_another(caller, len, false);
    Scenario::new(name, setup, |_: &Caller| server(), operation, check)
}

/// The victim is a server, and answers the request that it has in hand. Either that arrives, or another server answers.
fn reply(name: &str, len: usize) -> Scenario {
    let setup = move || {
        fresh()?;
        caller(len)
    };
    let prepare = |_: &Caller| leak(server()?).try_recv().map_err(text);
    let operation =
        move |request: ginnel::call::Request<'static>| request.reply(&message(IN_FLIGHT + 1, len)).map_err(text);
    let check = move |caller: Caller, outcome: &Outcome| {
        served_by_another(caller, len, matches!(outcome, Outcome::Finished { .. }))
    };
    Scenario::new(name, setup, prepare, operation, check)
}

/// The caller gets one response, whole: the victim's if that is due, else the victim's or another server's.
fn served_by_another((client, call): Caller, len: usize, is_due: bool) -> Result<(), String> {
    // It was told that the last server died, or has a response.
    let first = match call.recv_timeout(SOON) {
        Ok(Some(response)) => Some(response.to_vec()),
        Ok(None) => return Err("a call ended without a response".into()),
        Err(e) if matches!(e.reason(), CallFailure::Closed { died: 1 }) => None,
        Err(e) => return Err(format!("the client of a dead server: {e}")),
    };
    if first.as_ref().is_some_and(|first| *first != message(IN_FLIGHT + 1, len)) {
        return Err("a response that nobody sent, or a torn one".into());
    }
    if is_due && first.is_none() {
        return Err("a response was lost".into());
    }
    let answered = first.is_some();
    let server = server()?;
    // Before it was answered it is there again; after that it may be, as letting go of it comes later.
    match server.recv_timeout(if answered { SOON / 50 } else { SOON }) {
        Ok(request) if *request == message(IN_FLIGHT, len) && !is_due => {
            request.reply(&message(IN_FLIGHT + 2, len)).map_err(text)?;
        }
        Ok(_) => return Err("a request that nobody sent, or one that was answered".into()),
        Err(e) if answered && matches!(e.reason(), ServeFailure::TimedOut) => {}
        Err(e) => return Err(format!("a request was lost in the hands of a dead server: {e}")),
    }
    if !answered {
        let second = call.recv_timeout(SOON).map_err(|e| format!("the second server's response: {e}"))?;
        if second.is_none_or(|second| *second != message(IN_FLIGHT + 2, len)) {
            return Err("the second server's response is another".into());
        }
    }
    if call.recv_timeout(SOON).map_err(text)?.is_some() {
        return Err("a call was answered twice".into());
    }
    let again = client.begin(&message(1, INLINE)).map_err(text)?;
    server.recv_timeout(SOON).map_err(text)?.reply(&message(2, INLINE)).map_err(text)?;
    if again.recv_timeout(SOON).map_err(text)?.is_none_or(|response| *response != message(2, INLINE)) {
        return Err("the next call got another response".into());
    }
    converse(&server)?;
    drop(server);
    nothing_left(2) // the caller was leaked
}

// ---- letters

fn inbox() -> Result<Mailbox, String> {
    Mailbox::open(INBOX).map_err(text)
}

/// Takes the name of a dead owner, within a second.
fn inherit() -> Result<Mailbox, String> {
    let end = Instant::now() + SOON;
    loop {
        match Mailbox::open(INBOX) {
            Ok(inbox) => return Ok(inbox),
            Err(e) if e.kind() == ErrorKind::InUse && Instant::now() < end => {}
            Err(e) => return Err(format!("the next owner: {e}")),
        }
    }
}

/// The number of a letter that is whole.
fn number_of(letter: &[u8]) -> Result<u64, String> {
    let number = u64::from(*letter.first().ok_or("an empty letter")?);
    if *letter != *message(number, letter.len()) { Err("a torn letter".into()) } else { Ok(number) }
}

/// Sends a letter to the owner, which receives it, and all that were there before.
fn all_letters(inbox: &Mailbox) -> Result<Vec<(u64, bool)>, String> {
    Post::new().absent(Absent::Refuse).try_send_to(INBOX, &message(30, INLINE)).map_err(text)?;
    let mut numbers = Vec::new();
    loop {
        let letter = inbox.recv_timeout(SOON).map_err(|e| format!("after {numbers:?}: {e}"))?;
        match number_of(&letter)? {
            30 => return Ok(numbers),
            number => numbers.push((number, letter.redelivered())),
        }
    }
}

/// The victim sends a letter.
fn send_letter(name: &str, len: usize) -> Scenario {
    let setup = || {
        fresh()?;
        inbox()
    };
    let prepare = move |_: &Mailbox| Ok((Post::new(), message(IN_FLIGHT, len)));
    let operation = |(post, bytes): (Post, Vec<u8>)| post.try_send_to(INBOX, &bytes).map(|()| post).map_err(text);
    let check = |inbox: Mailbox, outcome: &Outcome| {
        match (all_letters(&inbox)?.as_slice(), outcome) {
            ([(IN_FLIGHT, false)], _) | ([], Outcome::Killed { .. }) => {}
            (numbers, _) => return Err(format!("{numbers:?} came")),
        }
        drop(inbox);
        nothing_left(0)
    };
    Scenario::new(name, setup, prepare, operation, check)
}

/// The victim owns the name, and receives the letters of one sender, another's being set aside.
fn receive_letter(name: &str, len: usize) -> Scenario {
    let setup = move || {
        fresh()?;
        let anonymous = Post::new();
        let named = Mailbox::open("named").map_err(text)?;
        for number in 0..2 {
            anonymous.try_send_to(INBOX, &message(number, len)).map_err(text)?;
        }
        for number in 2..4 {
            named.try_send_to(INBOX, &message(number, len)).map_err(text)?;
        }
        Ok((anonymous, named))
    };
    let operation = |inbox: Mailbox| leak(inbox).try_recv_from("named").map_err(text);
    let check = |senders: (Post, Mailbox), _: &Outcome| {
        let inbox = inherit()?;
        let came = all_letters(&inbox)?;
        let numbers: Vec<u64> = came.iter().map(|(number, _)| *number).collect();
        if numbers != [0, 1, 2, 3] || came[3].1 {
            return Err(format!("{came:?} came"));
        }
        drop((inbox, senders));
        nothing_left(0)
    };
    Scenario::new(name, setup, |_: &(Post, Mailbox)| inbox(), operation, check)
}

/// The victim takes a name in which a letter waits. The next one has it, and the letter.
fn claim() -> Scenario {
    let setup = || {
        fresh()?;
        Post::new().try_send_to(INBOX, &message(0, INLINE)).map_err(text)
    };
    let check = |(): (), _: &Outcome| {
        let inbox = inherit()?;
        match all_letters(&inbox)?.as_slice() {
            [(0, false)] => {}
            numbers => return Err(format!("{numbers:?} came")),
        }
        match inbox.try_recv().map(drop) {
            Err(e) if matches!(e.reason(), MailFailure::Empty) => {}
            other => return Err(format!("a letter that nobody sent: {other:?}")),
        }
        drop(inbox);
        nothing_left(0)
    };
    Scenario::new("mail, open", setup, |(): &()| Ok(()), |()| inbox(), check)
}
