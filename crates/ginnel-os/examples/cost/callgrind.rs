//! Client requests of valgrind, and the counts that callgrind writes at them.
//!
//! A request is an instruction sequence that does nothing on a processor and is recognised by valgrind; see `valgrind.h`. `cost.sh` turns the
//! dumps into lines of name, side and instructions.
#![allow(unsafe_code)] // The sequence, which only assembly can write.

use crate::COUNTED;
use std::collections::HashMap;
use std::ffi::CString;

/// `VG_USERREQ_TOOL_BASE('C', 'T')`.
const BASE: u64 = 0x4354_0000;

/// `CALLGRIND_ZERO_STATS`: counts from here.
pub(crate) fn zero() {
    request(BASE + 1, 0);
}

/// `CALLGRIND_DUMP_STATS_AT`: writes the counts since [`zero`], marked with a text.
pub(crate) fn dump(text: &str) {
    let text = CString::new(text).expect("names have no zero byte");
    request(BASE + 3, text.as_ptr().expose_provenance() as u64);
}

#[cfg(target_arch = "x86_64")]
#[inline(never)]
fn request(code: u64, argument: u64) {
    let arguments = [code, argument, 0, 0, 0, 0];
    // SAFETY: rotations by 128 bits in all and an exchange of a register with itself change nothing but the flags; under valgrind the
    // result comes back in rdx, and `arguments` is read.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            in("rax") arguments.as_ptr(), inout("rdx") 0u64 => _, options(nostack),
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn request(_code: u64, _argument: u64) {}

/// Instructions of one call, wrapped and bare, by name.
pub(crate) fn read(path: &str) -> HashMap<String, (f64, f64)> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("cannot read {path}: {e}"));
    let mut counts = HashMap::<String, (f64, f64)>::new();
    for line in text.lines() {
        let mut fields = line.split('\t');
        let (Some(name), Some(side), Some(number)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let each = number.trim().parse::<f64>().unwrap_or(f64::NAN) / f64::from(COUNTED);
        let entry = counts.entry(name.into()).or_default();
        *(if side == "wrapped" { &mut entry.0 } else { &mut entry.1 }) = each;
    }
    counts
}
