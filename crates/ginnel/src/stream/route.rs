//! Which way a writer's bytes get to the ring: through the caches, or past them to memory ([`Route`]).
//!
//! Between two cores that share a cache the first is faster. Between distant ones the second is, by two to five times: by the first, each line of the ring
//! crosses from one core's cache to the other's and back in each lap, once to be read and once to be owned by the next who writes it, and a core
//! waits for few of them at a time. Nobody says where the two cores are, and a scheduler moves processes (and a hypervisor cores), so the writer
//! measures: now and then it takes the time of one part by each route, its own part of the work only, how long the copying takes.
//!
//! ```text
//! parts:  .................... c m ....... ~ ...... c m ........ c m ..............
//!          by the chosen route  |   EVERY parts      |  AGAIN     |  the same again: it changes
//!                 one by each, timed           another is better
//! ```
//! [I1] A route is given up after two trials in a row that spoke against it: in one of them, the writer may have been interrupted.

use ginnel_core::Route;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Parts of fewer bytes go through the caches, and nobody takes their time.
const LEAST: usize = 8 * 1024;
/// Parts between two trials, so that what the slower route takes of the time is small.
const EVERY: u32 = 256;
/// Parts before the first trial, and before that which confirms another. The first ones find pages that were never touched.
const AGAIN: u32 = 16;
/// Past the caches the reader pays, too, as it gets its bytes from memory; so the writer must be so many times as fast there. On one machine, an EPYC (Zen 3), in some
/// eighty trials: with a common cache mostly 1 to 2 times as fast (and what the two do together slower), without one mostly 3.4 to 7 times.
const WORTH: f64 = 2.7;

/// The choice, and what it is made by.
#[derive(Debug)]
pub(super) struct Routes {
    chosen: Cell<Route>,
    /// Parts until the next trial.
    left: Cell<u32>,
    /// What the first part of a trial took, by the chosen route, ns a byte.
    first: Cell<Option<f64>>,
    /// Whether the last trial spoke against the chosen one.
    is_doubted: Cell<bool>,
}

impl Default for Routes {
    fn default() -> Self {
        Self {
            chosen: Cell::new(Route::Cache),
            left: Cell::new(AGAIN),
            first: Cell::new(None),
            is_doubted: Cell::new(false),
        }
    }
}

impl Routes {
    /// Has a part of so many bytes copied by one of the routes. `copy` says how many there was room for.
    #[inline]
    pub(super) fn copy<E>(&self, len: usize, copy: impl FnOnce(Route) -> Result<usize, E>) -> Result<usize, E> {
        if len < LEAST {
            return copy(Route::Cache);
        }
        let left = self.left.get();
        if left > 0 {
            self.left.set(left - 1);
            return copy(self.chosen.get());
        }
        let route = self.on_trial();
        let start = Instant::now();
        let copied = copy(route)?;
        self.took(copied, start.elapsed());
        Ok(copied)
    }

    /// The route of a part whose time is taken.
    fn on_trial(&self) -> Route {
        let chosen = self.chosen.get();
        if self.first.get().is_none() { chosen } else { other(chosen) }
    }

    /// What that part took.
    #[cold]
    fn took(&self, bytes: usize, time: Duration) {
        if bytes < LEAST {
            return; // there was no room: the next one counts
        }
        let second = time.as_secs_f64() * 1e9 / bytes as f64;
        let Some(first) = self.first.take() else {
            return self.first.set(Some(second));
        };
        let is_better = match self.chosen.get() {
            Route::Cache => second * WORTH < first,
            Route::Memory => second < first * WORTH,
        };
        let changes = is_better && self.is_doubted.get();
        if changes {
            self.chosen.set(other(self.chosen.get()));
        }
        self.is_doubted.set(is_better && !changes);
        self.left.set(if self.is_doubted.get() { AGAIN } else { EVERY });
    }
}

fn other(route: Route) -> Route {
    match route {
        Route::Cache => Route::Memory,
        Route::Memory => Route::Cache,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Copies so many parts, which take so many ns each by either route; how many went past the caches.
    fn copy(routes: &Routes, parts: u32, through: u64, past: u64) -> u32 {
        let mut went_past = 0;
        for _ in 0..parts {
            let left = routes.left.get();
            let route = if left > 0 { routes.chosen.get() } else { routes.on_trial() };
            match left {
                0 => routes.took(LEAST, Duration::from_nanos(if route == Route::Cache { through } else { past })),
                _ => routes.left.set(left - 1),
            }
            went_past += u32::from(route == Route::Memory);
        }
        went_past
    }

    #[test]
    fn the_route_follows_the_cores() {
        let routes = Routes::default();
        copy(&routes, 4 * EVERY, 1000, 2000);
        assert_eq!(routes.chosen.get(), Route::Cache, "near");
        copy(&routes, 4 * EVERY, 8000, 2000);
        assert_eq!(routes.chosen.get(), Route::Memory, "far");
        copy(&routes, 4 * EVERY, 1000, 2000);
        assert_eq!(routes.chosen.get(), Route::Cache, "near again");
    }

    #[test]
    fn a_writer_gains_what_its_reader_pays() {
        let routes = Routes::default();
        copy(&routes, 10 * EVERY, 4200, 2000);
        assert_eq!(routes.chosen.get(), Route::Cache);
        routes.chosen.set(Route::Memory);
        copy(&routes, 4 * EVERY, 4200, 2000);
        assert_eq!(routes.chosen.get(), Route::Cache);
    }

    #[test]
    fn trials_are_few() {
        let routes = Routes::default();
        assert!(copy(&routes, 100 * EVERY, 1000, 2000) <= 100);
    }

    #[test]
    fn one_trial_that_was_interrupted_changes_nothing() {
        let routes = Routes::default();
        routes.left.set(0);
        copy(&routes, 2, 1_000_000, 2000);
        assert!(routes.is_doubted.get());
        copy(&routes, AGAIN + 2, 1000, 2000);
        assert_eq!((routes.chosen.get(), routes.is_doubted.get()), (Route::Cache, false));
    }

    #[test]
    fn small_parts_go_through_the_caches_and_parts_without_room_do_not_count() {
        let routes = Routes::default();
        routes.chosen.set(Route::Memory);
        routes.left.set(0);
        let copied = routes.copy(LEAST - 1, |route| {
            assert_eq!(route, Route::Cache);
            Ok::<_, ()>(1)
        });
        assert_eq!((copied, routes.first.get()), (Ok(1), None));
        let copied = routes.copy(LEAST, |route| {
            assert_eq!(route, Route::Memory);
            Ok::<_, ()>(LEAST - 1)
        });
        assert_eq!((copied, routes.first.get()), (Ok(LEAST - 1), None));
        assert_eq!(routes.copy(LEAST, |_| Err(())), Err(()));
        assert_eq!((routes.first.get(), routes.left.get()), (None, 0));
    }
}
