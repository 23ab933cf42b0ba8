//! The one-way stream: one process sends as fast as the channel takes messages, the other receives, counts and checks.
//!
//! Not a measure of the sender: the clock and the count are the receiver's, between the arrival of the last message of
//! the warm-up and that of the last message.

use std::hint::black_box;
use std::ops::RangeInclusive;
use std::time::Instant;

use crate::checksum::{self, Checksum};
use crate::crew::Gate;
use crate::run::Side;
use crate::usage::Usage;
use crate::{Case, Count, Failure, Inlet, Mechanism, Outlet, Payload, Way, message};

/// The sending process.
pub(crate) fn send<M: Mechanism>(mechanism: &M, case: &Case, count: Count, gate: &Gate) -> Result<Side, Failure> {
    let mut out = mechanism.sender(Way::There)?;
    let mut buffer = room(case);
    gate.wait();
    send_each(&mut out, case, &mut buffer, 1..=count.warm_up)?;
    let usage = Usage::now();
    let start = Instant::now();
    send_each(&mut out, case, &mut buffer, count.warm_up + 1..=count.warm_up + count.messages)?;
    out.flush()?;
    Ok(Side {
        messages: count.messages,
        elapsed_s: start.elapsed().as_secs_f64(),
        usage: Usage::since(&usage),
        times: None,
    })
}

/// The receiving process.
pub(crate) fn receive<M: Mechanism>(mechanism: &M, case: &Case, count: Count, gate: &Gate) -> Result<Side, Failure> {
    let mut inlet = mechanism.receiver(Way::There)?;
    let (mut buffer, mut sum) = (room(case), Checksum::default());
    gate.wait();
    receive_each(&mut inlet, case, &mut buffer, &mut sum, 1..=count.warm_up)?;
    let usage = Usage::now();
    let start = Instant::now();
    receive_each(&mut inlet, case, &mut buffer, &mut sum, count.warm_up + 1..=count.warm_up + count.messages)?;
    let side = Side {
        messages: count.messages,
        elapsed_s: start.elapsed().as_secs_f64(),
        usage: Usage::since(&usage),
        times: None,
    };
    if case.payload == Payload::Summed {
        checksum::expect(&sum, case.size, count.warm_up + count.messages)?;
    }
    Ok(side)
}

/// The private copy of a message, for those that are copied.
pub(crate) fn room(case: &Case) -> Vec<u8> {
    match case.payload {
        Payload::Summed => checksum::payload(case.size),
        _ if case.copies() => vec![1; case.size],
        _ => Vec::new(),
    }
}

/// Sends the messages of `sequences`, with the sizes of the tables as constants of the loop, as they are in a program whose
/// message is a struct. One body, whoever calls it: what is counted of it in one place (see `solo`) holds in the other.
#[inline(never)]
pub(crate) fn send_each<O: Outlet>(
    out: &mut O,
    case: &Case,
    buffer: &mut [u8],
    sequences: RangeInclusive<u64>,
) -> Result<(), Failure> {
    if case.copies() {
        for sequence in sequences {
            message::seal(buffer, sequence);
            out.send(buffer)?;
        }
        return Ok(());
    }
    if case.payload == Payload::Summed {
        for sequence in sequences {
            checksum::number(buffer, sequence);
            out.send(buffer)?;
        }
        return Ok(());
    }
    if case.payload == Payload::Ends {
        for sequence in sequences {
            out.send_with(case.size, |bytes| message::seal(bytes, sequence))?;
        }
        return Ok(());
    }
    match case.size {
        8 => send_stamped::<_, 8>(out, 8, sequences),
        64 => send_stamped::<_, 64>(out, 64, sequences),
        size => send_stamped::<_, 0>(out, size, sequences),
    }
}

/// `SIZE` is the size, or 0 where it is none of the tables': so that each size has a loop, and closures, of its own.
#[inline(always)]
fn send_stamped<O: Outlet, const SIZE: usize>(
    out: &mut O,
    size: usize,
    sequences: RangeInclusive<u64>,
) -> Result<(), Failure> {
    let size = if SIZE == 0 { size } else { SIZE };
    let (first, last) = sequences.into_inner();
    let mut sequence = first;
    while sequence <= last {
        out.send_with(size, |bytes| message::stamp(bytes, sequence))?;
        sequence += 1;
    }
    Ok(())
}

/// Receives the messages of `sequences` and checks each, or adds it to the sum. One body, as [`send_each`].
#[inline(never)]
pub(crate) fn receive_each<I: Inlet>(
    inlet: &mut I,
    case: &Case,
    buffer: &mut [u8],
    sum: &mut Checksum,
    sequences: RangeInclusive<u64>,
) -> Result<(), Failure> {
    if case.copies() {
        for sequence in sequences {
            let len = inlet.recv(buffer)?;
            message::check_seal(&black_box(&mut *buffer)[..len], case.size, sequence)?;
        }
        return Ok(());
    }
    if case.payload == Payload::Summed {
        for _ in sequences {
            inlet.recv_pieces(buffer, |piece| sum.add(piece))?;
        }
        return Ok(());
    }
    if case.payload == Payload::Ends {
        for sequence in sequences {
            inlet.recv_with(|bytes| message::check_seal(bytes, case.size, sequence))??;
        }
        return Ok(());
    }
    match case.size {
        8 => receive_stamped::<_, 8>(inlet, 8, sequences),
        64 => receive_stamped::<_, 64>(inlet, 64, sequences),
        size => receive_stamped::<_, 0>(inlet, size, sequences),
    }
}

/// `SIZE` as for [`send_stamped`].
#[inline(always)]
fn receive_stamped<I: Inlet, const SIZE: usize>(
    inlet: &mut I,
    size: usize,
    sequences: RangeInclusive<u64>,
) -> Result<(), Failure> {
    let size = if SIZE == 0 { size } else { SIZE };
    let (first, last) = sequences.into_inner();
    let mut sequence = first;
    while sequence <= last {
        inlet.recv_with(|bytes| message::check(bytes, size, sequence))??;
        sequence += 1;
    }
    Ok(())
}
