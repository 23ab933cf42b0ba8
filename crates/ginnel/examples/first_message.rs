//! From nothing to the first message, between two calls that mark both ends for strace. With `--count`, prints how many descriptors
//! are open then that were not before.

use std::os::unix::process::parent_id;

fn descriptors() -> std::io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count = std::env::args().any(|argument| argument == "--count");
    let before = if count { descriptors()? } else { 0 };
    let _ = parent_id();
    let sender = ginnel::Sender::open("shm:first")?;
    sender.send(b"the first message")?;
    let _ = parent_id();
    if count {
        println!("descriptors: {}", descriptors()? - before);
    }
    drop(sender);
    ginnel::Link::new("shm:first")?.unlink(true)?;
    Ok(())
}
