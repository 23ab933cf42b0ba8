//! `eventfd(2)`: a counter of 64 bits behind a descriptor, which is readable while it is not 0: for waking another thread or process, and as
//! a semaphore that `poll(2)` can wait for.
//!
//! - [`EventFd::signal`] and [`EventFd::clear`] are for waking: neither can fail in a way that matters to who wakes. The other calls are for counting.
//! - The description does not block, which whoever inherits it finds. A description that comes from elsewhere and blocks is refused: changing it would
//!   change it for its other holders.
//! - The counter holds at most [`MOST`]; a writer that would go beyond waits for a reader.

use crate::explain::not_opened;
use crate::poll;
use rustix::event::{EventfdFlags, epoll};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

/// The greatest value of the counter, 2^64 - 2.
pub const MOST: u64 = u64::MAX - 1;

/// An event counter.
///
/// ```
/// use ginnel_os::eventfd::EventFd;
///
/// let event = EventFd::new()?;
/// event.add(2, None)?;
/// event.add(3, None)?;
/// assert_eq!(event.read(None)?, 5);
/// assert_eq!(event.try_read().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// `eventfd(2)`: not readable yet.
    ///
    /// # Errors
    /// The errno: `EMFILE`.
    pub fn new() -> io::Result<Self> {
        Self::make(0, EventfdFlags::empty())
    }

    /// `eventfd(2)` with `EFD_SEMAPHORE`: each read takes 1 instead of everything. The call starts with up to 2^32 - 1; [`Self::add`] adds more.
    ///
    /// # Errors
    /// The errno: `EMFILE`.
    ///
    /// # Examples
    /// ```
    /// let permits = ginnel_os::eventfd::EventFd::semaphore(2)?;
    /// assert_eq!(permits.try_read()?, 1);
    /// assert_eq!(permits.try_read()?, 1);
    /// assert!(permits.try_read().is_err());
    /// permits.try_add(1)?; // give one back
    /// assert_eq!(permits.try_read()?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn semaphore(count: u32) -> io::Result<Self> {
        Self::make(count, EventfdFlags::SEMAPHORE)
    }

    fn make(count: u32, flags: EventfdFlags) -> io::Result<Self> {
        Ok(Self(
            rustix::event::eventfd(count, flags | EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(not_opened)?,
        ))
    }

    /// `readlink(2)` in `/proc/self/fd`, `F_GETFL`: takes a descriptor over that is an event counter, one that a peer has passed say.
    ///
    /// # Errors
    /// `InvalidInput`: it is something else, or it blocks. Else the errno: `ENOENT` where `/proc` is not mounted.
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::eventfd::EventFd;
    /// use std::os::fd::OwnedFd;
    ///
    /// assert!(EventFd::from_fd(OwnedFd::from(EventFd::new()?)).is_ok());
    /// assert!(EventFd::from_fd(std::fs::File::open("/dev/null")?.into()).is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_fd(file: OwnedFd) -> io::Result<Self> {
        let is = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        if is.as_os_str() != "anon_inode:[eventfd]" {
            return Err(invalid(format!("the descriptor is {}, not an event counter; pass an eventfd", is.display())));
        }
        if !rustix::fs::fcntl_getfl(&file)?.contains(rustix::fs::OFlags::NONBLOCK) {
            return Err(invalid("the event counter blocks; make it with EFD_NONBLOCK".to_owned()));
        }
        Ok(Self(file))
    }

    /// `write(2)` of 1: makes it readable. That it is so already is no error.
    pub fn signal(&self) {
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// `read(2)`: makes it unreadable again, or takes 1 from a semaphore.
    pub fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }

    /// `read(2)`: takes the whole count and leaves 0, or takes 1 from a semaphore, once it is not 0.
    ///
    /// # Errors
    /// The errno; `TimedOut` when it was 0 until the deadline.
    ///
    /// # Examples
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let event = ginnel_os::eventfd::EventFd::new()?;
    /// let soon = Instant::now() + Duration::from_millis(5);
    /// assert_eq!(event.read(Some(soon)).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read(&self, deadline: Option<Instant>) -> io::Result<u64> {
        loop {
            match self.take() {
                Err(Errno::AGAIN) => still(deadline)?,
                result => return Ok(result?),
            }
            poll::readable(&[self.0.as_fd()], deadline)?;
        }
    }

    /// `read(2)`: the same at once.
    ///
    /// # Errors
    /// The errno; `WouldBlock` when it is 0.
    ///
    /// # Examples
    /// ```
    /// let event = ginnel_os::eventfd::EventFd::new()?;
    /// event.signal();
    /// assert_eq!(event.try_read()?, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_read(&self) -> io::Result<u64> {
        Ok(self.take()?)
    }

    fn take(&self) -> Result<u64, Errno> {
        let mut count = [0; 8];
        rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut count))?;
        Ok(u64::from_ne_bytes(count))
    }

    /// `write(2)`: adds to the count, once that leaves it at most [`MOST`]. Adding 0 changes nothing, and wakes nobody.
    ///
    /// # Errors
    /// `InvalidInput`: 2^64 - 1, which no count can hold. Else the errno; `TimedOut` when the sum was too great until the deadline.
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::eventfd::{EventFd, MOST};
    /// use std::time::{Duration, Instant};
    ///
    /// let event = EventFd::new()?;
    /// event.add(MOST, None)?;
    /// let soon = Instant::now() + Duration::from_millis(5);
    /// assert_eq!(event.add(1, Some(soon)).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn add(&self, value: u64, deadline: Option<Instant>) -> io::Result<()> {
        match self.put(value) {
            Err(Errno::AGAIN) => self.add_later(value, deadline),
            result => result.map_err(explain),
        }
    }

    /// `write(2)`: the same at once.
    ///
    /// # Errors
    /// As [`Self::add`]; `WouldBlock` when the sum is too great.
    ///
    /// # Examples
    /// ```
    /// use ginnel_os::eventfd::{EventFd, MOST};
    ///
    /// let event = EventFd::new()?;
    /// event.try_add(MOST)?;
    /// assert_eq!(event.try_add(1).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_add(&self, value: u64) -> io::Result<()> {
        self.put(value).map_err(explain)
    }

    fn put(&self, value: u64) -> Result<(), Errno> {
        rustix::io::retry_on_intr(|| rustix::io::write(&self.0, &value.to_ne_bytes())).map(drop)
    }

    /// `poll(2)` tells that there is room for 1, not for more; that somebody has read is told by an edge of `epoll(7)`.
    #[cold]
    fn add_later(&self, value: u64, deadline: Option<Instant>) -> io::Result<()> {
        still(deadline)?;
        let reads = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&reads, &self.0, epoll::EventData::new_u64(0), epoll::EventFlags::OUT | epoll::EventFlags::ET)?;
        loop {
            match self.put(value) {
                Err(Errno::AGAIN) => still(deadline)?,
                result => return result.map_err(explain),
            }
            if poll::readable(&[reads.as_fd()], deadline)? {
                take_edge(&reads)?;
            }
        }
    }

    /// `proc_pid_fdinfo(5)`: the count, without changing it; it may be another one at once.
    ///
    /// # Errors
    /// The errno: `ENOENT` where `/proc` is not mounted.
    ///
    /// # Examples
    /// ```
    /// let event = ginnel_os::eventfd::EventFd::new()?;
    /// event.try_add(70)?;
    /// assert_eq!(event.count()?, 70);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn count(&self) -> io::Result<u64> {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.0.as_raw_fd()))?;
        let count = info.lines().find_map(|line| line.strip_prefix("eventfd-count:"));
        let count = count.and_then(|count| u64::from_str_radix(count.trim(), 16).ok());
        count.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no eventfd-count in /proc/self/fdinfo"))
    }
}

