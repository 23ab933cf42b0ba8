//! Who is there, for mechanisms that do not know: message queues, datagram sockets. A file beside the links, in which each handle locks a byte for as long as
//! its process lives ([`Token`]); so the end of a stream and the death of the last peer are known among users of ginnel. Programs that know
//! nothing of ginnel are not seen: a stream that only they send to never ends.
//!
//! ```text
//! file   0  flags: 1 ginnel made the queue, 2 a sender was here, 4 a receiver was here
//! locks  2^61 the gate: while somebody joins, or the last one leaves
//!        2^62 + n a sender      2^62 + 2^32 + n a receiver
//! ```
//!
//! [I1] The file, and a queue that ginnel makes or removes, come and go under the gate only.
//! [I2] Whoever holds a token finds it in the file that has the name.

use crate::directory::Directory;
use crate::error::{Error, ErrorKind};
use ginnel_core::Role;
use ginnel_os::inotify::Inotify;
use ginnel_os::ofd_lock::{self, Token};
use ginnel_os::tmpfile::{self, Access};
use std::cell::Cell;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

const GATE: u64 = 1 << 61;
const SENDERS: u64 = 1 << 62;
const RECEIVERS: u64 = SENDERS + (1 << 32);
/// Handles of a role at once.
const HANDLES: u64 = 1 << 16;
const MADE: u8 = 1;
const SENDER_SEEN: u8 = 2;
const RECEIVER_SEEN: u8 = 4;

/// How long somebody may stand in the gate.
const PATIENCE: Duration = Duration::from_millis(500);
/// For how long to look again after a report: it comes a moment before the lock is gone.
const AGAIN: Duration = Duration::from_millis(64);

/// The directory of these files, in that of the links. No link can have its name.
pub(crate) const FOLDER: &str = "?ends";

/// A handle's presence.
pub(crate) struct Presence {
    file: OwnedFd,
    directory: OwnedFd,
    name: CString,
    link: String,
    /// `None` where the user has no more of them (`fs.inotify.max_user_instances`): then whoever waits looks again and again.
    news: Option<Inotify>,
    role: Role,
    look_again: Cell<Option<Instant>>,
    /// Dropped in `leave`.
    token: Option<Token>,
}

/// What somebody who joins finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No queue: it was made.
    Made,
    /// A queue without messages, or nothing that could hold any.
    Empty,
    /// A queue with messages.
    Messages,
}

/// The lock on joining and leaving.
struct Gate {
    _token: Token,
    file: OwnedFd,
}

fn flags(file: BorrowedFd<'_>) -> u8 {
    let mut byte = [0];
    let _ = tmpfile::read_at(file, &mut byte, 0);
    byte[0]
}

/// The file's name: readable, and different for different links.
fn name_of(link: &str) -> CString {
    let readable: String = link.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(80).collect();
    // FNV-1a, of 64 bits (draft-eastlake-fnv).
    let hash = link
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    CString::new(format!("{readable}-{hash:016x}")).expect("it holds no NUL")
}

impl Presence {
    /// Joins. Under the gate, `open` finds or makes the queue, and says which.
    pub(crate) fn join<Q>(
        link: &str,
        role: Role,
        open: impl FnOnce() -> Result<(Q, Found), Error>,
    ) -> Result<(Q, Self), Error> {
        let os = |e| Error::os("open", link, e);
        let directory = folder()?;
        let name = name_of(link);
        let gate = enter(directory.as_fd(), &name, link)?;
        let opened = open();
        let alone = is_alone(gate.file.as_fd());
        if alone && opened.is_err() {
            let _ = tmpfile::unlink_at(directory.as_fd(), &name);
        }
        let (queue, found) = opened?;
        let base = if role == Role::Sender { SENDERS } else { RECEIVERS };
        let file = tmpfile::reopen(gate.file.as_fd(), Access::ReadWrite).map_err(os)?;
        let mut token = None;
        for number in 0..HANDLES {
            token = Token::take(file.as_fd(), base + number).map_err(os)?;
            if token.is_some() {
                break;
            }
        }
        let seen = if role == Role::Sender { SENDER_SEEN } else { RECEIVER_SEEN };
        let was = flags(file.as_fd());
        // Whoever was here before a crash is of no concern any more, unless messages of theirs are there.
        let kept = match found {
            Found::Empty if alone => was & MADE,
            Found::Made if alone => 0,
            _ => was,
        };
        let is = kept | seen | if found == Found::Made { MADE } else { 0 };
        if is != was {
            tmpfile::write_at(file.as_fd(), &[is], 0).map_err(os)?;
        }
        let news = watch(file.as_fd());
        Ok((
            queue,
            Self { file, directory, name, link: link.to_owned(), news, role, look_again: Cell::new(None), token },
        ))
    }

    /// Another handle of the same role.
    pub(crate) fn another(&self) -> Result<Self, Error> {
        Self::join(&self.link, self.role, || Ok(((), Found::Messages))).map(|(_, presence)| presence)
    }

