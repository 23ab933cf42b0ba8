//! The moments of an operation that other processes can tell apart.
//!
//! What a killed process leaves behind is what lies in shared memory and what the kernel keeps: its own memory and its registers are
//! gone. So two moments between which it neither stored to a shared mapping nor called the kernel are one moment to whoever
//! survives: to be killed at one of them is to be killed at the other. A kill after each such step is a kill at every instruction.
//!
//! ```text
//!   mov  private   lea   mov  SHARED   add   test   jne   lock xadd  SHARED   mov private   syscall
//!   |<------- one moment ------->||<------ one moment ----------------->||<---- one ------------>||
//! ```
//! A loop that waits stores the same again and again. So the recording keeps a hash of all that the operation has stored, and of how
//! often it called the kernel: a step that leads back to a hash that was there leads to a moment that was there.
//!
//! What memory an instruction writes is told by iced-x86, a decoder. What it cannot tell counts as a new moment. Threads of the victim
//! are not looked at.

// Reads the memory of the victim.
#![allow(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use iced_x86::{Code, Decoder, DecoderOptions, InstructionInfoFactory, OpAccess, Register, UsedMemory};

/// The longest instruction that there is.
const LONGEST: usize = 15;
/// No instruction stores more words at once.
const WIDEST: usize = 8;
/// System calls that change what is mapped.
const MAPPING: [libc::c_long; 6] =
    [libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_mprotect, libc::SYS_shmat, libc::SYS_shmdt];
/// System calls that leave nothing behind.
const TRACELESS: [libc::c_long; 2] = [libc::SYS_sched_yield, libc::SYS_membarrier];

/// What is known of a victim's instructions and of its shared memory.
pub(crate) struct Visible {
    pid: libc::pid_t,
    factory: InstructionInfoFactory,
    does: HashMap<u64, Does>,
    shared: Vec<Range<u64>>,
    /// What the operation has done to shared memory and to the kernel so far.
    state: u64,
    been: HashSet<u64>,
    /// Where the next instruction stores, and what was there.
    stores: Vec<(u64, [u64; WIDEST])>,
    /// Something was done that has no name.
    unnamed: u64,
}

enum Does {
    Writes(Vec<UsedMemory>),
    CallsKernel,
    /// It cannot be told.
    Anything,
}

impl Visible {
    pub(crate) fn new(pid: libc::pid_t) -> Result<Self, String> {
        Ok(Self {
            pid,
            factory: InstructionInfoFactory::new(),
            does: HashMap::new(),
            shared: shared_mappings(pid)?,
            state: 0,
            been: HashSet::from([0]),
            stores: Vec::new(),
            unnamed: 0,
        })
    }

    /// To be called before each step.
    pub(crate) fn before(&mut self, registers: &libc::user_regs_struct) {
        self.stores.clear();
        let (pid, factory) = (self.pid, &mut self.factory);
        let Does::Writes(places) =
            self.does.entry(registers.rip).or_insert_with(|| does_at(pid, registers.rip, factory))
        else {
            return;
        };
        for memory in places {
            let at = memory.virtual_address(0, |register, _, _| value_of(register, registers));
            match at {
                Some(at) if !self.shared.iter().any(|mapping| mapping.contains(&at)) => {}
                Some(at) => self.stores.push((at & !7, words_at(self.pid, at & !7))),
                None => self.unnamed += 1,
            }
        }
    }

    /// To be called after it, with the registers from before it: whether it led to a moment that others have not seen yet.
    pub(crate) fn is_new(&mut self, before: &libc::user_regs_struct) -> Result<bool, String> {
        let number = |call: &libc::c_long| u64::try_from(*call) == Ok(before.rax);
        match self.does.get(&before.rip) {
            Some(Does::CallsKernel) => {
                if MAPPING.iter().any(number) {
                    self.shared = shared_mappings(self.pid)?;
                }
                self.unnamed += u64::from(!TRACELESS.iter().any(number));
            }
            Some(Does::Writes(_)) => {}
            _ => self.unnamed += 1,
        }
        for (at, old) in &self.stores {
            let new = words_at(self.pid, *at);
            for (index, (old, new)) in (0_u64..).zip(old.iter().zip(&new)) {
                if old != new {
                    self.state ^= hash_of((at + 8 * index, old)) ^ hash_of((at + 8 * index, new));
                }
            }
        }
        Ok(self.been.insert(self.state ^ if self.unnamed == 0 { 0 } else { hash_of(self.unnamed) }))
    }
}

