//! The mapped bytes of a link, as words and ranges at offsets. No reference to plain data in the region is ever made
//! here: words are atomics, payload is copied through raw pointers, and every access is checked against the length.
//!
//! Under loom the region is a table of model atomics of the same length: loom's atomics cannot lie in mapped memory.
#![allow(unsafe_code)] // Turns offsets into addresses; each is checked against the length of the mapping first.

#[cfg(not(loom))]
pub use mapped::Memory;
#[cfg(loom)]
pub use modelled::Memory;

use crate::layout::{INLINE_MAX, SLOT_HEAD};
use crate::sync::AtomicU64;
#[cfg(not(all(target_arch = "x86_64", not(loom))))]
use crate::sync::Relaxed;
use core::mem::MaybeUninit;

/// The words of one line.
#[cfg(not(loom))]
pub(crate) type Line = [crate::sync::AtomicU64; crate::layout::LINE / 8];
#[cfg(loom)]
pub(crate) use modelled::Line;

/// Bytes that [`copy_short_out`] copies at most.
const SHORT_OUT: usize = in_pairs(crate::layout::VALUE_INLINE);

/// Bytes that [`copy_short_out`] writes for so many, of which there are at most 2^32.
#[inline(always)]
pub(crate) const fn in_pairs(len: usize) -> usize {
    (len + 15) & !15
}

/// Copies at least `len` bytes from words that others may write meanwhile, in steps of 16.
///
/// # Panics
/// If either side has no room for the last step, or these are more bytes than a small value has.
#[inline(always)]
pub(crate) fn copy_short_out(from: &[AtomicU64], to: &mut [MaybeUninit<u8>], len: usize) {
    let padded = in_pairs(len);
    assert!(padded <= to.len() && padded <= 8 * from.len() && padded <= SHORT_OUT);
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    {
        /// Copies the 16 bytes from `$at`, if there are as many to copy: each offset is part of its instructions, and one register does for all.
        macro_rules! pair {
            ($at:literal) => {
                if $at < padded {
                    // ORDERING: relaxed, two words in one load; published by [S20@latest], or torn, which [S21@latest] tells.
                    // SAFETY: reads 16 bytes of the words, and writes 16 bytes of `to`: both have them, as checked, as `padded` is a multiple of 16.
                    unsafe {
                        core::arch::asm!(
                            "movups {pair}, xmmword ptr [{from} + {at}]",
                            "movups xmmword ptr [{to} + {at}], {pair}",
                            pair = out(xmm_reg) _, from = in(reg) from.as_ptr(), to = in(reg) to.as_mut_ptr(), at = const $at,
                            options(nostack, preserves_flags),
                        );
                    }
                }
            };
        }
        pair!(0);
        pair!(16);
        pair!(32);
        pair!(48);
        pair!(64);
        pair!(80);
        pair!(96);
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    for (place, word) in to[..padded].chunks_exact_mut(8).zip(from) {
        // ORDERING: relaxed, published by [S20@latest]; or torn, which [S21@latest] tells.
        let word = word.load(Relaxed).to_le_bytes();
        place.iter_mut().zip(word).for_each(|(place, byte)| _ = place.write(byte));
    }
}

/// How the bytes of a part of a stream get to the region. Both end the same; which is faster depends on where the reader's core is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Through the caches: the writer's core first gets each line from the reader's, which is quick where the two share a cache.
    Cache,
    /// Past the caches, to memory, by stores that are told so: no line is asked for before it is written. Where there are none, as [`Self::Cache`].
    Memory,
}

/// The words of the header page.
#[cfg(not(loom))]
pub(crate) type Control = [crate::sync::AtomicU64; crate::layout::CONTROL_BYTES / 8];

