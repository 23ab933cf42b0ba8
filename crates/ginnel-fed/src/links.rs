//! The links that are tried: every shape, and what else changes which code runs, each as small as it can be.

use ginnel_core::{Full, Geometry, Layout, Shape};

/// A kind of link.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// For people.
    pub name: &'static str,
    /// Whether sides may be exclusive.
    pub asymmetric: bool,
    geometry: fn() -> Geometry,
}

/// Most participants of each.
pub(crate) const PARTICIPANTS: u32 = 5;
/// Largest message of most of them, in bytes: it lies in a block of the second class.
pub(crate) const MAX: u64 = 300;

/// All of them.
pub const LINKS: &[Link] = &[
    Link { name: "queue", asymmetric: true, geometry: || of(Shape::Queue, Full::Block) },
    Link { name: "queue of small messages", asymmetric: true, geometry: small },
    Link { name: "queue without a heavy fence", asymmetric: false, geometry: || of(Shape::Queue, Full::Block) },
    Link { name: "queue that drops the oldest", asymmetric: true, geometry: || of(Shape::Queue, Full::DropOldest) },
    Link { name: "unbounded", asymmetric: true, geometry: unbounded },
    Link { name: "broadcast", asymmetric: true, geometry: || of(Shape::Broadcast, Full::Block) },
    Link { name: "broadcast that drops", asymmetric: true, geometry: || of(Shape::Broadcast, Full::DropOldest) },
    Link { name: "broadcast that cuts off", asymmetric: true, geometry: || of(Shape::Broadcast, Full::CutOff) },
    Link { name: "latest", asymmetric: true, geometry: || latest(100) },
    Link { name: "latest of pages", asymmetric: true, geometry: || latest(5000) },
    Link { name: "stream", asymmetric: true, geometry: stream },
    Link { name: "request", asymmetric: true, geometry: || of(Shape::Request, Full::Block) },
    Link { name: "response", asymmetric: true, geometry: || of(Shape::Response, Full::Block) },
    Link { name: "mailbox", asymmetric: true, geometry: || of(Shape::Mailbox, Full::Reject) },
    Link { name: "listener", asymmetric: true, geometry: listener },
];

impl Link {
    /// What its creator chose.
    pub fn geometry(&self) -> Geometry {
        (self.geometry)()
    }

    /// Where its bytes lie.
    ///
    /// # Panics
    /// If the table above is wrong.
    pub fn layout(&self) -> Layout {
        Layout::new(self.geometry()).expect("a geometry that can be")
    }
}

fn of(shape: Shape, full: Full) -> Geometry {
    let memory = 64 << 10;
    Geometry { shape, capacity: 4, max: MAX, memory, participants: PARTICIPANTS, full, ..Geometry::default() }
}

fn small() -> Geometry {
    Geometry { max: 40, memory: 0, senders: 2, ..of(Shape::Queue, Full::Block) }
}

/// Two extents of a page of slots each; the ceiling has room for both, and for an extent of blocks.
fn unbounded() -> Geometry {
    Geometry { capacity: 64, extent: 32, memory: 128 << 10, ..of(Shape::Queue, Full::Block) }
}

fn latest(max: u64) -> Geometry {
    let geometry = Geometry { max, memory: 0, ..of(Shape::Latest, Full::Block) };
    Geometry { memory: geometry.memory_min(), ..geometry }
}

fn stream() -> Geometry {
    let one = Geometry { max: 1, memory: 0, senders: 1, receivers: 1, ..of(Shape::Stream, Full::Block) };
    Geometry { capacity: 4096, ..one }
}

fn listener() -> Geometry {
    Geometry { receivers: 1, ..of(Shape::Listener, Full::Block) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_there_and_can_be() {
        for shape in Shape::ALL {
            assert!(LINKS.iter().any(|link| link.geometry().shape == shape), "{}", shape.name());
        }
        for link in LINKS {
            assert!(link.layout().mapped_bytes() < 256 << 10, "{} is not small", link.name);
        }
    }
}
