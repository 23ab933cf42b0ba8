//! Links whose messages are values of a type: in place, and encoded.

use crate::place::{self, address, file_of};
use ginnel::typed::{Receiver, Sender};
use ginnel::{ErrorKind, RecvFailure, SendFailure, encoded};
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Point {
    x: f64,
    y: f64,
}
ginnel::describe!(Point { x: f64, y: f64 });

/// One too large for a slot.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Frame {
    number: u64,
    pixels: [u32; 1024],
}
ginnel::describe!(Frame { number: u64, pixels: [u32; 1024] });

/// The same name, another layout.
mod other {
    use super::{FromBytes, Immutable, IntoBytes, KnownLayout};

    #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    pub(super) struct Point {
        x: f32,
        y: f32,
    }
    ginnel::describe!(Point { x: f32, y: f32 });
}

#[test]
fn values_arrive_in_their_place() {
    let address = address("typed", "max=8KiB");
    let (sender, receiver) = (Sender::<Point>::open(&address).unwrap(), Receiver::<Point>::open(&address).unwrap());
    for n in 0..3000 {
        let point = Point { x: f64::from(n), y: -f64::from(n) };
        sender.send(&point).unwrap();
        assert_eq!(*receiver.recv().unwrap(), point);
    }
    assert_eq!(receiver.try_recv().unwrap_err(), RecvFailure::Empty);
    drop(sender);
    assert_eq!(receiver.recv().unwrap_err(), RecvFailure::Closed { died: 0 });
}

#[test]
fn a_large_value_is_written_where_it_is_read() {
    let address = address("typed-large", "");
    let (sender, receiver) = (Sender::<Frame>::open(&address).unwrap(), Receiver::<Frame>::open(&address).unwrap());
    for number in 0..50 {
        let mut frame = sender.loan().unwrap();
        frame.number = number;
        frame.pixels.fill(number as u32);
        frame.commit().unwrap();
        drop(sender.loan().unwrap()); // sends nothing
        let frame = receiver.recv().unwrap();
        assert_eq!(frame.number, number);
        assert!(frame.pixels.iter().all(|pixel| u64::from(*pixel) == number));
    }
    assert!(receiver.untyped().is_empty());
}

/// What comes by copy, through the kernel or from a link that drops the oldest, need not be aligned.
#[test]
fn values_that_were_copied_arrive_too() {
    let fifo = format!("fifo:{}", place::home().join("typed-fifo").display());
    for address in [address("typed-drop", "full=drop-oldest"), fifo] {
        let receiver = Receiver::<Point>::open(&address).unwrap();
        let sender = Sender::<Point>::open(&address).unwrap();
        for n in 0..20 {
            let point = Point { x: f64::from(n), y: 0.5 };
            sender.send(&point).unwrap();
            let value = receiver.recv().unwrap();
            assert_eq!((*value, value.message().redelivered()), (point, false));
        }
    }
}

