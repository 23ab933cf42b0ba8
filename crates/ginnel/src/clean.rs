//! Cleaning up from outside: what crashes left of any link.

use crate::error::Error;
use crate::{kernel, shm};

/// What `clean` did with one link, or would do. If nobody dead is in it and it was not removed, only the record of who was there is gone: the queue
/// or socket is another program's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cleaned {
    /// The link.
    pub address: String,
    /// Dead participants that were recovered.
    pub dead: usize,
    /// Whether nothing was left in it, so that it was removed.
    pub removed: bool,
}

/// Recovers what dead processes left in every link of this user, and removes the links in which nothing is left: those in shared memory, and the
/// message queues and datagram sockets that ginnel made. Links that living processes have open, and messages that wait for a receiver, stay.
/// With `dry_run` nothing is changed.
///
/// # Errors
/// If the directory of links cannot be read. A file that is not a link is left alone, as an error in its place.
///
/// # Examples
/// ```
/// # let dir = tempfile::tempdir()?;
/// # unsafe { std::env::set_var("GINNEL_DIR", dir.path()) };
/// let sender = ginnel::Sender::open("shm:in-use")?;
/// assert!(ginnel::clean(false)?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn clean(dry_run: bool) -> Result<Vec<Result<Cleaned, Error>>, Error> {
    let mut cleaned = shm::clean(dry_run)?;
    cleaned.extend(kernel::clean(dry_run)?);
    Ok(cleaned)
}
