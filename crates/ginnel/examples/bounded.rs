//! The producer-consumer problem: the producer waits for room, the consumer for items. First between threads, then between processes.

use ginnel::{Receiver, Sender};
use std::{env, error::Error, process::Command, thread};

const ITEMS: u64 = 10_000_000;

fn produce(address: &str) -> Result<(), ginnel::SendError> {
    let sender = Sender::open(address).expect("the link can be opened");
    (1..=ITEMS).try_for_each(|item| sender.send(&item.to_le_bytes()))
}

/// Consumes until the last producer has left: how many items there were, and their sum.
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
    for address in ["mem:items?capacity=1024", "shm:items?capacity=1024"] {
        let receiver = Receiver::create(address)?;
        let (count, sum) = if address.starts_with("mem:") {
            let producer = thread::spawn(|| produce(address));
            (consume(&receiver), producer.join().expect("it does not panic")?).0
        } else {
            let mut producer = Command::new(env::current_exe()?).arg(address).spawn()?;
            (consume(&receiver), producer.wait()?).0
        };
        assert_eq!((count, sum), (ITEMS, ITEMS * (ITEMS + 1) / 2));
        println!("{address}: {count} items, sum {sum}");
    }
    Ok(())
}
