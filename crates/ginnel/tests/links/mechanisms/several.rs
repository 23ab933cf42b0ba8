//! Waiting for several at once, over every mechanism: by `Select`, by a descriptor, by futures of either runtime.

use super::freight::{Ledger, message};
use super::ground::Mechanism::{Mem, Mq, Sysv};
use super::ground::{ALL, Ground, LIMIT, Mechanism, SHORT};
use crate::place;
use ginnel::{Interrupter, Receiver, RecvFailure, Select, Sender};
use ginnel_os::poll;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

fn all() -> impl Iterator<Item = Mechanism> {
    ALL.into_iter().chain([Mem])
}

/// A link of each mechanism, both ends.
fn each() -> Vec<(Ground, Receiver, Sender)> {
    all()
        .map(|mechanism| {
            let mut ground = Ground::new(mechanism);
            let (receiver, sender) = (ground.receiver(""), ground.sender(""));
            ground.let_go();
            (ground, receiver, sender)
        })
        .collect()
}

/// One select over all of them: each message comes, from whichever, though each is sent when the select has gone to sleep.
#[test]
fn a_select_over_every_mechanism_is_woken_by_each() {
    let _limit = place::limit(LIMIT);
    let links = each();
    let (receivers, senders): (Vec<_>, Vec<_>) = links.into_iter().map(|(ground, r, s)| ((ground, r), s)).unzip();
    let rounds = 3 * place::scale() as u32;
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || {
            for round in 0..rounds {
                for sender in &senders {
                    std::thread::sleep(Duration::from_millis(2));
                    sender.send(&message(1, round, 100)).unwrap();
                }
            }
        });
        let mut select = Select::new();
        receivers.iter().for_each(|(_, receiver)| _ = select.add(receiver));
        let mut ledgers: Vec<Ledger> = receivers.iter().map(|_| Ledger::default()).collect();
        let mut ended = Vec::new();
        while !select.is_empty() {
            let next = select.wait();
            match next.arrival.message() {
                Ok(message) => ledgers[next.index].enter(&message),
                Err(e) => {
                    assert_eq!(e, RecvFailure::Closed { died: 0 });
                    select.remove(next.index);
                    ended.push(next.index);
                }
            }
        }
        ended.sort_unstable();
        assert_eq!(ended, (0..receivers.len()).collect::<Vec<_>>(), "each ends, and says so once");
        for (ledger, (ground, _)) in ledgers.iter().zip(&receivers) {
            assert_eq!(ledger.of(1), rounds, "{}", ground.mechanism.name());
        }
        sending.join().unwrap();
    });
}

#[test]
fn an_interrupter_ends_a_select_over_each() {
    let _limit = place::limit(LIMIT);
    let links = each();
    let mut select = Select::new();
    links.iter().for_each(|(_, receiver, _)| _ = select.add(receiver));
    let interrupters: Vec<Interrupter> = links.iter().map(|(_, receiver, _)| receiver.interrupter()).collect();
    for (index, interrupter) in interrupters.into_iter().enumerate() {
        let interrupting = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            interrupter.interrupt();
        });
        let ended = select.wait();
        assert_eq!((ended.index, ended.arrival.message().unwrap_err().reason()), (index, RecvFailure::Interrupted));
        interrupting.join().unwrap();
    }
}

#[test]
fn a_deadline_ends_a_select() {
    let _limit = place::limit(LIMIT);
    let links = each();
    let mut select = Select::new();
    links.iter().for_each(|(_, receiver, _)| _ = select.add(receiver));
    let begun = Instant::now();
    assert!(select.wait_timeout(SHORT).is_none());
    assert!(begun.elapsed() >= SHORT);
    assert!(select.wait_deadline(begun).is_none() && select.try_now().is_none());
}

/// Both ends by their descriptors, in loops of their own: more messages than fit.
#[test]
fn descriptors_tell_when_to_try_again() {
    let _limit = place::limit(LIMIT);
    for (ground, receiver, sender) in each() {
        let count = if matches!(ground.mechanism, Sysv) { 40 } else { 400 };
        let len = 1000;
        let sending = std::thread::spawn(move || {
            let ready = sender.readiness().unwrap();
            for number in 0..count {
                while !ready.try_send(&message(1, number, len)).unwrap() {
                    poll::readable(&[ready.as_fd()], None).unwrap();
                }
            }
            drop(ready);
        });
        let ready = receiver.readiness().unwrap();
        let mut ledger = Ledger::default();
        let end = loop {
            match ready.try_recv() {
                Ok(message) => ledger.enter(&message),
                Err(e) if e == RecvFailure::Empty => _ = poll::readable(&[ready.as_fd()], None).unwrap(),
                Err(e) => break e,
            }
        };
        assert_eq!(end, RecvFailure::Closed { died: 0 }, "{}", ground.mechanism.name());
        assert_eq!(ledger.of(1), count, "{}", ground.mechanism.name());
        sending.join().unwrap();
    }
}

/// Messages both ways between two tasks, more than fit.
async fn converse(mut receiver: Receiver, mut sender: Sender, count: u32) -> (u32, RecvFailure) {
    let send = async move {
        for number in 0..count {
            sender.send_async(&message(1, number, 1000)).await.unwrap();
        }
    };
    let receive = async move {
        let mut ledger = Ledger::default();
        loop {
            match receiver.recv_async().await {
                Ok(message) => ledger.enter(&message),
                Err(e) => return (ledger.of(1), e.reason()),
            }
        }
    };
    futures_util::future::join(receive, send).await.0
}

fn conversations(block_on: impl Fn(std::pin::Pin<Box<dyn Future<Output = (u32, RecvFailure)>>>) -> (u32, RecvFailure)) {
    for (ground, receiver, sender) in each() {
        let count = if matches!(ground.mechanism, Sysv | Mq) { 40 } else { 2500 };
        let told = block_on(Box::pin(converse(receiver, sender, count)));
        assert_eq!(told, (count, RecvFailure::Closed { died: 0 }), "{}", ground.mechanism.name());
    }
}

#[test]
fn futures_over_every_mechanism_in_tokio() {
    let _limit = place::limit(LIMIT);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    conversations(|conversation| runtime.block_on(conversation));
}

#[test]
fn futures_over_every_mechanism_in_smol() {
    let _limit = place::limit(LIMIT);
    conversations(smol::block_on);
}

#[test]
fn an_interrupter_ends_a_future_over_each() {
    let _limit = place::limit(LIMIT);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    for (ground, mut receiver, _sender) in each() {
        let interrupter = receiver.interrupter();
        let interrupting = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            interrupter.interrupt();
        });
        let told = runtime.block_on(receiver.recv_async()).map(drop).unwrap_err();
        assert_eq!(told, RecvFailure::Interrupted, "{}", ground.mechanism.name());
        interrupting.join().unwrap();
    }
}