#[test]
fn two_that_disagree_are_both_named() {
    let address = address("typed-other", "");
    let _sender = Sender::<Point>::open(&address).unwrap();
    let error = Receiver::<other::Point>::open(&address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    let text = error.to_string();
    let both = ["Point { x: f64 at 0, y: f64 at 8 } of 16 bytes", "Point { x: f32 at 0, y: f32 at 4 } of 8 bytes"];
    assert!(both.iter().all(|one| text.contains(one)), "{text}");
    let error = encoded::Receiver::<u64>::open(&address).unwrap_err().to_string();
    assert!(error.contains(both[0]) && error.contains("`u64, encoded by postcard`"), "{error}");
    Receiver::<Point>::open(&address).unwrap();
}

#[test]
fn a_link_of_bytes_is_not_taken_for_a_typed_one() {
    let address = address("typed-bytes", "");
    let _sender = ginnel::Sender::open(&address).unwrap();
    let error = Receiver::<Point>::open(&address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    let text = error.to_string();
    assert!(text.contains("plain bytes") && text.contains("Point {"), "{text}");
}

/// The tool, for one, takes any link for bytes; what it sends there is looked at.
#[test]
fn what_is_no_value_is_told_and_passed_over() {
    let address = address("typed-wrong", "");
    let (typed, receiver) = (Sender::<Point>::open(&address).unwrap(), Receiver::<Point>::open(&address).unwrap());
    let bytes = ginnel::Sender::open(&address).unwrap();
    bytes.send(b"no point").unwrap();
    bytes.send(&[0; 17]).unwrap();
    typed.send(&Point { x: 1.0, y: 2.0 }).unwrap();
    assert_eq!(receiver.recv().unwrap_err(), RecvFailure::WrongType { len: 8 });
    assert_eq!(receiver.recv().unwrap_err(), RecvFailure::WrongType { len: 17 });
    assert_eq!(*receiver.recv().unwrap(), Point { x: 1.0, y: 2.0 });
}

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
enum Job {
    Resize { path: String, width: u32 },
    Many(Vec<Job>),
    Stop,
}

#[test]
fn any_value_of_serde_goes_through() {
    let address = address("encoded", "max=64KiB");
    let sender = encoded::Sender::<Job>::open(&address).unwrap();
    let receiver = encoded::Receiver::<Job>::open(&address).unwrap();
    let resize = |n: usize| Job::Resize { path: "p".repeat(n), width: n as u32 };
    let jobs = [Job::Stop, resize(3), resize(5000), Job::Many(vec![resize(1), Job::Many(vec![]), Job::Stop])];
    for job in jobs.iter().cycle().take(200) {
        sender.send(job).unwrap();
        assert_eq!(receiver.recv().unwrap(), *job);
    }
    let too_large = sender.try_send(&resize(70_000)).unwrap_err();
    assert!(matches!(too_large.reason(), SendFailure::TooLarge { .. }), "{too_large}");
    sender.send(&Job::Stop).unwrap();
    assert_eq!(receiver.recv().unwrap(), Job::Stop, "a value that was refused leaves nothing behind");
}

#[test]
fn bytes_that_are_no_encoding_are_told() {
    let address = address("encoded-wrong", "");
    let receiver = encoded::Receiver::<Job>::open(&address).unwrap();
    let bytes = ginnel::Sender::open(&address).unwrap();
    for wrong in [&[][..], &[9], &[0, 200], &[2, 0]] {
        bytes.send(wrong).unwrap();
        let len = wrong.len() as u64;
        assert_eq!(receiver.recv().unwrap_err(), RecvFailure::WrongType { len }, "{wrong:?}");
    }
    bytes.send(&[2]).unwrap();
    assert_eq!(receiver.recv().unwrap(), Job::Stop);
}

/// A value that serde cannot write in this format.
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not today"))
    }
}

#[test]
fn a_value_that_cannot_be_encoded_is_an_error() {
    let sender = encoded::Sender::<Unwritable>::open(&address("encoded-no", "")).unwrap();
    let error = sender.send(&Unwritable).unwrap_err();
    assert!(matches!(error.reason(), SendFailure::NotEncoded(_)) && error.to_string().contains("encoded"), "{error}");
}

/// The label is input like the rest of a file.
#[test]
fn a_damaged_label_is_refused() {
    let address = address("typed-damaged", "");
    let sender = Sender::<Point>::open(&address).unwrap();
    sender.send(&Point { x: 0.0, y: 0.0 }).unwrap();
    drop(sender);
    let path = file_of(&address);
    for at in [2048, 2056, 2064, 2048 + 255] {
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let error = Receiver::<Point>::open(&address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotALink, "{error}");
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
    }
    assert_eq!(*Receiver::<Point>::open(&address).unwrap().recv().unwrap(), Point { x: 0.0, y: 0.0 });
}

// ---- clones, newest values, in a Select, in tasks

