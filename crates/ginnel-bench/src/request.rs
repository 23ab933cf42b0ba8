//! Requests and responses of ginnel as a mechanism to be measured: the asker is a client, the answerer a server.
//!
//! ```text
//! asker      send: the request is written down     receive: Client::call with it, the response is shown
//! answerer   receive: Server::recv, it is shown    send: Request::reply
//! ```
//!
//! So both handles of a process share one end. It lives as long as they do, and leaves in good order; only a server stays for ever, as the
//! request in its hand borrows it.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use ginnel::call::{Client, Request, Server};

use crate::ginnel_link::{Removed, fresh_address, wait_option};
use crate::{Case, Failure, Inlet, Mechanism, Outlet, Way};

/// What the heading of a message needs, and more.
const HEADING: usize = 512;

/// A link of requests.
pub(crate) struct Requests {
    address: String,
    /// This process's end, once it is open.
    end: RefCell<Weak<End>>,
    _removed: Removed,
}

/// One process's end.
pub(crate) struct End {
    party: Party,
    /// What is to be sent next.
    buffer: RefCell<Vec<u8>>,
}

enum Party {
    Client(Box<Client>),
    Server {
        server: &'static Server,
        /// What it has not answered yet.
        in_hand: Cell<Option<Request<'static>>>,
    },
}

impl Requests {
    pub(crate) fn new(case: &Case) -> Result<Self, Failure> {
        let address = fresh_address();
        let removed = Removed::new(&address);
        let address = format!("{address}?{}&max={}", wait_option(case), case.size + HEADING);
        Ok(Self { address, end: RefCell::default(), _removed: removed })
    }

    fn end(&self, is_asker: bool) -> Result<Rc<End>, Failure> {
        let mut known = self.end.borrow_mut();
        if let Some(end) = known.upgrade() {
            return Ok(end);
        }
        let party = if is_asker {
            Party::Client(Box::new(Client::open(&self.address).map_err(Failure::new)?))
        } else {
            let server = Box::leak(Box::new(Server::open(&self.address).map_err(Failure::new)?));
            Party::Server { server, in_hand: Cell::new(None) }
        };
        let end = Rc::new(End { party, buffer: RefCell::default() });
        *known = Rc::downgrade(&end);
        Ok(end)
    }
}

impl Mechanism for Requests {
    type Out = Rc<End>;
    type In = Rc<End>;

    fn sender(&self, way: Way) -> Result<Rc<End>, Failure> {
        self.end(way == Way::There)
    }

    fn receiver(&self, way: Way) -> Result<Rc<End>, Failure> {
        self.end(way == Way::Back)
    }
}

impl Outlet for Rc<End> {
    #[inline]
    fn send_with(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Result<(), Failure> {
        let mut buffer = self.buffer.borrow_mut();
        buffer.resize(len, 0);
        fill(&mut buffer);
        match &self.party {
            Party::Client(_) => Ok(()), // `recv_with` calls
            Party::Server { in_hand, .. } => match in_hand.take() {
                Some(request) => request.reply(&buffer).map_err(Failure::new),
                None => Err(Failure::new("there is no request to be answered")),
            },
        }
    }
}

impl Inlet for Rc<End> {
    #[inline]
    fn recv_with<R>(&mut self, take: impl FnOnce(&[u8]) -> R) -> Result<R, Failure> {
        match &self.party {
            Party::Client(client) => Ok(take(&client.call(&self.buffer.borrow()).map_err(Failure::new)?)),
            Party::Server { server, in_hand } => {
                let request = server.recv().map_err(Failure::new)?;
                let taken = take(&request);
                in_hand.set(Some(request));
                Ok(taken)
            }
        }
    }
}