/// Copies a short message to its place in the line of its slot, and zeroes behind it, up to the next multiple of 8.
///
/// Loads of 8 bytes, stores of 16. Not wider loads: a message was often written a moment ago, by words, and a load that spans two
/// stores waits until both have left the store buffer. Not narrower stores: those to lines that the other side has read wait in
/// that buffer until the line is back, and the more messages fit into it, the more lines are on their way at once.
///
/// # Panics
/// If the message is longer than its place.
#[inline(always)]
pub(crate) fn copy_short_in(slot: &Line, from: &[u8]) {
    assert!(from.len() <= INLINE_MAX, "a message that is too long for its slot");
    #[cfg(loom)]
    slot.is_written();
    let whole = copy_pairs(slot, from);
    for (word, place) in from[whole..].chunks(8).zip(&slot[(SLOT_HEAD + whole) / 8..]) {
        let word = match *word {
            [a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            _ => word.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        // ORDERING: relaxed, published by the slot's word.
        place.store(word, crate::sync::Relaxed);
    }
}

/// Fetches the second of a line's two lines of 64 bytes, which is what most processors fetch at once, without waiting for it.
#[inline(always)]
pub(crate) fn fetch_second(line: &Line) {
    hint::fetch(&line[8]);
}

/// Fetches both lines of 64 bytes that lie so many bytes behind a line, to be read, without waiting for them. There need be no memory.
#[inline(always)]
pub(crate) fn fetch_behind(line: &Line, bytes: usize) {
    let line = core::ptr::from_ref(line).wrapping_byte_add(bytes);
    hint::fetch(line);
    hint::fetch(line.wrapping_byte_add(64));
}

/// The same, to be written.
#[inline(always)]
pub(crate) fn own_behind(line: &Line, bytes: usize) {
    let line = core::ptr::from_ref(line).wrapping_byte_add(bytes);
    hint::own(line);
    hint::own(line.wrapping_byte_add(64));
}

/// Hints, which fault nowhere, and access nothing as far as the language is concerned.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(loom)))]
mod hint {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

    #[inline(always)]
    pub(super) fn fetch<T>(at: *const T) {
        // SAFETY: a hint, which needs SSE.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    /// By its instruction: the compiler takes another one for processors that it does not know to have it. Those do nothing for it.
    #[inline(always)]
    pub(super) fn own<T>(at: *const T) {
        // SAFETY: a hint, which accesses no memory and faults nowhere, whatever the address.
        unsafe { core::arch::asm!("prefetchw byte ptr [{}]", in(reg) at, options(nostack, preserves_flags, readonly)) }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_feature = "sse2", not(loom))))]
mod hint {
    pub(super) fn fetch<T>(_at: *const T) {}
    pub(super) fn own<T>(_at: *const T) {}
}

/// The part of [`copy_short_in`] that goes by 16 bytes at a time; how many bytes that was.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(loom)))]
#[inline(always)]
fn copy_pairs(slot: &Line, from: &[u8]) -> usize {
    /// Copies the 16 bytes from `$at`, if there are as many: each offset is part of its instructions, and two registers do for all.
    macro_rules! pair {
        ($at:literal) => {
            if $at + 16 <= from.len() {
                // ORDERING: relaxed, two words in one store; published by the slot's word [S9@ring].
                // SAFETY: reads 16 bytes of `from`, which has them, and writes 16 bytes of two atomics of the line, which lie there, as `$at` is
                // at most 96.
                unsafe {
                    core::arch::asm!(
                        "movq {pair}, qword ptr [{from} + {at}]",
                        "movhps {pair}, qword ptr [{from} + {at} + 8]",
                        "movups xmmword ptr [{slot} + {at} + {head}], {pair}",
                        pair = out(xmm_reg) _, from = in(reg) from.as_ptr(), slot = in(reg) slot.as_ptr(),
                        at = const $at, head = const SLOT_HEAD,
                        options(nostack, preserves_flags),
                    );
                }
            }
        };
    }
    pair!(0);
    pair!(16);
    pair!(32);
    pair!(48);
    pair!(64);
    pair!(80);
    pair!(96);
    from.len() & !15
}

#[cfg(not(all(target_arch = "x86_64", target_feature = "sse2", not(loom))))]
fn copy_pairs(_slot: &Line, _from: &[u8]) -> usize {
    0
}

#[cfg(not(loom))]
mod mapped {
    use super::{Control, Line, Route};
    use crate::layout::{CONTROL_BYTES, LINE};
    use crate::sync::{AtomicU32, AtomicU64};
    use core::mem::MaybeUninit;
    use core::ptr::NonNull;

    /// A mapped region: a base address and a length in bytes. It does not own the mapping.
    pub struct Memory {
        base: NonNull<u8>,
        len: usize,
        /// Offset of the last word: one comparison bounds a word.
        last_word: usize,
        /// Offset of the last line, likewise.
        last_line: usize,
    }

    // SAFETY: all shared access goes through atomics, or through raw copies of ranges that the queue's protocol gives
    // to one side at a time; the struct itself is two plain values.
    unsafe impl Send for Memory {}
    // SAFETY: as for Send; no method needs exclusive access to the struct.
    unsafe impl Sync for Memory {}

    impl Memory {
        /// Describes a mapping of `len` bytes at `base`, which must be aligned to 16 bytes.
        ///
        /// # Safety
        /// The range must stay mapped, readable and writable for as long as the value or anything made from it is used.
        pub unsafe fn new(base: NonNull<u8>, len: usize) -> Self {
            assert!(
                base.as_ptr().addr() % 16 == 0 && len >= CONTROL_BYTES,
                "a region must be aligned to 16 bytes, and hold a header"
            );
            Self { base, len, last_word: len - 8, last_line: len - LINE }
        }

        /// Bytes in the region.
        pub fn len(&self) -> usize {
            self.len
        }

        /// Whether the region has no bytes.
        pub fn is_empty(&self) -> bool {
            self.len == 0
        }

        /// The address of the word at `offset`, which the layout makes a multiple of its size.
        #[inline(always)]
        fn at(&self, offset: usize) -> NonNull<u8> {
            assert!(offset <= self.last_word, "an offset outside the region");
            debug_assert_eq!(offset % 8, 0);
            // SAFETY: eight bytes from the offset lie within the mapping, as just checked.
            unsafe { self.base.add(offset) }
        }

        #[inline(always)]
        pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
            // SAFETY: in range as checked by `at`; aligned, as every offset of a word in `layout` and `header` is a multiple
            // of 8 (its tests), and the base is; shared memory is only ever accessed as an atomic here.
            unsafe { self.at(offset).cast::<AtomicU64>().as_ref() }
        }

        /// The words of a whole line: one check for all of them.
        #[inline(always)]
        pub(crate) fn line(&self, offset: usize) -> &Line {
            assert!(offset <= self.last_line, "a line outside the region");
            debug_assert_eq!(offset % 8, 0);
            // SAFETY: a line from the offset lies within the mapping, as just checked.
            let line = unsafe { self.base.add(offset) }.cast::<Line>();
            // SAFETY: as in `word`, for each of its words.
            unsafe { line.as_ref() }
        }

        /// A word of the header page: checked when compiled, as no region is shorter.
        #[inline(always)]
        pub(crate) fn control(&self, offset: usize) -> &AtomicU64 {
            // SAFETY: `new` made sure that the region has a header page; the rest as in `word`.
            let page = unsafe { self.base.cast::<Control>().as_ref() };
            &page[offset / 8]
        }

        /// The first half of a word of the header page: checked when compiled, likewise.
        #[inline(always)]
        pub(crate) fn control32(&self, offset: usize) -> &AtomicU32 {
            // SAFETY: as in `control`; a word has room for half of one, and its alignment.
            unsafe { &*core::ptr::from_ref(self.control(offset)).cast::<AtomicU32>() }
        }

        /// The address of `len` bytes at `offset`.
        ///
        /// # Panics
        /// If the range leaves the region.
        #[inline(always)]
        pub fn bytes(&self, offset: usize, len: usize) -> NonNull<u8> {
            assert!(offset <= self.len && len <= self.len - offset, "a range outside the region");
            // SAFETY: offset + len lies within the mapping, as just checked.
            unsafe { self.base.add(offset) }
        }

        #[inline(always)]
        pub(crate) fn copy_in(&self, offset: usize, from: &[u8]) {
            let to = self.bytes(offset, from.len());
            // SAFETY: `to` has room for `from.len()` bytes of the mapping; `from` is private memory, so they are apart.
            unsafe { copy(from.as_ptr(), to.as_ptr(), from.len()) }
        }

        /// As [`Self::copy_in`], by a route.
        #[inline]
        pub(crate) fn copy_in_by(&self, route: Route, offset: usize, from: &[u8]) {
            if route == Route::Cache {
                return self.copy_in(offset, from);
            }
            let to = self.bytes(offset, from.len());
            // SAFETY: as in `copy_in`.
            unsafe { copy_past(from.as_ptr(), to.as_ptr(), from.len()) }
        }

        /// Copies to `offset`, a multiple of 8, what others may read meanwhile: as [`Self::copy_out_racing`] does. Zeroes behind it, up to the next multiple of 8.
        #[inline(always)]
        pub(crate) fn copy_over(&self, offset: usize, from: &[u8]) {
            let to = self.bytes(offset, from.len().next_multiple_of(8));
            let bulk = from.len() / BULK * BULK;
            if bulk > 0 {
                // SAFETY: as many bytes of `from` as it has, and of the mapping, as `bytes` checked; `from` is private memory, so they are apart.
                unsafe { copy_bulk(from.as_ptr(), to.as_ptr(), bulk) };
            }
            for (word, at) in from[bulk..].chunks(8).zip((offset + bulk..).step_by(8)) {
                let mut bytes = [0; 8];
                bytes[..word.len()].copy_from_slice(word);
                // ORDERING: relaxed, published by [S20@latest], and torn for who reads meanwhile [S21@latest].
                self.word(at).store(u64::from_le_bytes(bytes), crate::sync::Relaxed);
            }
        }

        /// Copies from `offset`, a multiple of 8, what others may write meanwhile: by relaxed loads, so that this is no data race, whatever comes of it.
        /// Writes every byte of `to`.
        #[inline(always)]
        pub(crate) fn copy_out_racing(&self, offset: usize, to: &mut [MaybeUninit<u8>]) {
            let from = self.bytes(offset, to.len().next_multiple_of(8));
            let bulk = to.len() / BULK * BULK;
            if bulk > 0 {
                // SAFETY: as many bytes of the mapping, as `bytes` checked, and of `to` as it has; `to` is private memory, so they are apart.
                unsafe { copy_bulk(from.as_ptr(), to.as_mut_ptr().cast(), bulk) };
            }
            for (place, at) in to[bulk..].chunks_mut(8).zip((offset + bulk..).step_by(8)) {
                // ORDERING: relaxed, published by [S20@latest], or torn, which [S21@latest] tells.
                let word = self.word(at).load(crate::sync::Relaxed).to_le_bytes();
                place.iter_mut().zip(word).for_each(|(place, byte)| _ = place.write(byte));
            }
        }

        #[inline(always)]
        pub(crate) fn copy_out(&self, offset: usize, to: &mut [u8]) {
            let from = self.bytes(offset, to.len());
            // SAFETY: `from` has `to.len()` bytes of the mapping; `to` is private memory, so they are apart.
            unsafe { copy(from.as_ptr(), to.as_mut_ptr(), to.len()) }
        }

        /// Copies bytes that a peer may be writing at this moment: then what was copied is worth nothing, which the caller finds out by other
        /// means.
        pub(crate) fn copy_contested(&self, offset: usize, to: &mut [u8]) {
            let from = self.bytes(offset, to.len());
            #[cfg(target_arch = "x86_64")]
            // SAFETY: reads `to.len()` bytes of the mapping, as checked by `bytes`, and writes as many to private memory. In assembly, as the
            // bytes may change meanwhile, which no plain read of the language allows. The direction flag is clear, as the ABI says.
            unsafe {
                core::arch::asm!(
                    "rep movsb",
                    inout("rcx") to.len() => _, inout("rsi") from.as_ptr() => _, inout("rdi") to.as_mut_ptr() => _,
                    options(nostack, preserves_flags),
                );
            }
            #[cfg(not(target_arch = "x86_64"))]
            for (at, byte) in to.iter_mut().enumerate() {
                // SAFETY: within the range that `bytes` checked.
                let place = unsafe { from.add(at) }.cast::<core::sync::atomic::AtomicU8>();
                // SAFETY: as above; shared bytes are read as atomics.
                *byte = unsafe { place.as_ref() }.load(crate::sync::Relaxed);
            }
        }
    }

    /// Bytes of a turn of [`copy_bulk`].
    const BULK: usize = 64;

    /// Copies as `memcpy` does, and as fast where that is slow. From 2 KiB on it is one instruction in many a C library (`rep movsb`), and on some
    /// processors (AMD's Zen 3 and 4) that takes 20 times as long where the target lies 1 to 31 bytes behind the source, counted within their pages:
    /// each load then waits for a store which it takes for one to its own address. That is how a large buffer of an allocator's, 16 bytes
    /// behind the begin of a page, lies to a ring which begins with one.
    ///
    /// # Safety
    /// As many bytes can be read at `from` and written at `to`, and are apart; nobody else accesses them meanwhile but to read `from`.
    #[inline(always)]
    unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
        let mut done = 0;
        if cfg!(target_arch = "x86_64")
            && len >= 2048
            && (1..32).contains(&(to.addr().wrapping_sub(from.addr()) % 4096))
        {
            done = len / BULK * BULK;
            // SAFETY: fewer bytes than the caller promises.
            unsafe { copy_bulk(from, to, done) };
        }
        let (from, to) = (from.wrapping_add(done), to.wrapping_add(done));
        // SAFETY: the rest of them.
        unsafe { core::ptr::copy_nonoverlapping(from, to, len - done) }
    }

    /// Copies past the caches ([`Route::Memory`]). What is published after it is published with these bytes.
    ///
    /// # Safety
    /// As of [`copy`].
    #[cfg(target_arch = "x86_64")]
    unsafe fn copy_past(from: *const u8, to: *mut u8, len: usize) {
        // Whole lines only: a part of one would be joined with the rest of it in memory.
        let head = to.align_offset(BULK).min(len);
        let bulk = (len - head) / BULK * BULK;
        // SAFETY: the first of the bytes that the caller promises.
        unsafe { copy(from, to, head) };
        let (from, to) = (from.wrapping_add(head), to.wrapping_add(head));
        if bulk > 0 {
            // SAFETY: the next of them, and `to` is aligned as these stores want it. The fence orders them before the store that publishes them: stores of
            // this kind are not ordered by that alone.
            unsafe {
                core::arch::asm!(
                    "2:",
                    "movups {a}, [{from} + {at}]",
                    "movups {b}, [{from} + {at} + 16]",
                    "movups {c}, [{from} + {at} + 32]",
                    "movups {d}, [{from} + {at} + 48]",
                    "movntps [{to} + {at}], {a}",
                    "movntps [{to} + {at} + 16], {b}",
                    "movntps [{to} + {at} + 32], {c}",
                    "movntps [{to} + {at} + 48], {d}",
                    "add {at}, 64",
                    "cmp {at}, {bulk}",
                    "jne 2b",
                    "sfence",
                    a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
                    from = in(reg) from, to = in(reg) to, bulk = in(reg) bulk, at = inout(reg) 0usize => _,
                    options(nostack),
                );
            }
        }
        let (from, to) = (from.wrapping_add(bulk), to.wrapping_add(bulk));
        // SAFETY: the last of them.
        unsafe { copy(from, to, len - head - bulk) }
    }

    #[cfg(not(target_arch = "x86_64"))]
    use copy as copy_past;

    /// Copies a multiple of [`BULK`] bytes that another may write, or read, meanwhile. In assembly, which the compiler takes for accesses that it does not
    /// know, in this order among the atomics around it: each is one or several relaxed accesses of shared memory, as the loop of words elsewhere.
    ///
    /// # Safety
    /// As many bytes can be read at `from` and written at `to`, and are apart; both are mapped, and what is not shared is the caller's.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn copy_bulk(from: *const u8, to: *mut u8, bytes: usize) {
        debug_assert!(bytes > 0 && bytes % BULK == 0);
        // SAFETY: reads and writes `bytes` bytes from both addresses on, which the caller promises are there.
        unsafe {
            core::arch::asm!(
                "2:",
                "movups {a}, [{from} + {at}]",
                "movups {b}, [{from} + {at} + 16]",
                "movups {c}, [{from} + {at} + 32]",
                "movups {d}, [{from} + {at} + 48]",
                "movups [{to} + {at}], {a}",
                "movups [{to} + {at} + 16], {b}",
                "movups [{to} + {at} + 32], {c}",
                "movups [{to} + {at} + 48], {d}",
                "add {at}, 64",
                "cmp {at}, {bytes}",
                "jne 2b",
                a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
                from = in(reg) from, to = in(reg) to, bytes = in(reg) bytes, at = inout(reg) 0usize => _,
                options(nostack),
            );
        }
    }

    /// # Safety
    /// As above; and both are aligned to 8 where they are shared.
    #[cfg(not(target_arch = "x86_64"))]
    #[inline(always)]
    unsafe fn copy_bulk(from: *const u8, to: *mut u8, bytes: usize) {
        for at in (0..bytes).step_by(8) {
            // SAFETY: `at` is below the bytes that the caller promises at `from`.
            let from = unsafe { from.add(at) };
            // SAFETY: `at` is below the bytes that the caller promises at `to`.
            let to = unsafe { to.add(at) };
            // Volatile, and by words: what a relaxed load and store compile to, also where one of the two is not aligned, as private memory may be.
            // SAFETY: eight bytes of those that can be read, of a type without alignment.
            let word = unsafe { from.cast::<Unaligned>().read_volatile() };
            // SAFETY: eight bytes of those that can be written, likewise.
            unsafe { to.cast::<Unaligned>().write_volatile(word) };
        }
    }

    /// A word anywhere.
    #[cfg(not(target_arch = "x86_64"))]
    #[derive(Clone, Copy)]
    #[repr(C, packed)]
    struct Unaligned(u64);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{Memory, Route};
    use core::ptr::NonNull;
    use std::vec;
    use std::vec::Vec;

    const PAGE: usize = 4096;

    /// Copies so many bytes in by a route and out again, to and from private memory which lies so many bytes behind the begin of a page.
    fn there_and_back(route: Route, offset: usize, private: usize, len: usize) {
        let mut region = vec![0u128; 4 * PAGE / 16];
        let base = NonNull::new(region.as_mut_ptr().cast::<u8>()).unwrap();
        // SAFETY: the memory outlives `memory`, is aligned to 16, and as long.
        let memory = unsafe { Memory::new(base, 4 * PAGE) };
        let begin = base.as_ptr().align_offset(PAGE) + offset;
        let mut buffer = vec![0xEEu8; 4 * PAGE];
        let at = buffer.as_ptr().align_offset(PAGE) + private;
        let sent: Vec<u8> = (0..len).map(|index| (index % 251) as u8 + 1).collect();
        buffer[at..at + len].copy_from_slice(&sent);
        memory.copy_in_by(route, begin, &buffer[at..at + len]);
        buffer[at..at + len].fill(0);
        memory.copy_out(begin, &mut buffer[at..at + len]);
        assert!(buffer[at..at + len] == sent, "{route:?}, {len} bytes at {offset}, private at {private}");
        let others = [&buffer[..at], &buffer[at + len..]].concat();
        assert!(others.iter().all(|byte| *byte == 0xEE), "private bytes around {len} at {private}");
        let arrived: Vec<u8> = region.iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert!(arrived[begin..begin + len] == sent, "{route:?}, {len} bytes at {offset}, private at {private}");
        let others = [&arrived[..begin], &arrived[begin + len..]].concat();
        assert!(others.iter().all(|byte| *byte == 0), "{route:?}, around {len} bytes at {offset}");
    }

    #[test]
    fn every_byte_gets_there_by_either_route_and_none_beside_it() {
        for route in [Route::Cache, Route::Memory] {
            for offset in [0, 1, 15, 16, 48, 63, 64, 100] {
                for private in [0, 1, 16, 17, 31, 32, 80] {
                    for len in [0, 1, 15, 63, 64, 65, 127, 200, 2047, 2048, 2100, PAGE + 1] {
                        there_and_back(route, offset, private, len);
                    }
                }
            }
        }
    }
}

