//! The soak: real processes on every shape of link, killed, stopped and starved of descriptors at random moments, and an exact account of every message.
//!
//! ```text
//! cargo xtask soak --for 10min --seed 7                    # all shapes, sharing ten minutes
//! cargo xtask soak --for 60s --seed 7 --shape unbounded    # one of them
//! cargo test --release -p ginnel --test soak               # the harness on itself, then a few seconds of each
//! ```
//!
//! ```text
//!  stage (never killed) -- spawns, kills, stops, continues -->  workers: one process for each life of a seat
//!    |                                                             | before each send, after each answer, at each receipt
//!    |                                                             v
//!    +--------------- reads, after the round --------------->  ledger: a mapped file that outlives everybody
//!                          judge                               links:  a fresh GINNEL_DIR for each round
//! ```
//!
//! A *shape* runs in *rounds* of a few seconds; each has a directory of its own, a link with options of its own, and *seats*: parts that are always taken by some
//! process. When a seat's process is killed, the next *life* of the seat goes on with the numbers of the one before. At the end of a round senders
//! leave, receivers drain the link, the stage looks whether anything is left, and the judge goes over the ledger.
//!
//! What is counted, for each shape:
//!
//! | column | what |
//! |---|---|
//! | messages | that were received and found whole, redeliveries included; of requests also the responses; of streams the pieces that came back; of `latest` the values seen |
//! | kills, stops, famines | SIGKILLs; SIGSTOPs; opens that failed for want of descriptors |
//! | redelivered | messages that were delivered again, marked, after the death of who had them in hand: allowed |
//! | told | calls that failed, as their client was told: allowed when the last server has gone, or has no descriptor |
//! | lost | a message whose sender was told that it was sent, and that nobody received. One whose sender was killed in the middle may arrive or not |
//! | duplicated | a second delivery without the mark, or after the first was released, or more of them than deaths explain |
//! | reordered | out of the order of its sender, where it was not redelivered |
//! | torn | length or checksum is wrong |
//! | stuck | nothing happened for [`ledger::LIMIT`], though it could |
//! | leaked | files that are left after all have gone; descriptors of who opens and closes again and again; bytes of memory and participants that a drained link still holds |
//! | recovery | from a kill to the next message that passes the link: of those that anybody received or, of a redelivered message, the delivery itself. With one party on the side of the victim that contains the start of a process. The longest, in ms |
//!
//! A seed repeats every decision: options, lengths, who is killed after which pause. When a process gets how far is up to the machine, so a violation is
//! found again by running its seed and round again, `--round N`, some times.
//!
//! The judge and the workers use the public interface only: nothing here shares code with recovery. That they can fail is shown first, by workers that lose,
//! repeat, tear and leak on purpose (`selftest`).

use std::process::ExitCode;

#[path = "soak/run.rs"]
mod run;

fn main() -> ExitCode {
    run::main()
}
