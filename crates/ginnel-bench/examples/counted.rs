//! Operations of the shapes, so often, in one process that waits for nobody: for a tool that counts instructions.
//! `xtask/show/{broadcast,latest,call}.sh` run it under callgrind with two numbers, and divide the difference.
//!
//! - `counted TIMES send RECEIVERS`: sends of 64 bytes to so many receivers of a broadcast, none of which reads.
//! - `counted TIMES raw|latest_into|latest BYTES`: looks at the newest value.
//! - `counted TIMES queues|call BYTES`: 64 bytes there and back.

use ginnel::call::{Client, Server};
use ginnel::{Link, Receiver, Sender};
use ginnel_bench::{Case, RawSeqlock};
use std::error::Error;
use std::hint::black_box;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [times, what, number] = &arguments[..] else { return Err("usage: counted TIMES WHAT NUMBER".into()) };
    let (times, number) = (times.parse()?, number.parse()?);
    match what.as_str() {
        "send" => send(times, number),
        "queues" => queues(times, &vec![7; number]),
        "call" => call(times, &vec![7; number]),
        "raw" => {
            let mut seqlock = RawSeqlock::new(&Case::look(number))?;
            seqlock.set(&vec![7; number]);
            (0..times).for_each(|_| _ = black_box(seqlock.get().len()));
            Ok(())
        }
        "latest_into" | "latest" => latest(times, number, what == "latest"),
        _ => Err(format!("{what}: known are send, raw, latest_into, latest, queues, call").into()),
    }
}

fn send(times: usize, receivers: usize) -> Result<(), Box<dyn Error>> {
    let address = "mem:counted?shape=broadcast&max=64&full=drop-oldest";
    let first = Receiver::open(address)?;
    let _others: Vec<Receiver> = (1..receivers).map(|_| first.clone()).collect();
    let sender = Sender::open(address)?;
    Ok((0..times).try_for_each(|_| sender.try_send(&[7; 64]))?)
}

fn latest(times: usize, bytes: usize, in_place: bool) -> Result<(), Box<dyn Error>> {
    let address = format!("mem:counted?shape=latest&max={bytes}");
    let (sender, receiver) = (Sender::open(&address)?, Receiver::open(&address)?);
    for _ in 0..16 {
        sender.send(&vec![7; bytes])?; // all its cells are in use then
    }
    let mut into = Vec::new();
    for _ in 0..times {
        match in_place {
            true => _ = black_box(receiver.latest()?.len()),
            false => _ = black_box(receiver.latest_into(&mut into)?),
        }
    }
    Ok(())
}

fn queues(times: usize, message: &[u8]) -> Result<(), Box<dyn Error>> {
    let (there, back) = (Link::new("mem:there")?.pair()?, Link::new("mem:back")?.pair()?);
    for _ in 0..times {
        there.0.send(message)?;
        back.0.send(&there.1.recv()?)?;
        black_box(back.1.recv()?.len());
    }
    Ok(())
}

fn call(times: usize, message: &[u8]) -> Result<(), Box<dyn Error>> {
    let (server, client) = (Server::open("mem:counted")?, Client::open("mem:counted")?);
    for _ in 0..times {
        let call = client.begin(message)?;
        server.recv()?.reply(message)?;
        black_box(call.recv()?.map_or(0, |response| response.len()));
    }
    Ok(())
}