/// Fails once the deadline has passed.
fn still(deadline: Option<Instant>) -> Result<(), Errno> {
    if deadline.is_some_and(|at| Instant::now() >= at) { Err(Errno::TIMEDOUT) } else { Ok(()) }
}

fn take_edge(reads: &OwnedFd) -> Result<(), Errno> {
    let mut event = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }];
    let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::io::retry_on_intr(|| epoll::wait(reads, &mut event[..], Some(&at_once))).map(drop)
}

#[cold]
fn explain(error: Errno) -> io::Error {
    if error == Errno::INVAL {
        return invalid(format!("an event counter holds at most {MOST}; add less than {}", u64::MAX));
    }
    error.into()
}

#[cold]
fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<EventFd> for OwnedFd {
    fn from(event: EventFd) -> Self {
        event.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm::{Storm, cpu_time};
    use std::io::ErrorKind;
    use std::time::Duration;

    #[test]
    fn waking_is_idempotent() {
        let event = EventFd::new().unwrap();
        event.signal();
        event.signal();
        assert!(poll::readable(&[event.as_fd()], Some(Instant::now())).unwrap());
        event.clear();
        event.clear();
        assert!(!poll::readable(&[event.as_fd()], Some(Instant::now())).unwrap());
    }

    #[test]
    fn a_semaphore_gives_one_at_a_time() {
        let semaphore = EventFd::semaphore(u32::MAX).unwrap();
        assert_eq!(semaphore.count().unwrap(), u64::from(u32::MAX));
        assert_eq!(semaphore.read(None).unwrap(), 1);
        assert_eq!(semaphore.count().unwrap(), u64::from(u32::MAX) - 1);
    }

    #[test]
    fn the_count_does_not_overflow() {
        let event = EventFd::new().unwrap();
        event.try_add(0).unwrap();
        assert_eq!(event.try_read().unwrap_err().kind(), ErrorKind::WouldBlock);
        let error = event.add(u64::MAX, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("18446744073709551614"), "{error}");
        event.try_add(MOST - 5).unwrap();
        assert_eq!(event.try_add(6).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(event.add(6, Some(Instant::now())).unwrap_err().kind(), ErrorKind::TimedOut);
        event.try_add(5).unwrap();
        event.signal();
        assert_eq!(event.try_read().unwrap(), MOST);
    }

    #[test]
    fn who_adds_too_much_sleeps_until_somebody_reads() {
        let event = EventFd::semaphore(0).unwrap();
        event.add(MOST - 5, None).unwrap();
        // There is room for 1, so `poll` says at once that it is writable.
        assert!(poll::writable(event.as_fd(), Some(Instant::now())).unwrap());
        let before = cpu_time();
        let until = Instant::now() + Duration::from_millis(200);
        assert_eq!(event.add(7, Some(until)).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(Instant::now() >= until);
        assert!(cpu_time() - before < Duration::from_millis(100), "it spun");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..2 {
                    std::thread::sleep(Duration::from_millis(20));
                    event.try_read().unwrap();
                }
            });
            event.add(7, None).unwrap();
        });
        assert_eq!(event.count().unwrap(), MOST);
    }

    #[test]
    fn deadlines_hold_in_a_storm_of_signals() {
        let event = EventFd::new().unwrap();
        let _storm = Storm::here();
        let until = Instant::now() + Duration::from_millis(60);
        assert_eq!(event.read(Some(until)).unwrap_err().kind(), ErrorKind::TimedOut);
        event.try_add(MOST).unwrap();
        let until = Instant::now().max(until) + Duration::from_millis(60);
        assert_eq!(event.add(1, Some(until)).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(Instant::now() >= until);
    }

    #[test]
    fn what_is_no_counter_or_blocks_is_refused() {
        let (reader, _writer) = crate::pipe::pair().unwrap();
        let error = EventFd::from_fd(reader.into()).unwrap_err();
        assert!(error.to_string().contains("not an event counter"), "{error}");
        let blocks = rustix::event::eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let error = EventFd::from_fd(blocks).unwrap_err();
        assert!(error.to_string().contains("EFD_NONBLOCK"), "{error}");
    }
}
