//! Asking for a connection: the client makes both ways of it and sends their number to the listener. Until that has accepted, the client can write and
//! wait already; and if the listener goes before, it is told.
//!
//! Killed at any point: links that nobody was told of are empty, or have no listener that lives, so `clean` and the next listener of that name collect
//! them. What a client wrote before it was killed is still delivered.

use super::end::End;
use super::{Peer, Reader, Stream, Writer};
use crate::address::{Address, NAME_MAX, Name, Wait, Wanted};
use crate::error::{Error, ErrorKind, SendError, SendFailure};
#[cfg(feature = "async")]
use crate::ready;
use crate::shm::{self, Membership, Mode, Region, Spec, TURN};
use crate::wait::Until;
use crate::watch::{self, Watched};
use ginnel_core::{Engine, ParticipantState, Role, Shape};
use ginnel_os::process;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Between the name of a listener and the number of a connection.
const SIGN: char = '~';
/// Bytes that each way holds.
const CAPACITY: u64 = 256 * 1024;
/// Bytes that the name of a way has more than its listener's.
const SUFFIX_MAX: usize = 40;
/// Longest request, in bytes.
pub(super) const REQUEST_MAX: u64 = 32;

/// One of the two ways, as it is written at the end of its link's name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From the client.
    Up,
    /// To the client.
    Down,
}

