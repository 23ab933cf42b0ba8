//! Pipes and FIFOs.

use crate::bare;
use crate::cases::{Case, Cases, case};
use ginnel_os::pipe::{self, Reader, Writer};
use ginnel_os::{fifo, pipe::ATOMIC};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

const BYTES: [u8; 64] = [7; 64];

pub(crate) fn later() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(3600))
}

/// The number of a descriptor, for C.
pub(crate) fn raw(file: &impl AsFd) -> bare::Fd {
    file.as_fd().as_raw_fd()
}

fn pair() -> (Rc<Reader>, Rc<Writer>) {
    let (reader, writer) = pipe::pair().expect("a pipe");
    (Rc::new(reader), Rc::new(writer))
}

fn named() -> (Rc<Reader>, Rc<Writer>) {
    let path = std::env::temp_dir().join(format!("ginnel-cost-{}", std::process::id()));
    fifo::make(&path, 0o600).expect("a FIFO");
    let reader = fifo::reader(&path).expect("its reader");
    let writer = fifo::writer(&path, None).expect("its writer");
    fifo::unlink(&path).expect("it is ours");
    (Rc::new(reader), Rc::new(writer))
}

pub(crate) fn cases() -> Cases {
    vec![
        blocking("pipe write, read", pair()),
        blocking("fifo write, read", named()),
        vectored(pair()),
        large(pair()),
        trying("pipe try_write, try_read", pair()),
        with_deadline(pair()),
        nothing(pair()),
        trying_named(named()),
        spliced(pair(), pair()),
        teed(pair(), pair()),
    ]
}

fn blocking(name: &'static str, (reader, writer): (Rc<Reader>, Rc<Writer>)) -> Case {
    let (r, w, mut buffer, mut other) = (reader.clone(), writer.clone(), [0; 64], [0; 64]);
    let wrapped = move || (w.write(&BYTES, None).unwrap(), r.read(&mut buffer, None).unwrap());
    case(name, wrapped, move || (bare::write(raw(&*writer), &BYTES), bare::read(raw(&*reader), &mut other)))
}

fn vectored((reader, writer): (Rc<Reader>, Rc<Writer>)) -> Case {
    let (r, w, mut one, mut two) = (reader.clone(), writer.clone(), [0; 64], [0; 64]);
    let wrapped = move || {
        w.write_vectored(&[IoSlice::new(&BYTES), IoSlice::new(&BYTES)], None).unwrap();
        r.read_vectored(&mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)], None).unwrap()
    };
    let (mut one, mut two) = ([0; 64], [0; 64]);
    case("pipe write_vectored, read_vectored", wrapped, move || {
        bare::writev(raw(&*writer), &BYTES, &BYTES);
        bare::readv(raw(&*reader), &mut one, &mut two)
    })
}

fn large((reader, writer): (Rc<Reader>, Rc<Writer>)) -> Case {
    let (r, w, mut buffer, mut other) = (reader.clone(), writer.clone(), [0; ATOMIC], [0; ATOMIC]);
    let wrapped = move || {
        w.write_atomic(&[IoSlice::new(&[7; ATOMIC])], None).unwrap();
        r.read(&mut buffer, None).unwrap()
    };
    case("pipe write_atomic, read of 4 KiB", wrapped, move || {
        bare::write(raw(&*writer), &[7; ATOMIC]);
        bare::read(raw(&*reader), &mut other)
    })
}

fn trying(name: &'static str, (reader, writer): (Rc<Reader>, Rc<Writer>)) -> Case {
    let (r, w, mut buffer, mut other) = (reader.clone(), writer.clone(), [0; 64], [0; 64]);
    let wrapped = move || (w.try_write(&BYTES).unwrap(), r.try_read(&mut buffer).unwrap());
    case(name, wrapped, move || {
        (bare::write_nowait(raw(&*writer), &BYTES), bare::read_nowait(raw(&*reader), &mut other))
    })
}

fn with_deadline((reader, writer): (Rc<Reader>, Rc<Writer>)) -> Case {
    let (r, w, mut buffer, mut other, later) = (reader.clone(), writer.clone(), [0; 64], [0; 64], later());
    let wrapped = move || (w.write(&BYTES, later).unwrap(), r.read(&mut buffer, later).unwrap());
    case("pipe write, read until a deadline", wrapped, move || {
        (bare::write_nowait(raw(&*writer), &BYTES), bare::read_nowait(raw(&*reader), &mut other))
    })
}

fn nothing((reader, writer): (Rc<Reader>, Rc<Writer>)) -> Case {
    let (r, mut buffer, mut other) = (reader.clone(), [0; 64], [0; 64]);
    let wrapped = move || r.try_read(&mut buffer).is_err();
    case("pipe try_read of nothing", wrapped, move || {
        let _open = &writer;
        bare::read_nowait(raw(&*reader), &mut other) < 0
    })
}

fn trying_named((reader, writer): (Rc<Reader>, Rc<Writer>)) -> Case {
    let (other_reader, other_writer) = named();
    bare::set_nonblocking(raw(&*other_reader));
    bare::set_nonblocking(raw(&*other_writer));
    let (mut buffer, mut other) = ([0; 64], [0; 64]);
    let wrapped = move || (writer.try_write(&BYTES).unwrap(), reader.try_read(&mut buffer).unwrap());
    case("fifo try_write, try_read", wrapped, move || {
        (bare::write(raw(&*other_writer), &BYTES), bare::read(raw(&*other_reader), &mut other))
    })
}

fn spliced(from: (Rc<Reader>, Rc<Writer>), to: (Rc<Reader>, Rc<Writer>)) -> Case {
    let (a, b, mut buffer) = (from.clone(), to.clone(), [0; 64]);
    let wrapped = move || {
        bare::write(raw(&*a.1), &BYTES);
        a.0.splice(&*b.1, None, 64, None).unwrap();
        bare::read(raw(&*b.0), &mut buffer)
    };
    let mut buffer = [0; 64];
    case("pipe splice (with a write and a read)", wrapped, move || {
        bare::write(raw(&*from.1), &BYTES);
        bare::splice(raw(&*from.0), raw(&*to.1), 64);
        bare::read(raw(&*to.0), &mut buffer)
    })
}

fn teed(from: (Rc<Reader>, Rc<Writer>), to: (Rc<Reader>, Rc<Writer>)) -> Case {
    bare::write(raw(&*from.1), &BYTES);
    let (a, b, mut buffer) = (from.clone(), to.clone(), [0; 64]);
    let wrapped = move || (a.0.tee(&b.1, 64, None).unwrap(), bare::read(raw(&*b.0), &mut buffer));
    let mut buffer = [0; 64];
    case("pipe tee (with a read)", wrapped, move || {
        (bare::tee(raw(&*from.0), raw(&*to.1), 64), bare::read(raw(&*to.0), &mut buffer))
    })
}
