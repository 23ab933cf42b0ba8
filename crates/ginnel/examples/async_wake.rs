//! How long one who sleeps takes to answer, by how it sleeps: blocked in `recv`, in a future of tokio's or smol's, in a `Select`, or in a loop of its own over a
//! descriptor. Two processes, each on its core; the one that asks spins, and pauses before each question, so that the other is asleep.
//!
//! ```text
//! taskset -c 1 async_wake answer & taskset -c 0 async_wake ask [ROUNDS] [QUESTIONS] [PAUSE_US]
//! ```
//! In each round every way has its turn, so that what else the machine does meets all of them. Printed: the median round trip of each way, and the
//! median over the rounds of its ratio to `recv`.

use ginnel::{Receiver, RecvFailure, Select, Sender};
use ginnel_os::poll;
use std::hint::black_box;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const WAYS: [&str; 5] = ["recv", "tokio", "smol", "select", "descriptor"];

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize, or: usize| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(or);
    match arguments.get(1).map(String::as_str) {
        Some("answer") => answer(),
        Some("ask") => ask(number(2, 20), number(3, 500), Duration::from_micros(number(4, 150) as u64)),
        _ => Err("usage: async_wake answer | ask [ROUNDS] [QUESTIONS] [PAUSE_US]".into()),
    }
}

fn question(way: &str) -> String {
    format!("shm:wake-{way}?wait=block&capacity=8&max=64")
}

/// Answers each question by the way on whose link it comes, until that link ends. A way ends when it gets an empty message.
fn answer() -> Outcome {
    let mut back = Sender::open("shm:wake-back?capacity=8&max=64")?;
    let mut receivers = Vec::new();
    for way in WAYS {
        receivers.push((way, Receiver::open(&question(way))?));
    }
    let tokio = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    loop {
        for (way, receiver) in std::mem::take(&mut receivers) {
            let turn = match way {
                // In a task: who wakes the future that tokio blocks on makes a system call for that, if only to itself.
                "tokio" => tokio.block_on(tokio.spawn(in_task(receiver, back)))??,
                "smol" => smol::block_on(in_task(receiver, back))?,
                _ => {
                    let goes_on = in_thread(way, &receiver, &back)?;
                    Turn { goes_on, receiver, back }
                }
            };
            if !turn.goes_on {
                return Ok(());
            }
            receivers.push((way, turn.receiver));
            back = turn.back;
        }
    }
}

/// What is left of a turn.
struct Turn {
    goes_on: bool,
    receiver: Receiver,
    back: Sender,
}

fn in_thread(way: &str, receiver: &Receiver, back: &Sender) -> Result<bool, Box<dyn std::error::Error>> {
    match way {
        "select" => {
            let mut select = Select::new().recv(receiver);
            serve(back, || select.wait().arrival.message().map(|message| message.is_empty()))
        }
        "descriptor" => {
            let ready = receiver.readiness()?;
            serve(back, || {
                loop {
                    match ready.try_recv() {
                        Err(e) if e == RecvFailure::Empty => _ = poll::readable(&[ready.as_fd()], None),
                        other => return other.map(|message| message.is_empty()),
                    }
                }
            })
        }
        _ => serve(back, || receiver.recv().map(|message| message.is_empty())),
    }
}

/// Until the turn is over: true. Until the link ends: false.
fn serve(
    back: &Sender,
    mut next: impl FnMut() -> Result<bool, ginnel::RecvError>,
) -> Result<bool, Box<dyn std::error::Error>> {
    loop {
        match next() {
            Ok(false) => back.send(b"yes")?,
            Ok(true) => return Ok(true),
            Err(e) if matches!(e.reason(), RecvFailure::Closed { .. }) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
    }
}

async fn in_task(mut receiver: Receiver, back: Sender) -> Result<Turn, String> {
    let goes_on = loop {
        match receiver.recv_async().await {
            Ok(message) if message.is_empty() => break true,
            Ok(_) => back.send(b"yes").map_err(|e| e.to_string())?,
            Err(e) if matches!(e.reason(), RecvFailure::Closed { .. }) => break false,
            Err(e) => return Err(e.to_string()),
        }
    };
    Ok(Turn { goes_on, receiver, back })
}

fn ask(rounds: usize, questions: usize, before: Duration) -> Outcome {
    let back = Receiver::open("shm:wake-back?capacity=8&max=64&wait=spin")?;
    let senders = WAYS.map(|way| Sender::open(&question(way)));
    let mut medians: Vec<Vec<Duration>> = vec![Vec::new(); WAYS.len()];
    for _ in 0..rounds {
        for (sender, medians) in senders.iter().zip(&mut medians) {
            let sender = sender.as_ref().map_err(|e| e.to_string())?;
            let mut times = Vec::with_capacity(questions);
            for _ in 0..questions {
                pause(before);
                let asked = Instant::now();
                sender.send(b"a question")?;
                black_box(back.recv()?.len());
                times.push(asked.elapsed());
            }
            medians.push(median(&mut times));
            sender.send(b"")?;
        }
    }
    let blocked = medians[0].clone();
    for (way, medians) in WAYS.iter().zip(&mut medians) {
        let mut ratios: Vec<Duration> = medians
            .iter()
            .zip(&blocked)
            .map(|(one, base)| Duration::from_secs_f64(one.as_secs_f64() / base.as_secs_f64()))
            .collect();
        let ratio = median(&mut ratios).as_secs_f64();
        println!("{way:<12} {:>8.2} us  {ratio:.2} of recv", median(medians).as_secs_f64() * 1e6);
    }
    Ok(())
}

fn pause(before: Duration) {
    let until = Instant::now() + before;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
