//! The producer-consumer problem, where the producer never waits: all items are there before the first is consumed. Threads, then processes.

use ginnel::{Link, Receiver, Sender};
use std::{env, error::Error, process::Command, thread};

const ITEMS: u64 = 10_000_000;

fn produce(address: &str) -> Result<(), ginnel::SendError> {
    let sender = Sender::open(address).expect("the link can be opened");
    (1..=ITEMS).try_for_each(|item| sender.send(&item.to_le_bytes()))
}

/// Consumes what is there: how many items there were, and their sum.
fn consume(receiver: &Receiver) -> (u64, u64) {
    receiver.iter().fold((0, 0), |(count, sum), message| {
        let item = message.as_ref().try_into().map(u64::from_le_bytes).expect("an item has 8 bytes");
        (count + 1, sum + item)
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(address) = env::args().nth(1) {
        return Ok(produce(&address)?); // the other process
    }
    let memory = |address| Ok::<_, ginnel::Error>(Link::new(address)?.info()?.allocated >> 10);
    for address in ["mem:items?unbounded&max=8", "shm:items?unbounded&max=8"] {
        let receiver = Receiver::create(address)?;
        let before = memory(address)?;
        match address.starts_with("mem:") {
            true => thread::spawn(|| produce(address)).join().expect("it does not panic")?,
            false => assert!(Command::new(env::current_exe()?).arg(address).status()?.success()),
        }
        let (waiting, peak, (count, sum)) = (receiver.len(), memory(address)?, consume(&receiver));
        assert_eq!((waiting, count, sum), (ITEMS, ITEMS, ITEMS * (ITEMS + 1) / 2));
        let after = memory(address)?;
        println!("{address}: {count} items, sum {sum}; memory {before} KiB, then {peak} KiB, then {after} KiB");
    }
    Ok(())
}
