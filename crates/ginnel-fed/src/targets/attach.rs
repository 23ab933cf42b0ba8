//! A header, whoever wrote it: refused, or read; and what is read is written the same. Where the link is small, it is used as it lies.

use crate::dice::Dice;
use crate::world::World;
use ginnel_core::{Header, HeaderError, Role};

/// Offset of the checksum in a header.
const CRC_AT: usize = 80;
/// Where it says how long the file is.
const LENGTH: std::ops::Range<usize> = 56..64;
/// Largest region that is made for one input, in bytes.
const SMALL: usize = 1 << 20;

/// The bytes are a file's first ones: as they are; with the checksum that they should have; and with the length of a file that there could be.
pub fn attach(bytes: &[u8]) {
    let _ = Header::parse(bytes, bytes.len() as u64);
    let Some(header) = bytes.get(..Header::BYTES) else { return };
    let mut header: [u8; Header::BYTES] = header.try_into().expect("as many");
    let mut length = u64::from_le_bytes(header[LENGTH].try_into().expect("eight bytes"));
    seal(&mut header);
    if let Err(HeaderError::Length { expected, .. }) = Header::parse(&header, length) {
        length = expected;
        header[LENGTH].copy_from_slice(&length.to_le_bytes());
        seal(&mut header);
    }
    let Ok((read, layout)) = Header::parse(&header, length) else { return };
    assert_eq!(read.encode(&layout), header, "what is read is written otherwise");
    assert_eq!(layout.total_bytes() as u64, length);
    assert!(layout.mapped_bytes() >= layout.total_bytes() && layout.control_bytes() <= layout.total_bytes());
    for other in [0, length / 2, length - 1, length.wrapping_add(1), u64::MAX] {
        assert!(Header::parse(&header, other).is_err(), "a file of another length");
    }
    if layout.mapped_bytes() <= SMALL {
        use_it(World::of(layout, read.asymmetric), &bytes[Header::BYTES..]);
    }
}

fn seal(header: &mut [u8; Header::BYTES]) {
    let crc = crc32fast::hash(&header[..CRC_AT]);
    header[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
}

/// What lies behind the header is whatever lies behind it in the input.
fn use_it(mut world: World, rest: &[u8]) {
    let mut dice = Dice::new(rest.len() as u64);
    for (index, word) in rest.chunks_exact(8).enumerate() {
        let (at, word) = (Header::BYTES + 4 + 8 * index, u64::from_le_bytes(word.try_into().expect("eight bytes")));
        if at < world.region.len() {
            world.region.word(at).store(word, std::sync::atomic::Ordering::Relaxed);
        }
    }
    [Role::Sender, Role::Receiver].into_iter().for_each(|role| world.join(role));
    for _ in 0..2 {
        world.send(&mut dice, 0);
        world.receive(&mut dice, 0);
        world.look();
        world.release(&mut dice, 0);
    }
    world.give_back();
    world.engine.participants().for_each(|one| world.bury(one));
    let _ = world.engine.try_remove();
}
