//! Who is there, for mechanisms that do not know: message queues, datagram sockets, signals. Each handle enters itself in a [`Book`] beside the links, with a
//! lock that lives as long as its process ([`Token`]); so the end of a stream and the death of the last peer are known among users of ginnel.
//! Programs that know nothing of ginnel are not seen: a stream that only they send to never ends.
//!
//! [I1] Whoever holds a token finds it in the file that has the link's name, unless the link was removed under it: then those who are there stay
//! together, and whoever comes later meets others.

use super::book::{Book, Made};
use super::leftover;
use crate::error::Error;
use crate::watch::{self, Watched};
use ginnel_core::Role;
use ginnel_os::eventfd::EventFd;
use ginnel_os::mmap::Mapping;
use ginnel_os::ofd_lock::Token;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

/// A handle's presence.
pub(crate) struct Presence {
    book: Arc<Book>,
    link: String,
    role: Role,
    news: OnceLock<Arc<News>>,
    token: Option<Token>,
}

/// What somebody who joins finds or makes.
pub(super) struct Opened<Q> {
    pub(super) object: Q,
    /// Messages are in it.
    pub(super) holds: bool,
    /// Whether ginnel has made it.
    pub(super) made: Made,
}

/// What is left of a link that nobody uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing, or nothing any more.
    Nothing,
    /// Something that goes on without ginnel: another program made it.
    Anothers,
    /// Messages for the next receiver; or nobody can tell.
    Messages,
}

/// News of one handle's peers: the watcher raises the event when all of them are gone.
struct News {
    book: Arc<Book>,
    role: Role,
    event: EventFd,
    watched: AtomicBool,
}

impl Watched for News {
    fn file(&self) -> BorrowedFd<'_> {
        self.book.as_fd()
    }

    fn watched(&self) -> &AtomicBool {
        &self.watched
    }

    fn look(&self) -> bool {
        if peers_gone(&self.book, self.role) {
            self.event.signal();
        }
        true
    }
}

fn peers_gone(book: &Book, role: Role) -> bool {
    let peer = if role == Role::Sender { Role::Receiver } else { Role::Sender };
    book.record().has_seen(peer) && !book.has(peer)
}

impl Presence {
    /// Joins. Under the gate, `open` finds or makes the object; in the book it finds which one ginnel has made before, and announces there that it makes one.
    pub(super) fn join<Q>(
        link: &str,
        role: Role,
        open: impl FnOnce(&Book) -> Result<Opened<Q>, Error>,
    ) -> Result<(Q, Self), Error> {
        let os = |e| Error::os("open", link, e);
        let (book, _gate) = Book::enter(link)?;
        let (was, alone) = (book.record(), book.is_alone());
        let opened = open(&book);
        if opened.is_err() {
            if alone { book.remove() } else { _ = book.set_record(was) }
        }
        let Opened { object, holds, made } = opened?;
        // Before it is said that it was here: peers would take it for gone.
        let token = book.sign(role).map_err(os)?;
        // Whoever was here before a crash is of no concern any more, unless messages of theirs are there.
        let mut is = if alone && !holds { Default::default() } else { was };
        is.see(role);
        is.made = made;
        book.set_record(is).map_err(os)?;
        let presence = Self { book: Arc::new(book), link: link.to_owned(), role, news: OnceLock::new(), token };
        Ok((object, presence))
    }

    /// Another handle of the same role. Without the gate: as this one is there, the file stays, or has lost its name already.
    pub(super) fn another(&self) -> Result<Self, Error> {
        let token = self.book.sign(self.role).map_err(|e| Error::os("open", self.link.as_str(), e))?;
        let (book, link, news) = (self.book.clone(), self.link.clone(), OnceLock::new());
        Ok(Self { book, link, role: self.role, news, token })
    }

    /// Whether there was a peer, and none is there now.
    pub(super) fn peers_gone(&self) -> bool {
        peers_gone(&self.book, self.role)
    }

    /// Readable when the last peer has gone, once somebody has asked [`Self::is_unsettled`].
    pub(super) fn news(&self) -> Result<BorrowedFd<'_>, Error> {
        if self.news.get().is_none() {
            let event = EventFd::new().map_err(|e| Error::os("open", self.link.as_str(), e))?;
            let (book, role, watched) = (self.book.clone(), self.role, AtomicBool::new(false));
            let _ = self.news.set(Arc::new(News { book, role, event, watched }));
        }
        Ok(self.news.get().expect("it was set").event.as_fd())
    }

    /// Takes note of the news. True if it is better to look again in a moment than to wait for more: there was news, or nobody brings any.
    pub(super) fn is_unsettled(&self) -> bool {
        self.news.get().is_none_or(|news| !watch::watch(news) || news.event.try_read().is_ok())
    }

    /// The words on which the ends sleep.
    pub(super) fn map(&self) -> io::Result<Mapping> {
        self.book.map()
    }

    /// Removes a link with `remove`, under the gate, and who is there from it: whoever opens the link from now on has a new one.
    pub(super) fn forget(link: &str, remove: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        if Book::find(link)?.is_none() {
            return remove(); // nobody was there
        }
        let (book, _gate) = Book::enter(link)?;
        remove()?;
        book.remove();
        Ok(())
    }
}

impl Drop for Presence {
    /// Leaves. The last one ends the link, under the gate, unless messages are left. If somebody removed the link meanwhile, what has its name now is
    /// not this one's.
    fn drop(&mut self) {
        if !self.token.as_ref().is_some_and(Token::is_ours) {
            return; // the parent's
        }
        let gate = self.book.gate();
        self.token = None;
        if gate.is_some() && self.book.is_alone() {
            let rest = leftover::end(&self.link, self.book.record().made, false);
            if rest != Some(Rest::Messages) {
                self.book.remove();
            }
        }
    }
}