#[cfg(loom)]
mod modelled {
    use super::Route;
    use crate::header::{ITEMS, ROOM};
    use crate::layout::{LINE, Layout};
    use crate::sync::{AtomicU32, AtomicU64, Relaxed};
    use core::mem::MaybeUninit;
    use loom::cell::UnsafeCell;
    use std::boxed::Box;
    use std::collections::HashMap;
    use std::vec::Vec;

    /// A region made of model atomics: the lines of the header, the participants and the ring; and the bytes of a stream. It has no blocks.
    pub struct Memory {
        lines: HashMap<usize, Box<Line>>,
        sequences: HashMap<usize, AtomicU32>,
        /// The ring of a stream, and where it begins. Loom tells when two threads are at a byte at once.
        bytes: Vec<UnsafeCell<u8>>,
        ring: usize,
        len: usize,
    }

    /// The words of a line, and whether two threads are at the message in it at once. The words are atomics, and loom lets no load see what is stored
    /// later: without this, it would not tell of a slot that is given away before it was read.
    pub(crate) struct Line {
        words: [AtomicU64; LINE / 8],
        message: UnsafeCell<()>,
    }

    impl Line {
        fn zeroed() -> Self {
            Self { words: std::array::from_fn(|_| AtomicU64::new(0)), message: UnsafeCell::new(()) }
        }

