//! Sockets of every family.

use crate::bare;
use crate::cases::{Case, Cases, case};
use crate::streams::{later, raw};
use ginnel_os::inet::{self, Sharing};
use ginnel_os::socket::{self, Kind};
use ginnel_os::unix::{self, Outgoing};
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

const BYTES: [u8; 64] = [7; 64];
const NOW: i32 = libc::MSG_DONTWAIT;

pub(crate) fn cases() -> Cases {
    vec![
        stream("unix stream send, recv", unix_pair(Kind::Stream)),
        stream("tcp send, recv", tcp_pair()),
        trying(unix_pair(Kind::Stream)),
        nothing(unix_pair(Kind::Stream)),
        until(unix_pair(Kind::Stream)),
        vectored(unix_pair(Kind::Stream)),
        message(unix_pair(Kind::SeqPacket)),
        ancillary("unix sendmsg, recvmsg", unix_pair(Kind::SeqPacket), false),
        ancillary("unix sendmsg, recvmsg of a descriptor", unix_pair(Kind::SeqPacket), true),
        datagram(),
    ]
}

type Pair = (Rc<OwnedFd>, Rc<OwnedFd>);

fn unix_pair(kind: Kind) -> Pair {
    let (one, two) = unix::pair(kind).expect("a pair of sockets");
    (Rc::new(one), Rc::new(two))
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn tcp_pair() -> Pair {
    let listener = inet::listen(loopback(), 1, Sharing::default()).expect("a listener");
    let one = inet::connect(listener.local_addr().expect("it has an address"), None).expect("a connection");
    let (two, _) = inet::accept(&listener, None).expect("its other end");
    (Rc::new(one.into()), Rc::new(two.into()))
}

fn stream(name: &'static str, (one, two): Pair) -> Case {
    let (a, b, mut buffer, mut other) = (one.clone(), two.clone(), [0; 64], [0; 64]);
    let wrapped = move || (socket::send(&*a, &BYTES, None).unwrap(), socket::recv(&*b, &mut buffer, None).unwrap());
    case(name, wrapped, move || {
        (bare::send(raw(&*one), &BYTES, libc::MSG_NOSIGNAL), bare::recv(raw(&*two), &mut other, 0))
    })
}

fn trying((one, two): Pair) -> Case {
    let (a, b, mut buffer, mut other) = (one.clone(), two.clone(), [0; 64], [0; 64]);
    let wrapped = move || (socket::try_send(&*a, &BYTES).unwrap(), socket::try_recv(&*b, &mut buffer).unwrap());
    case("unix stream try_send, try_recv", wrapped, move || {
        (bare::send(raw(&*one), &BYTES, libc::MSG_NOSIGNAL | NOW), bare::recv(raw(&*two), &mut other, NOW))
    })
}

fn nothing((one, two): Pair) -> Case {
    let (a, mut buffer) = (one.clone(), [0; 64]);
    bare::set_nonblocking(raw(&*two));
    let mut other = [0; 64];
    case(
        "unix stream try_recv of nothing",
        move || socket::try_recv(&*a, &mut buffer).is_err(),
        move || {
            let _open = &one;
            bare::read_nothing(raw(&*two), &mut other)
        },
    )
}

fn until((one, two): Pair) -> Case {
    let (a, b, mut buffer, mut other, later) = (one.clone(), two.clone(), [0; 64], [0; 64], later());
    let wrapped = move || (socket::send(&*a, &BYTES, later).unwrap(), socket::recv(&*b, &mut buffer, later).unwrap());
    case("unix stream send, recv until a deadline", wrapped, move || {
        (bare::send(raw(&*one), &BYTES, libc::MSG_NOSIGNAL | NOW), bare::recv(raw(&*two), &mut other, NOW))
    })
}

fn vectored((one, two): Pair) -> Case {
    let (a, b, mut buffer, mut other) = (one.clone(), two.clone(), [0; 64], [0; 64]);
    let wrapped = move || {
        socket::send_vectored(&*a, &[IoSlice::new(&BYTES)], None).unwrap();
        socket::recv(&*b, &mut buffer, None).unwrap()
    };
    case("unix stream send_vectored, recv", wrapped, move || {
        (bare::sendmsg(raw(&*one), &BYTES, None), bare::recv(raw(&*two), &mut other, 0))
    })
}

fn message((one, two): Pair) -> Case {
    let (a, b, mut buffer, mut other) = (one.clone(), two.clone(), [0; 64], [0; 64]);
    let wrapped = move || {
        socket::send(&*a, &BYTES, None).unwrap();
        socket::recv_message(&*b, &mut buffer, None).unwrap()
    };
    case("unix seqpacket send, recv_message", wrapped, move || {
        (bare::send(raw(&*one), &BYTES, libc::MSG_NOSIGNAL), bare::recv(raw(&*two), &mut other, libc::MSG_TRUNC))
    })
}

fn ancillary(name: &'static str, (one, two): Pair, with_descriptor: bool) -> Case {
    let (a, b, mut buffer, mut other) = (one.clone(), two.clone(), [0; 64], [0; 64]);
    let wrapped = move || {
        let passed = [a.as_fd()];
        let descriptors = if with_descriptor { &passed[..] } else { &[] };
        let outgoing = Outgoing { slices: &[IoSlice::new(&BYTES)], descriptors, ..Outgoing::default() };
        unix::send(&*a, &outgoing, None).unwrap();
        unix::recv(&*b, &mut [IoSliceMut::new(&mut buffer)], 1, None).unwrap()
    };
    case(name, wrapped, move || {
        (bare::sendmsg(raw(&*one), &BYTES, with_descriptor.then(|| raw(&*one))), bare::recvmsg(raw(&*two), &mut other))
    })
}

fn datagram() -> Case {
    let socket = || Rc::new(inet::bind(loopback(), Sharing::default()).expect("a socket"));
    let (one, two) = (socket(), socket());
    let to = two.local_addr().expect("it has an address");
    let c_to = c_address(&two);
    let (a, b, mut buffer, mut other) = (one.clone(), two.clone(), [0; 64], [0; 64]);
    let wrapped = move || {
        inet::send_to(&*a, &BYTES, to, None).unwrap();
        inet::recv_from(&*b, &mut buffer, None).unwrap()
    };
    case("udp send_to, recv_from", wrapped, move || {
        (bare::sendto(raw(&*one), &BYTES, &c_to), bare::recvfrom(raw(&*two), &mut other))
    })
}

fn c_address(socket: &UdpSocket) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: socket.local_addr().expect("it has an address").port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() },
        sin_zero: [0; 8],
    }
}
