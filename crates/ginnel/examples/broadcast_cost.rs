//! What a send to a broadcast costs with 1, 4 and 64 receivers, in one run of one process.
//!
//! Three links take turns, so that whatever the machine does meanwhile does to all of them. Of each turn only the sends are timed; then the
//! receivers, which another thread has, receive everything. On the second round of links nobody receives, and the senders do not wait.
//!
//! `broadcast_cost ROUNDS` prints the medians, in ns, and their ratio; `broadcast_cost once RECEIVERS SENDS` only sends, to be counted by callgrind.

use ginnel::{Receiver, Sender};
use std::sync::mpsc;
use std::time::Instant;

const RECEIVERS: [usize; 3] = [1, 4, 64];
/// Messages of one turn: half of the link.
const TURN: usize = 512;

struct Subject {
    sender: Sender,
    /// Asks the readers to receive a turn's messages, and learns that they have.
    ask: mpsc::Sender<()>,
    done: mpsc::Receiver<()>,
    times_ns: Vec<f64>,
}

impl Subject {
    fn new(receivers: usize, reads: bool) -> Result<Self, ginnel::Error> {
        let full = if reads { "block" } else { "drop-oldest" };
        let address = format!("mem:cost-{receivers}-{full}?shape=broadcast&max=64&full={full}");
        let first = Receiver::open(&address)?;
        let all: Vec<Receiver> = (1..receivers).map(|_| first.clone()).chain([first.clone()]).collect();
        drop(first);
        let ((ask, asked), (tell, done)) = (mpsc::channel(), mpsc::channel());
        std::thread::spawn(move || {
            while asked.recv().is_ok() {
                if reads {
                    all.iter().for_each(|receiver| assert_eq!(receiver.try_iter().count(), TURN));
                }
                let _ = tell.send(());
            }
        });
        Ok(Self { sender: Sender::open(&address)?, ask, done, times_ns: Vec::new() })
    }

    fn turn(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let begun = Instant::now();
        for _ in 0..TURN {
            self.sender.try_send(&[7; 64])?;
        }
        self.times_ns.push(begun.elapsed().as_nanos() as f64 / TURN as f64);
        self.ask.send(())?;
        Ok(self.done.recv()?)
    }

    fn median(&mut self) -> f64 {
        self.times_ns.sort_by(f64::total_cmp);
        self.times_ns[self.times_ns.len() / 2]
    }
}

fn compare(reads: bool, rounds: usize) -> Result<(), Box<dyn std::error::Error>> {
    let mut subjects = Vec::new();
    for receivers in RECEIVERS {
        subjects.push(Subject::new(receivers, reads)?);
    }
    for _ in 0..rounds {
        subjects.iter_mut().try_for_each(Subject::turn)?;
    }
    let medians: Vec<f64> = subjects.iter_mut().map(Subject::median).collect();
    let what = if reads { "receivers that keep up" } else { "receivers that do not read" };
    for (receivers, median) in RECEIVERS.iter().zip(&medians) {
        println!("{what}: {receivers:>2} receivers {median:6.1} ns, {:.2} of the cost for one", median / medians[0]);
    }
    Ok(())
}

fn once(receivers: usize, sends: usize) -> Result<(), Box<dyn std::error::Error>> {
    let address = "mem:once?shape=broadcast&max=64&full=drop-oldest";
    let first = Receiver::open(address)?;
    let _others: Vec<Receiver> = (1..receivers).map(|_| first.clone()).collect();
    let sender = Sender::open(address)?;
    for _ in 0..sends {
        sender.try_send(&[7; 64])?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["once", receivers, sends] => once(receivers.parse()?, sends.parse()?),
        [] => compare(true, 2000).and_then(|()| compare(false, 2000)),
        [rounds] => compare(true, rounds.parse()?).and_then(|()| compare(false, rounds.parse()?)),
        _ => Err("usage: broadcast_cost [ROUNDS] | once RECEIVERS SENDS".into()),
    }
}
