//! Copies to and from memory that a peer may be writing: a class of their own, as `memcpy(3)` may not be used there. Its plain loads and stores
//! are a data race; what stands in its place is a loop of atomic words for what is short, and the processor's own instruction for the rest.

use crate::bare;
use crate::cases::{Case, Cases, case};
use ginnel_os::mmap::Mapping;

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
        bare::copy(at, other.as_mut_ptr(), size);
    };
    case(name, wrapped, plain).in_process().more("memcpy may not be used on what a peer writes")
}