impl Way {
    fn suffix(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// The listener whose connection a link of this name is a way of.
pub(crate) fn listener_of(name: &Name) -> Option<Name> {
    let (listener, rest) = name.as_str().rsplit_once(SIGN)?;
    let (request, way) = rest.split_once('.')?;
    pid_of(request).filter(|_| way == Way::Up.suffix() || way == Way::Down.suffix())?;
    Name::new(listener).ok()
}

/// The process that sent a request, if it is one: `PID-NUMBER`.
pub(super) fn pid_of(request: &str) -> Option<u32> {
    let (pid, number) = request.split_once('-')?;
    number.parse::<u64>().ok()?;
    pid.parse().ok()
}

/// An address of a listener: nothing of it may be taken for a way of a connection, unless it is a pair's.
pub(super) fn spec(tried: &'static str, address: &str) -> Result<Spec, Error> {
    let invalid = |problem: String, remedy: &str| {
        Err(Error::new(ErrorKind::InvalidAddress, tried, address).problem(problem).remedy(remedy))
    };
    let Some(spec) = address.parse::<Address>()?.engine() else {
        return invalid("streams of bytes are for `shm:` and `mem:`".into(), "write `shm:NAME`, or use std's sockets");
    };
    if spec.name.as_str().len() > NAME_MAX - SUFFIX_MAX {
        let problem = format!("the name of a listener has up to {} bytes", NAME_MAX - SUFFIX_MAX);
        return invalid(problem, "choose a shorter one");
    }
    Ok(spec)
}

/// The listener's link, as whoever connects sees it.
fn listener_spec(spec: &Spec) -> Spec {
    let wanted = Wanted { shape: Some(Shape::Listener), ..Wanted::default() };
    Spec { wanted, follow: false, ..spec.clone() }
}

/// The link of one way. `capacity` is known to who makes it.
pub(super) fn way_spec(spec: &Spec, request: &str, way: Way, capacity: Option<u64>) -> Result<Spec, Error> {
    let text = format!("{}{SIGN}{request}.{}", spec.name.as_str(), way.suffix());
    let name = Name::new(&text).map_err(|problem| {
        Error::new(ErrorKind::InvalidAddress, "connect to", spec.link()).problem(problem).remedy("choose another name")
    })?;
    let made = capacity.is_some();
    let wanted = Wanted {
        shape: Some(Shape::Stream),
        capacity,
        max: made.then_some(1),
        memory: made.then_some(0),
        participants: made.then_some(4),
        senders: made.then_some(1),
        receivers: made.then_some(1),
        ..Wanted::default()
    };
    Ok(Spec { name, wanted, follow: false, history: None, wait: spec.wait, private: spec.private })
}

pub(super) fn connect(address: &str, until: Until) -> Result<Stream, Error> {
    let (asking, caller) = Asking::begin(address)?;
    let sent = caller.send_until(asking.nth, asking.request.as_bytes(), until);
    asking.end(sent)
}

/// As [`connect`]. Dropped, the future leaves nothing behind: what nobody was told of goes with its ends.
#[cfg(feature = "async")]
pub(super) async fn connect_async(address: &str) -> Result<Stream, Error> {
    let (asking, caller) = Asking::begin(address)?;
    let (ear, mut wait) = (Arc::default(), ready::Wait::default());
    let os = |e| Error::os("connect to", address, e);
    caller.region().add_ear(&ear).map_err(os)?;
    let (nth, request) = (asking.nth, asking.request.clone());
    let sent = std::future::poll_fn(move |cx| {
        let ear = (&ear, caller.region().has_news());
        wait.poll_told(cx, ear, |listens| caller.look(nth, request.as_bytes(), listens), || caller.region().again())
    });
    let sent = sent.await.map_err(os)?;
    asking.end(sent)
}

/// A connection that the listener is about to be told of.
struct Asking {
    spec: Spec,
    /// Of which listener.
    nth: u16,
    request: String,
    stream: Stream,
}

impl Asking {
    /// Also the listener's queue, which its request goes to.
    fn begin(address: &str) -> Result<(Self, shm::Sender), Error> {
        let spec = spec("connect to", address)?;
        let caller = shm::Sender::open(&listener_spec(&spec), Mode::Join)?;
        let (nth, request, stream) = ask(&spec, caller.region().clone())?;
        Ok((Self { spec, nth, request, stream }, caller))
    }

    fn end(self, sent: Result<(), SendError>) -> Result<Stream, Error> {
        sent.map_err(|error| not_sent(&self.spec, error.reason()))?;
        if self.stream.writer.as_ref().is_some_and(|writer| writer.end().is_refused()) {
            return Err(refused(&self.spec));
        }
        Ok(self.stream)
    }
}

/// Makes the connection, of which the listener does not know yet, and the request for it.
fn ask(spec: &Spec, region: Arc<Region>) -> Result<(u16, String, Stream), Error> {
    let Some(pid) = listening(region.engine()) else { return Err(refused(spec)) };
    let nth = nth(region.engine()); // or of one that came since: then of that
    let (request, up, down) = make_ways(spec)?;
    let link: Arc<str> = spec.link().into();
    // One way may be all that the listener can end: who waits at the other is told by that.
    up.region.relay_to(&down.region);
    down.region.relay_to(&up.region);
    let asked = Arc::new(Asked::new(Pending::new(region, nth, [&up.region, &down.region])));
    let writer = Writer::new(End::new(up, Role::Sender, spec.wait, link.clone()));
    let reader = Reader::new(End::new(down, Role::Receiver, spec.wait, link.clone()));
    writer.end().awaits(asked.clone());
    reader.end().awaits(asked);
    Ok((nth, request, Stream::new((Some(reader), Some(writer)), Peer { pid, uid: process::user() }, link)))
}

/// Makes both ways under a name that nobody has, and joins them.
fn make_ways(spec: &Spec) -> Result<(String, Membership, Membership), Error> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let capacity = Some(spec.wanted.capacity.unwrap_or(CAPACITY));
    loop {
        let request = format!("{}-{}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let up = Region::join(&way_spec(spec, &request, Way::Up, capacity)?, Mode::Create, Role::Sender);
        let up = match up {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => continue, // of another PID namespace, or long ago
            up => up?,
        };
        match Region::join(&way_spec(spec, &request, Way::Down, capacity)?, Mode::Create, Role::Receiver) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            down => return Ok((request, up, down?)),
        }
    }
}

/// Which listener of this name it is that listens, or was the last: those that ever came, counted modulo 65,536. A request is for the one that its client found; with that
/// one it ends, as its client is told, and no other accepts it, though it may be in the queue still, or be delivered again.
pub(super) fn nth(listener: &Engine) -> u16 {
    listener.census().receivers_joined as u16
}

/// The process that listens, if any does.
fn listening(engine: &Engine) -> Option<u32> {
    let receives = |p: &ginnel_core::Participant| engine.state(*p) == ParticipantState::Active(Role::Receiver);
    engine.participants().find(receives).map(|listener| engine.entry(listener).pid)
}

fn refused(spec: &Spec) -> Error {
    Error::new(ErrorKind::Refused, "connect to", spec.link())
        .problem("nobody listens there")
        .remedy("start the program that does; `ginnel info` shows who has it open")
}

fn not_sent(spec: &Spec, reason: &SendFailure) -> Error {
    match reason {
        SendFailure::TimedOut { limit: TURN, .. } => Error::new(ErrorKind::Stuck, "connect to", spec.link())
            .problem("another one who connects is in the middle of a few instructions, and does not go on: it is stopped, perhaps")
            .remedy("`ginnel info` lists those that are attached; continue or kill that one, or try again"),
        SendFailure::TimedOut { value, .. } => Error::new(ErrorKind::Stuck, "connect to", spec.link())
            .problem(format!("{value} others wait to be accepted, as many as its ?capacity= allows"))
            .remedy("wait longer, or have the listener accept faster, or bind it with a larger ?capacity="),
        SendFailure::Corrupt(what) => Error::new(ErrorKind::NotALink, "connect to", spec.link())
            .problem(what.to_string())
            .remedy(format!("remove it with `ginnel rm --force {}`", spec.link())),
        _ => refused(spec),
    }
}

/// Until a connection is accepted, its listener, for both ends of the client: either lets go of it for the other too, which may never be used.
pub(super) struct Asked(Mutex<Option<Arc<Pending>>>);

impl Asked {
    fn new(pending: Pending) -> Self {
        Self(Mutex::new(Some(Arc::new(pending))))
    }