#[test]
fn clones_share_a_typed_link() {
    let address = address("typed-cloned", "capacity=64");
    let (sender, receiver) = (Sender::<Point>::open(&address).unwrap(), Receiver::<Point>::open(&address).unwrap());
    let (other_sender, other) = (sender.try_clone().unwrap(), receiver.try_clone().unwrap());
    let points = [Point { x: 1.0, y: 0.5 }, Point { x: 2.0, y: 0.5 }];
    sender.send(&points[0]).unwrap();
    drop(sender);
    std::thread::spawn(move || other_sender.send(&points[1]).unwrap()).join().unwrap();
    assert_eq!(*receiver.recv().unwrap(), points[0]);
    std::thread::spawn(move || assert_eq!(*other.recv().unwrap(), points[1])).join().unwrap();
    assert_eq!(receiver.recv().unwrap_err(), RecvFailure::Closed { died: 0 });

    let jobs = encoded::Sender::<Job>::open(&address.replace("cloned", "cloned-jobs")).unwrap();
    let doing = encoded::Receiver::<Job>::open(&address.replace("cloned", "cloned-jobs")).unwrap();
    jobs.try_clone().unwrap().send(&Job::Stop).unwrap();
    assert_eq!(doing.try_clone().unwrap().recv().unwrap(), Job::Stop);
}

/// The newest value of each kind of typed link: in an aligned copy, into a value, decoded. A message of another size is told, and changes nothing.
#[test]
fn the_newest_value_is_typed() {
    let address = address("typed-latest", "shape=latest&max=8KiB");
    let (sender, receiver) = (Sender::<Frame>::open(&address).unwrap(), Receiver::<Frame>::open(&address).unwrap());
    let mut frame = Frame { number: 99, pixels: [9; 1024] };
    assert_eq!(receiver.latest().map(drop).unwrap_err(), RecvFailure::Empty);
    assert_eq!(receiver.latest_into(&mut frame).unwrap_err(), RecvFailure::Empty);
    assert_eq!((frame.number, frame.pixels[1023]), (99, 9), "left alone on an error");
    for number in 0..50 {
        sender.send(&Frame { number, pixels: [number as u32; 1024] }).unwrap();
        let newest = receiver.latest().unwrap();
        assert_eq!((newest.number, newest.message().position()), (number, number));
        assert!(newest.pixels.iter().all(|pixel| u64::from(*pixel) == number));
        drop(newest);
        assert_eq!(receiver.latest_into(&mut frame).unwrap(), number);
        assert!(frame.number == number && frame.pixels.iter().all(|pixel| u64::from(*pixel) == number));
    }
    ginnel::Sender::open(&address).unwrap().send(&[0; 17]).unwrap();
    assert_eq!(receiver.latest().map(drop).unwrap_err(), RecvFailure::WrongType { len: 17 });
    assert_eq!(receiver.latest_into(&mut frame).unwrap_err(), RecvFailure::WrongType { len: 17 });
    assert_eq!((frame.number, frame.pixels[1023]), (49, 49), "left alone on an error");

    let address = address.replace("typed-latest", "encoded-latest");
    let (jobs, doing) = (encoded::Sender::open(&address).unwrap(), encoded::Receiver::<Job>::open(&address).unwrap());
    assert_eq!(doing.latest().unwrap_err(), RecvFailure::Empty);
    jobs.send(&Job::Many(vec![Job::Stop])).unwrap();
    jobs.send(&Job::Stop).unwrap();
    assert_eq!((doing.latest().unwrap(), doing.latest().unwrap()), (Job::Stop, Job::Stop));
}

#[test]
fn what_has_no_newest_value_says_so() {
    let receiver = Receiver::<Point>::open(&address("typed-queue", "")).unwrap();
    assert!(matches!(receiver.latest().map(drop).unwrap_err().reason(), RecvFailure::Unfit(_)));
    assert!(matches!(receiver.latest_into(&mut Point { x: 0.0, y: 0.0 }).unwrap_err().reason(), RecvFailure::Unfit(_)));
    let receiver = encoded::Receiver::<Job>::open(&address("encoded-queue", "")).unwrap();
    assert!(matches!(receiver.latest().unwrap_err().reason(), RecvFailure::Unfit(_)));
}

