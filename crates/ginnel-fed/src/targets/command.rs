//! A command line in an input: one argument a line, as bytes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Arguments at most: as many as anybody types.
const ARGUMENTS: usize = 16;

/// The arguments that an input says, behind the name of the tool.
pub fn arguments(bytes: &[u8]) -> Vec<OsString> {
    let typed = bytes.split(|byte| *byte == b'\n' || *byte == 0).take(ARGUMENTS);
    std::iter::once(&b"ginnel"[..]).chain(typed).map(|argument| OsString::from_vec(argument.to_vec())).collect()
}
