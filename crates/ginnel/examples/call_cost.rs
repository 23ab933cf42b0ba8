//! What a call costs, against a round trip of two plain queues: 64 bytes there and back, between two processes on two cores, in turns.
//! `call_cost [TURNS] [COUNT]` prints both in nanoseconds and their ratio.

use ginnel::call::{Client, Server};
use ginnel::{Receiver, Sender};
use std::error::Error;
use std::process::{Child, Command};
use std::time::Instant;

const BYTES: usize = 64;
const WARM: u32 = 2000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, way, count, core] = &arguments[..] {
        if role == "peer" {
            return peer(way, count.parse()?, core.parse()?);
        }
    }
    let number = |at: usize, default: u32| arguments.get(at).map_or(Ok(default), |text| text.parse());
    let (turns, count) = (number(0, 15)?, number(1, 100_000)?);
    let cores = ginnel_os::process::cores()?;
    let [first, .., last] = cores[..] else { return Err("this needs two cores".into()) };
    ginnel_os::process::pin(first)?;
    alone(count)?;
    for wait in ["spin", "block"] {
        let count = if wait == "spin" { count } else { count / 10 };
        let mut ratios = Vec::new();
        let mut best = [f64::MAX; 2];
        for _ in 0..turns {
            let queue = turn("queue", wait, count, last)?;
            let call = turn("call", wait, count, last)?;
            best = [best[0].min(queue), best[1].min(call)];
            ratios.push(call / queue);
        }
        ratios.sort_by(f64::total_cmp);
        println!(
            "{wait}: queue {:.0} ns, call {:.0} ns at best; ratio of {turns} pairs: least {:.2}, median {:.2}, most {:.2}",
            best[0],
            best[1],
            ratios[0],
            ratios[ratios.len() / 2],
            ratios[ratios.len() - 1]
        );
    }
    Ok(())
}

/// The work alone: both ends in one thread, which never waits.
fn alone(count: u32) -> Result<(), Box<dyn Error>> {
    let message = [7; BYTES];
    let (there, back) = (ginnel::Link::new("shm:alone-there")?.pair()?, ginnel::Link::new("shm:alone-back")?.pair()?);
    let (server, client) = (Server::open("shm:alone-call")?, Client::open("shm:alone-call")?);
    let mut best = [f64::MAX; 2];
    for _ in 0..10 {
        let started = Instant::now();
        for _ in 0..count {
            there.0.send(&message)?;
            back.0.send(&there.1.recv()?)?;
            assert_eq!(back.1.recv()?.len(), BYTES);
        }
        let queue = started.elapsed().as_nanos() as f64 / f64::from(count);
        let started = Instant::now();
        for _ in 0..count {
            let call = client.begin(&message)?;
            server.recv()?.reply(&message)?;
            assert_eq!(call.recv()?.map_or(0, |response| response.len()), BYTES);
        }
        let call = started.elapsed().as_nanos() as f64 / f64::from(count);
        best = [best[0].min(queue), best[1].min(call)];
    }
    println!("in one thread: queue {:.0} ns, call {:.0} ns at best", best[0], best[1]);
    Ok(())
}

/// Nanoseconds a round trip.
fn turn(way: &str, wait: &str, count: u32, core: usize) -> Result<f64, Box<dyn Error>> {
    let message = [7; BYTES];
    let measured = |round: &mut dyn FnMut() -> Result<(), Box<dyn Error>>| -> Result<f64, Box<dyn Error>> {
        (0..WARM).try_for_each(|_| round())?;
        let started = Instant::now();
        (0..count).try_for_each(|_| round())?;
        Ok(started.elapsed().as_nanos() as f64 / f64::from(count))
    };
    if way == "queue" {
        let there = Sender::open(&format!("shm:cost-there?wait={wait}"))?;
        let back = Receiver::open(&format!("shm:cost-back?wait={wait}"))?;
        let peer = Peer::start(way, wait, count, core)?;
        let took = measured(&mut || {
            there.send(&message)?;
            assert_eq!(back.recv()?.len(), BYTES);
            Ok(())
        })?;
        drop(peer);
        return Ok(took);
    }
    let client = Client::open(&format!("shm:cost-call?wait={wait}"))?;
    let peer = Peer::start(way, wait, count, core)?;
    let took = measured(&mut || {
        assert_eq!(client.call(&message)?.len(), BYTES);
        Ok(())
    })?;
    drop(peer);
    Ok(took)
}

/// The other process, which ends by itself after so many messages.
struct Peer(Child);

impl Peer {
    fn start(way: &str, wait: &str, count: u32, core: usize) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["peer", &format!("{way} {wait}"), &(WARM + count).to_string(), &core.to_string()]);
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.wait();
    }
}

fn peer(way: &str, count: u32, core: usize) -> Result<(), Box<dyn Error>> {
    ginnel_os::process::pin(core)?;
    let (way, wait) = way.split_once(' ').ok_or("two words")?;
    if way == "queue" {
        let there = Receiver::open(&format!("shm:cost-there?wait={wait}"))?;
        let back = Sender::open(&format!("shm:cost-back?wait={wait}"))?;
        for _ in 0..count {
            back.send(&there.recv()?)?;
        }
        return Ok(());
    }
    let server = Server::open(&format!("shm:cost-call?wait={wait}"))?;
    for _ in 0..count {
        let request = server.recv()?;
        let mut answer = [0; BYTES];
        answer.copy_from_slice(&request);
        request.reply(&answer)?;
    }
    Ok(())
}
