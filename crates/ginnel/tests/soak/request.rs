//! Clients and servers. Each answer belongs to its request and comes once; a request is served once, but for those that a killed server had in hand, which are
//! marked; a call either has its answer or its client is told.

use std::thread::sleep;
use std::time::Duration;

use ginnel::RecvFailure;
use ginnel::call::{CallError, CallFailure, Client, Request, ServeError, ServeFailure, Server};

use super::ledger::{ARRIVED, Count, Kind};
use super::payload::{HEADING, Heading};
use super::schedule::Sabotage;
use super::worker::{Failed, Worker};

/// Calls, or requests, until a handle is closed and another opened, at most.
const HANDLE: u64 = 20_000;

/// How many responses a request asks for.
fn parts_of(seq: u64) -> u16 {
    if seq % 16 == 5 { 3 } else { 1 }
}

/// The life of a client.
pub(crate) fn call(worker: &mut Worker) {
    let address = worker.address();
    while let Some(client) = worker.open(&[], || Client::open(&address)) {
        let mut left = worker.until_reopening(HANDLE);
        while left > 0 && worker.runs() {
            left -= 1;
            if call_once(worker, &client) == Err(Failed::Reopen) {
                break;
            }
        }
        drop(client);
        worker.closed();
    }
}

fn call_once(worker: &mut Worker, client: &Client) -> Result<(), Failed> {
    let (channel, len, limit) = (worker.index, worker.length(), worker.ledger.limit());
    let seq = worker.begin(channel, 1);
    worker.write(channel, seq, 0, len);
    let call = match client.begin_timeout(&worker.buffer[..len], limit) {
        Ok(call) => call,
        Err(e) => return Err(call_failed(worker, &e, false)),
    };
    if worker.dice.one_in(500) {
        drop(call); // given up: it may be served or not
        worker.told(channel);
        return Ok(());
    }
    let mut next_part = 0;
    loop {
        match call.recv() {
            Ok(Some(response)) => {
                let Some(heading) = worker.read(&response) else { continue };
                let (part, redelivered) = (heading.part, response.redelivered());
                if (heading.channel, heading.seq) != (channel, seq) {
                    worker.note(Kind::Reordered, channel, seq, heading.seq, heading.channel as u64);
                }
                if part != next_part && !redelivered {
                    worker.note(Kind::Duplicate, channel, seq, u64::from(part), u64::from(next_part));
                }
                next_part = part + 1;
                worker.ledger.add(worker.seat, Count::Received, 1);
                worker.passed();
                if parts_of(seq) == 1 {
                    break;
                }
            }
            Ok(None) => break,
            Err(e) => return Err(call_failed(worker, &e, true)),
        }
    }
    if next_part != parts_of(seq) || worker.ledger.mark_of(channel, seq) & ARRIVED == 0 {
        worker.note(Kind::Gap, channel, seq, seq + 1, 0);
    }
    worker.sent(channel, 1);
    Ok(())
}

/// `is_sent`: whether the request is on its way.
fn call_failed(worker: &mut Worker, error: &CallError, is_sent: bool) -> Failed {
    let channel = worker.index;
    match error.reason() {
        CallFailure::NotSent(failure) => {
            worker.sent(channel, 0);
            worker.not_sent(failure, error)
        }
        CallFailure::Closed { .. } | CallFailure::TooManyCalls { .. } if !is_sent => {
            worker.sent(channel, 0);
            worker.pause();
            if worker.dice.one_in(4) { Failed::Reopen } else { Failed::Again }
        }
        CallFailure::Closed { .. } | CallFailure::GivenUp => {
            worker.told(channel);
            worker.pause();
            Failed::Again
        }
        CallFailure::TimedOut => {
            worker.note(Kind::Stuck, channel, 3, worker.ledger.begun(channel), 0);
            worker.told(channel);
            Failed::Again
        }
        _ => {
            worker.unexpected(error);
            worker.told(channel);
            Failed::Reopen
        }
    }
}

/// The life of a server.
pub(crate) fn serve(worker: &mut Worker) {
    let address = worker.address();
    while let Some(server) = worker.open(&[], || Server::open(&address)) {
        let mut left = worker.until_reopening(HANDLE);
        while left > 0 && !worker.is_over() {
            left -= 1;
            if serve_once(worker, &server) == Err(Failed::Reopen) {
                break;
            }
        }
        drop(server);
        worker.closed();
    }
}

fn serve_once(worker: &mut Worker, server: &Server) -> Result<(), Failed> {
    if worker.sabotages(Sabotage::Sleep) {
        sleep(Duration::from_secs(3600));
    }
    // A server does not hear that its clients have gone: it must not wait for long when they have.
    let patience = worker.patience().min(Duration::from_secs(1));
    let request = match server.recv_timeout(patience) {
        Ok(request) => request,
        Err(e) => return Err(serve_failed(worker, &e)),
    };
    let Some(heading) = worker.received(&request, request.redelivered()) else { return Ok(()) };
    let replied = reply(worker, request, heading);
    worker.released(heading);
    replied
}

fn reply(worker: &mut Worker, request: Request<'_>, heading: Heading) -> Result<(), Failed> {
    let parts = parts_of(heading.seq);
    let mut bytes = [0; HEADING + 40];
    let len = HEADING + worker.dice.below(40) as usize;
    for part in 0..parts {
        worker.write_to(Heading { part, ..heading }, &mut bytes[..len]);
        if worker.sabotages(Sabotage::Tear) {
            bytes[len - 1] ^= 1;
        }
        let sent = match parts {
            1 => return request.reply(&bytes[..len]).map_err(|e| serve_failed(worker, &e)),
            _ => request.part(&bytes[..len]),
        };
        if let Err(e) = sent {
            return Err(serve_failed(worker, &e)); // the client is told when the request goes
        }
    }
    request.finish().map_err(|e| serve_failed(worker, &e))
}

fn serve_failed(worker: &mut Worker, error: &ServeError) -> Failed {
    worker.beat();
    match error.reason() {
        ServeFailure::Empty | ServeFailure::TimedOut | ServeFailure::ClientGone => Failed::Again,
        ServeFailure::Broken(RecvFailure::Closed { .. }) => Failed::Again,
        ServeFailure::Setup(e) if e.kind() == ginnel::ErrorKind::NoDescriptors && worker.famine.is_on() => {
            worker.ledger.add(worker.seat, Count::Famines, 1);
            worker.famine.failed();
            Failed::Again
        }
        _ => {
            worker.unexpected(error);
            Failed::Again
        }
    }
}