    /// Whether there was a peer, and none is there now.
    pub(crate) fn peers_gone(&self) -> bool {
        let (seen, base) = match self.role {
            Role::Sender => (RECEIVER_SEEN, RECEIVERS),
            Role::Receiver => (SENDER_SEEN, SENDERS),
        };
        flags(self.file.as_fd()) & seen != 0
            && matches!(ofd_lock::first_locked(self.file.as_fd(), base, HANDLES), Ok(None))
    }

    /// Readable when somebody came or went.
    pub(crate) fn news(&self) -> Option<BorrowedFd<'_>> {
        self.news.as_ref().map(Inotify::as_fd)
    }

    /// Takes note of the news. True as long as it is better to look again in a moment than to wait for more.
    pub(crate) fn is_unsettled(&self) -> bool {
        let Some(news) = &self.news else { return true };
        if news.read().is_ok_and(|news| news.is_none_or(|news| !news.is_empty())) {
            self.look_again.set(Some(Instant::now() + AGAIN));
        }
        match self.look_again.get() {
            Some(until) if Instant::now() < until => true,
            _ => {
                self.look_again.set(None);
                false
            }
        }
    }

    /// Leaves. If this was the last one, `end` is asked, under the gate, to remove the queue if it is empty and ginnel made it (which it is told), and says
    /// whether nothing is left; then the file goes too. If somebody removed the link meanwhile, what has its name now is not this one's.
    pub(crate) fn leave(&mut self, end: impl FnOnce(bool) -> bool) {
        if !self.token.as_ref().is_some_and(Token::is_ours) {
            return; // the parent's
        }
        let gate = self.enter_again();
        self.token = None;
        if gate.is_some() && is_alone(self.file.as_fd()) && end(flags(self.file.as_fd()) & MADE != 0) {
            let _ = tmpfile::unlink_at(self.directory.as_fd(), &self.name);
        }
    }

    /// The gate of this very file, if it still has its name.
    fn enter_again(&self) -> Option<Token> {
        let end = Instant::now() + PATIENCE;
        loop {
            if !has_name(self.file.as_fd(), self.directory.as_fd(), &self.name) {
                return None;
            }
            match Token::take(self.file.as_fd(), GATE) {
                Ok(Some(gate)) if has_name(self.file.as_fd(), self.directory.as_fd(), &self.name) => return Some(gate),
                Ok(_) if Instant::now() < end => std::thread::sleep(Duration::from_micros(50)),
                _ => return None,
            }
        }
    }

    /// Removes a link with `remove`, under the gate, and who is there from it: whoever opens the link from now on has a new one.
    pub(crate) fn forget(link: &str, remove: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let name = name_of(link);
        let there = Directory::open_existing()?.map(|directory| directory.path().join(FOLDER));
        let Some(directory) = there.and_then(|path| tmpfile::open_directory(&path).ok()) else { return remove() };
        if tmpfile::stat_at(directory.as_fd(), &name).is_err() {
            return remove(); // nobody was there
        }
        let _gate = enter(directory.as_fd(), &name, link)?;
        remove()?;
        let _ = tmpfile::unlink_at(directory.as_fd(), &name);
        Ok(())
    }
}

fn is_alone(file: BorrowedFd<'_>) -> bool {
    let none = |base| matches!(ofd_lock::first_locked(file, base, HANDLES), Ok(None));
    none(SENDERS) && none(RECEIVERS)
}

fn has_name(file: BorrowedFd<'_>, directory: BorrowedFd<'_>, name: &CString) -> bool {
    let named = tmpfile::stat_at(directory, name).map(|status| status.identity);
    named.is_ok_and(|named| tmpfile::fstat(file).is_ok_and(|status| status.identity == named))
}

fn watch(file: BorrowedFd<'_>) -> Option<Inotify> {
    let news = Inotify::new().ok()?;
    news.watch_close(file).ok()?;
    Some(news)
}

fn folder() -> Result<OwnedFd, Error> {
    let path = Directory::open()?.path().join(FOLDER);
    let os = |e| Error::os("open the directory", path.display().to_string(), e);
    tmpfile::make_directory(&path).map_err(os)?;
    tmpfile::open_directory(&path).map_err(os)
}

/// Takes the gate of the file that has the name, which is made if it is not there.
fn enter(directory: BorrowedFd<'_>, name: &CString, link: &str) -> Result<Gate, Error> {
    let os = |e: io::Error| Error::os("open", link, e);
    let end = Instant::now() + PATIENCE;
    loop {
        let file = match tmpfile::open_at(directory, name, Access::ReadWrite) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let new = tmpfile::create_unnamed(directory).map_err(os)?;
                tmpfile::set_len(new.as_fd(), 1).map_err(os)?;
                let _ = tmpfile::link_at(new.as_fd(), directory, name); // or somebody else was first
                continue;
            }
            other => other.map_err(os)?,
        };
        if let Some(token) = Token::take(file.as_fd(), GATE).map_err(os)? {
            if has_name(file.as_fd(), directory, name) {
                return Ok(Gate { _token: token, file });
            }
        }
        if Instant::now() > end {
            return Err(Error::new(ErrorKind::Stuck, "open", link)
                .problem(
                    "another process is in the middle of joining or leaving and does not go on: it is stopped, perhaps",
                )
                .remedy("continue or kill that process"));
        }
        std::thread::sleep(Duration::from_micros(50));
    }
}