fn hash_of(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Where a process has mapped what others may have mapped too, for writing.
fn shared_mappings(pid: libc::pid_t) -> Result<Vec<Range<u64>>, String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).map_err(|error| format!("its mappings: {error}"))?;
    let shared = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let access = rest.as_bytes().get(..4)?;
        let (from, to) = range.split_once('-')?;
        let bound = |text| u64::from_str_radix(text, 16).ok();
        (access[1] == b'w' && access[3] == b's').then_some(bound(from)?..bound(to)?)
    });
    Ok(shared.collect())
}

fn does_at(pid: libc::pid_t, address: u64, factory: &mut InstructionInfoFactory) -> Does {
    let mut bytes = [0_u8; LONGEST];
    let read = read(pid, address, &mut bytes);
    let instruction = Decoder::with_ip(64, &bytes[..read], address, DecoderOptions::NONE).decode();
    if instruction.is_invalid() {
        return Does::Anything;
    }
    if instruction.code() == Code::Syscall {
        return Does::CallsKernel;
    }
    let writes = |memory: &&UsedMemory| {
        !matches!(memory.access(), OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
    };
    Does::Writes(factory.info(&instruction).used_memory().iter().filter(writes).copied().collect())
}

/// Words of the victim; zeros for those that it does not have.
fn words_at(pid: libc::pid_t, address: u64) -> [u64; WIDEST] {
    let mut bytes = [0_u8; 8 * WIDEST];
    read(pid, address, &mut bytes);
    let mut words =
        bytes.chunks_exact(8).map(|word| word.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    std::array::from_fn(|_| words.next().unwrap_or(0))
}

/// How many bytes could be read.
fn read(pid: libc::pid_t, address: u64, bytes: &mut [u8]) -> usize {
    let to = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // Page by page, or nothing is read where the next page is not there.
    let here = (4096 - (address as usize % 4096)).min(bytes.len());
    let part = |from: u64, len| libc::iovec { iov_base: from as *mut libc::c_void, iov_len: len };
    let from = [part(address, here), part(address + here as u64, bytes.len() - here)];
    // SAFETY: the kernel checks the remote addresses, and writes at most as many bytes as the live buffer has.
    let read = unsafe { libc::process_vm_readv(pid, &raw const to, 1, from.as_ptr(), 2, 0) };
    usize::try_from(read).unwrap_or(0)
}

/// The value of a register, or the base of a segment.
fn value_of(register: Register, from: &libc::user_regs_struct) -> Option<u64> {
    match register {
        Register::ES | Register::CS | Register::SS | Register::DS => return Some(0),
        Register::FS => return Some(from.fs_base),
        Register::GS => return Some(from.gs_base),
        _ => {}
    }
    let whole = match register.full_register() {
        Register::RAX => from.rax,
        Register::RBX => from.rbx,
        Register::RCX => from.rcx,
        Register::RDX => from.rdx,
        Register::RSI => from.rsi,
        Register::RDI => from.rdi,
        Register::RBP => from.rbp,
        Register::RSP => from.rsp,
        Register::R8 => from.r8,
        Register::R9 => from.r9,
        Register::R10 => from.r10,
        Register::R11 => from.r11,
        Register::R12 => from.r12,
        Register::R13 => from.r13,
        Register::R14 => from.r14,
        Register::R15 => from.r15,
        Register::RIP => from.rip,
        _ => return None,
    };
    Some(match register.size() {
        8 => whole,
        4 => whole & 0xFFFF_FFFF,
        _ => return None,
    })
}