        /// Loom panics if another thread is at the message, or was without telling this one.
        pub(super) fn is_written(&self) {
            self.message.with_mut(|_| ());
        }

        fn is_read(&self) {
            self.message.with(|_| ());
        }
    }

    impl core::ops::Deref for Line {
        type Target = [AtomicU64; LINE / 8];

        fn deref(&self) -> &Self::Target {
            &self.words
        }
    }

    // SAFETY: all but the bytes are atomics; the bytes are given to one side at a time by the protocol, which loom checks.
    unsafe impl Send for Memory {}
    // SAFETY: as for Send.
    unsafe impl Sync for Memory {}

    impl Memory {
        /// A zeroed region.
        pub fn new(layout: &Layout) -> Self {
            let entries = (0..layout.geometry().participants).flat_map(|p| [layout.entry(p), layout.entry(p) + LINE]);
            let slots = (0..layout.capacity()).map(|index| layout.slot(index));
            let header = (0..12).map(|line| line * LINE);
            Self {
                lines: header.chain(entries).chain(slots).map(|at| (at, Box::new(Line::zeroed()))).collect(),
                sequences: [ITEMS, ROOM].map(|at| (at, AtomicU32::new(0))).into(),
                bytes: (0..layout.stream_bytes()).map(|_| UnsafeCell::new(0)).collect(),
                ring: layout.stream_ring().unwrap_or_default(),
                len: layout.mapped_bytes(),
            }
        }