    fn pending(&self) -> MutexGuard<'_, Option<Arc<Pending>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody will accept it any more.
    pub(super) fn is_over(&self) -> bool {
        let pending = self.pending().clone();
        pending.is_some_and(|pending| pending.is_over()) // without the lock: it may wake tasks
    }

    /// Lets go of the listener if it has joined both ways. Whether it was let go.
    pub(super) fn let_go(&self) -> bool {
        let accepted = self.pending().take_if(|pending| pending.is_accepted());
        drop(accepted); // without the lock: a mapping may go
        self.pending().is_none()
    }

    /// From now on, the ends of the ways are woken when the listener has gone. False where nobody can watch: who asks again looks.
    pub(super) fn watch(&self) -> bool {
        let pending = self.pending().clone();
        pending.is_none_or(|pending| {
            pending.ways.iter().filter_map(Weak::upgrade).for_each(|way| _ = watch::watch(&way));
            watch::watch(&pending)
        })
    }

    /// Whether they are, or need not be.
    pub(super) fn is_watched(&self) -> bool {
        self.pending().as_ref().is_none_or(|pending| pending.watched.load(Ordering::Relaxed))
    }
}

/// A connection that was asked for. It has a listener that may go before it accepts.
struct Pending {
    listener: Arc<Region>,
    nth: u16,
    ways: [Weak<Region>; 2],
    watched: AtomicBool,
    /// Version of the listener's membership at which somebody listened.
    listened_at: AtomicU64,
    /// Whether it was found that nobody will accept it.
    over: AtomicBool,
}

impl Pending {
    fn new(listener: Arc<Region>, nth: u16, ways: [&Arc<Region>; 2]) -> Self {
        let ways = ways.map(Arc::downgrade);
        let (watched, over) = Default::default();
        Self { listener, nth, ways, watched, listened_at: AtomicU64::new(u64::MAX), over }
    }

    /// Whether nobody will accept it any more: the listener has gone, or has thrown it away, and may have been able to end one way only. A way that this client
    /// has closed itself is none.
    fn is_over(&self) -> bool {
        if self.over.load(Ordering::Relaxed) {
            return true;
        }
        let is_ended = |way: Arc<Region>| {
            let census = way.engine().census();
            way.engine().is_removed() && census.senders + census.receivers > 0
        };
        let is_over = self.ways.iter().filter_map(Weak::upgrade).any(is_ended) || !self.is_listening();
        if is_over && !self.over.swap(true, Ordering::Relaxed) {
            // The way that told may be gone before anybody looks at it for the other one's sake.
            self.ways.iter().filter_map(Weak::upgrade).for_each(|way| way.wake_all());
        }
        is_over
    }

