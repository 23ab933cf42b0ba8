//! Copies to and from memory that a peer may be writing, beside `memcpy(3)`, which may not be used there: its plain loads and stores
//! are a data race. What stands in its place is a loop of atomic words for what is short, and the processor's own instruction for the rest.

use crate::bare;
use crate::cases::{Case, Cases, case};
use ginnel_os::mmap::Mapping;
use std::hint::black_box;

pub(crate) fn cases() -> Cases {
    let sizes = [
        ("shared copy_in, copy_out of 64 B", 64),
        ("shared copy_in, copy_out of 4 KiB", 4096),
        ("shared copy_in, copy_out of 64 KiB", 65536),
    ];
    sizes.into_iter().map(|(name, size)| copied(name, size)).collect()
}

fn copied(name: &'static str, size: usize) -> Case {
    let memory: &'static Mapping = Box::leak(Box::new(Mapping::anonymous(size).expect("memory")));
    let (mut buffer, mut other) = (vec![7; size], vec![7; size]);
    let at = memory.base().as_ptr();
    let wrapped = move || {
        memory.shared().copy_in(0, &buffer).unwrap();
        memory.shared().copy_out(0, &mut buffer).unwrap();
    };
    let plain = move || {
        bare::copy(other.as_ptr(), at, size);
        // The compiler knows that to copy back what was just copied changes nothing.
        black_box(at);
        bare::copy(at, other.as_mut_ptr(), size);
    };
    case(name, wrapped, plain).in_process()
}