        /// A byte of the ring, which is there twice.
        fn byte(&self, offset: usize) -> &UnsafeCell<u8> {
            &self.bytes[(offset - self.ring) % self.bytes.len()]
        }

        /// Bytes in the region.
        pub fn len(&self) -> usize {
            self.len
        }

        pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
            &self.line(offset / LINE * LINE)[offset % LINE / 8]
        }

        pub(crate) fn control(&self, offset: usize) -> &AtomicU64 {
            self.word(offset)
        }

        pub(crate) fn line(&self, offset: usize) -> &Line {
            &self.lines[&offset]
        }

        pub(crate) fn control32(&self, offset: usize) -> &AtomicU32 {
            &self.sequences[&offset]
        }

        pub(crate) fn copy_in(&self, offset: usize, from: &[u8]) {
            assert!(!self.bytes.is_empty(), "a model has no blocks");
            for (at, byte) in (offset..).zip(from) {
                // SAFETY: loom panics if another thread is at this byte.
                self.byte(at).with_mut(|place| unsafe { *place = *byte });
            }
        }

        pub(crate) fn copy_in_by(&self, _: Route, offset: usize, from: &[u8]) {
            self.copy_in(offset, from);
        }

        pub(crate) fn copy_out(&self, offset: usize, to: &mut [u8]) {
            for (at, byte) in (offset..).zip(to) {
                // SAFETY: loom panics if another thread writes this byte.
                *byte = self.byte(at).with(|place| unsafe { *place });
            }
        }