    /// Whether the listener has joined both ways, as far as they are of use.
    fn is_accepted(&self) -> bool {
        self.ways.iter().filter_map(Weak::upgrade).all(|way| {
            let census = way.engine().census();
            census.senders_joined > 0 && census.receivers_joined > 0
        })
    }

    fn is_listening(&self) -> bool {
        let engine = self.listener.engine();
        let version = engine.membership_version();
        if self.listened_at.load(Ordering::Relaxed) == version {
            return true;
        }
        let listening = !engine.is_removed() && engine.census().receivers > 0 && nth(engine) == self.nth;
        if listening {
            self.listened_at.store(version, Ordering::Relaxed);
        }
        listening
    }
}

impl Watched for Pending {
    fn file(&self) -> BorrowedFd<'_> {
        self.listener.file().as_fd()
    }

    fn watched(&self) -> &AtomicBool {
        &self.watched
    }

    fn look(&self) -> bool {
        let is_done = self.listener.reap_all().1;
        if !self.is_listening() {
            self.ways.iter().filter_map(Weak::upgrade).for_each(|way| way.wake_all());
        }
        is_done
    }
}

/// Joins one way of a connection that was asked for; `None` if it is not there any more.
pub(super) fn join(spec: &Spec, request: &str, way: Way) -> Result<Option<Membership>, Error> {
    let role = if way == Way::Up { Role::Receiver } else { Role::Sender };
    match Region::join(&way_spec(spec, request, way, None)?, Mode::Join, role) {
        Ok(membership) => Ok(Some(membership)),
        // Its client has closed it, or has gone. Or a process that takes no part in this has been there.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::TooManyHandles) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Ends one way of a connection that cannot be joined: its client is told. An error leaves it: what it is is not known here, or it cannot be reached.
pub(super) fn refuse(spec: &Spec, request: &str, way: Way) -> Result<(), Error> {
    shm::turn_away(&way_spec(spec, request, way, None)?)
}

/// An end of a way that was joined.
pub(super) fn accepted(membership: Membership, role: Role, wait: Wait, link: &Arc<str>) -> End {
    let end = End::new(membership, role, wait, link.clone());
    end.other_was_there();
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_tells_its_listener() {
        let listener = |name: &str| listener_of(&Name::new(name).unwrap()).map(|name| name.as_str().to_owned());
        assert_eq!(listener("web~4711-1.up").as_deref(), Some("web"));
        assert_eq!(listener("a~b~1-0.down").as_deref(), Some("a~b"));
        for other in ["web", "web~", "web~1.up", "web~1-2", "web~1-2.side", "web~x-2.up", "~1-2.up", "web~-2.up"] {
            assert_eq!(listener(other), None, "{other}");
        }
    }

    #[test]
    fn the_longest_names_fit() {
        let longest = "n".repeat(NAME_MAX - SUFFIX_MAX);
        let spec = spec("bind", &format!("shm:{longest}")).unwrap();
        let request = format!("{}-{}", u32::MAX, u64::MAX);
        assert!(request.len() as u64 <= REQUEST_MAX);
        assert_eq!(way_spec(&spec, &request, Way::Down, None).unwrap().name.as_str().len(), NAME_MAX - 3);
        assert!(super::spec("bind", &format!("shm:{longest}n")).is_err());
        assert!(super::spec("bind", "mq:/a").is_err());
    }

    #[test]
    fn who_ran_out_of_time_is_told_for_want_of_what() {
        let spec = spec("connect to", "shm:web").unwrap();
        let said = |limit, value| not_sent(&spec, &SendFailure::TimedOut { limit, value }).to_string();
        let (full, stopped) = (said("capacity", 128), said(TURN, 1));
        assert!(full.contains("128 others wait") && full.contains("?capacity="), "{full}");
        assert!(stopped.contains("stopped") && !stopped.contains("capacity"), "{stopped}");
    }
}
