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