        pub(crate) fn copy_contested(&self, offset: usize, to: &mut [u8]) {
            for (index, chunk) in to.chunks_mut(8).enumerate() {
                let word = self.word(offset + 8 * index).load(Relaxed).to_le_bytes();
                chunk.copy_from_slice(&word[..chunk.len()]);
            }
        }

        /// What the words of the slots in a range become when it is committed or punched.
        pub fn fill(&self, offset: u64, len: u64, word: u64) {
            let range = offset as usize..(offset + len) as usize;
            for line in self.lines.iter().filter(|(at, _)| range.contains(*at)) {
                line.1.iter().for_each(|at| at.store(word, Relaxed));
            }
        }

        pub(crate) fn copy_over(&self, offset: usize, from: &[u8]) {
            for (index, chunk) in from.chunks(8).enumerate() {
                let word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
                self.word(offset + 8 * index).store(word, Relaxed);
            }
        }

        pub(crate) fn copy_out_racing(&self, offset: usize, to: &mut [MaybeUninit<u8>]) {
            let _ = (offset, to);
            unreachable!("a model has no areas");
        }

        /// The first word of a message that the caller holds.
        pub fn first_word(&self, offset: usize) -> u64 {
            self.line(offset / LINE * LINE).is_read();
            self.word(offset).load(Relaxed)
        }
    }
}