/// Through a select, whatever carries them; what is no value is told, and is received by that.
#[test]
fn a_message_of_a_select_is_a_value() {
    let _limit = place::limit(place::LIMIT);
    let fifo = format!("fifo:{}", place::home().join("typed-select-fifo").display());
    let (points_at, jobs_at) = (address("typed-select", ""), address("encoded-select", ""));
    let (points, jobs) =
        (Receiver::<Point>::open(&points_at).unwrap(), encoded::Receiver::<Job>::open(&jobs_at).unwrap());
    let piped = Receiver::<Point>::open(&fifo).unwrap();
    let sending = std::thread::spawn(move || {
        let (points, piped) = (Sender::<Point>::open(&points_at).unwrap(), Sender::<Point>::open(&fifo).unwrap());
        let jobs = encoded::Sender::<Job>::open(&jobs_at).unwrap();
        for n in 0..20 {
            std::thread::sleep(std::time::Duration::from_micros(200));
            points.send(&Point { x: f64::from(n), y: 0.5 }).unwrap();
            jobs.send(&Job::Resize { path: "p".into(), width: n }).unwrap();
            piped.send(&Point { x: f64::from(n), y: -0.5 }).unwrap();
        }
        for address in [&points_at, &jobs_at] {
            ginnel::Sender::open(address).unwrap().send(&[9; 3]).unwrap();
        }
    });
    let mut select = ginnel::Select::new().recv(&points).recv(&jobs).recv(&piped);
    let (mut next, mut wrong) = ([0; 3], 0);
    while !select.is_empty() {
        let found = select.wait();
        let Ok(message) = found.arrival.message() else {
            select.remove(found.index);
            continue;
        };
        let number = match found.index {
            0 => points.value(message).map(|point| (point.x as u32, point.y == 0.5)),
            1 => jobs.value(message).map(|job| match job {
                Job::Resize { width, .. } => (width, true),
                other => panic!("{other:?}"),
            }),
            _ => piped.value(message).map(|point| (point.x as u32, point.y == -0.5)),
        };
        match number {
            Ok(number) => assert_eq!(number, (next[found.index], true)),
            Err(e) => {
                assert_eq!(e, RecvFailure::WrongType { len: 3 });
                wrong += 1;
                continue;
            }
        }
        next[found.index] += 1;
    }
    assert_eq!((next, wrong), ([20; 3], 2));
    sending.join().unwrap();
}

fn is_send<F: Future + Send>(future: F) -> F {
    future
}

#[test]
fn values_go_through_tasks() {
    let _limit = place::limit(place::LIMIT);
    let count = 200 * place::scale() as u32;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (points_at, jobs_at) = (address("typed-async", "capacity=4"), address("encoded-async", "capacity=4&max=64"));
    let (mut points, mut jobs) =
        (Receiver::<Point>::open(&points_at).unwrap(), encoded::Receiver::<Job>::open(&jobs_at).unwrap());
    let mut senders = (Sender::<Point>::open(&points_at).unwrap(), encoded::Sender::<Job>::open(&jobs_at).unwrap());
    let sending = async move {
        let too_large = senders.1.send_async(&Job::Resize { path: "p".repeat(100), width: 0 }).await.unwrap_err();
        assert!(matches!(too_large.reason(), SendFailure::TooLarge { .. }), "{too_large}");
        for n in 0..count {
            let point = Point { x: f64::from(n), y: 0.5 };
            is_send(senders.0.send_async(&point)).await.unwrap();
            is_send(senders.1.send_async(&Job::Resize { path: "p".into(), width: n })).await.unwrap();
        }
        ginnel::Sender::open(&points_at).unwrap().send_async(&[0; 5]).await.unwrap();
        ginnel::Sender::open(&jobs_at).unwrap().send_async(&[9; 5]).await.unwrap();
    };
    let receiving = async move {
        for n in 0..count {
            assert_eq!(*is_send(points.recv_async()).await.unwrap(), Point { x: f64::from(n), y: 0.5 });
            assert_eq!(is_send(jobs.recv_async()).await.unwrap(), Job::Resize { path: "p".into(), width: n });
        }
        assert_eq!(points.recv_async().await.map(drop).unwrap_err(), RecvFailure::WrongType { len: 5 });
        assert_eq!(jobs.recv_async().await.unwrap_err(), RecvFailure::WrongType { len: 5 });
        assert_eq!(points.recv_async().await.map(drop).unwrap_err(), RecvFailure::Closed { died: 0 });
    };
    runtime.block_on(futures_util::future::join(sending, receiving));
}
