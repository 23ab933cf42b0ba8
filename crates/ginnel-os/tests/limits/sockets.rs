//! Sockets and FIFOs: names and messages that are too long, ends that are not there.

use crate::apart::{apart, told};
use ginnel_os::inet::{self, Sharing};
use ginnel_os::socket::Kind;
use ginnel_os::unix::{self, Address};
use ginnel_os::{fifo, socket};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

#[test]
fn a_name_that_is_too_long() {
    let path = format!("/tmp/{}", "x".repeat(103));
    told("unix: path of 108 bytes", || Address::path(&path), &["108 bytes", "107", "shorter"]);
    told("unix: abstract name of 108 bytes", || Address::abstract_name(&[b'x'; 108]), &["108 bytes", "107", "shorter"]);
}

#[test]
fn a_datagram_that_is_too_long() {
    let bound = || inet::bind((Ipv4Addr::LOCALHOST, 0).into(), Sharing::default()).unwrap();
    let (one, two) = (bound(), bound());
    let to = two.local_addr().unwrap();
    inet::try_send_to(&one, b"first", to).unwrap();
    let words = ["65508 bytes", "65507", "smaller"];
    told("udp: datagram of 65508 bytes", || inet::try_send_to(&one, &[0; 65508], to), &words);
    let until = Some(Instant::now() + Duration::from_secs(20));
    assert_eq!(inet::recv_from(&two, &mut [0; 8], until).unwrap().0, 5);
    let (one, _two) = unix::pair(Kind::SeqPacket).unwrap();
    let huge = vec![0; 16 << 20];
    let words = ["16777216 bytes", "set_send_buffer", "wmem_max"];
    told("unix: message above the send buffer", || socket::try_send(&one, &huge), &words);
}

#[test]
fn a_fifo_without_a_reader() {
    apart("sockets::a_fifo_without_a_reader", "mount -t tmpfs none /dev/shm", || {
        fifo::make("/dev/shm/fifo", 0o600).unwrap();
        let words = ["/dev/shm/fifo", "reading", "reader"];
        let now = told("fifo: no reader, tried", || fifo::try_writer("/dev/shm/fifo"), &words);
        assert_eq!(now.kind(), ErrorKind::WouldBlock);
        let soon = Some(Instant::now() + Duration::from_millis(50));
        let late = told("fifo: no reader until a deadline", || fifo::writer("/dev/shm/fifo", soon), &words);
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        let reader = fifo::reader("/dev/shm/fifo").unwrap();
        let writer = fifo::try_writer("/dev/shm/fifo").unwrap();
        drop(reader);
        let gone = told("fifo: the reader has left", || writer.try_write(b"x"), &[]);
        assert_eq!(gone.kind(), ErrorKind::BrokenPipe);
    });
}
