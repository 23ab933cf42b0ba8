//! `mem:NAME`: links of this process alone, which threads find by name. The same engine over the same region, in memory that has no name outside
//! (`memfd_create(2)`): so what holds between processes holds between threads, and nothing is left when the process ends.
//!
//! A forked child finds none of its parent's links: its first use of a name makes a link of its own.

use super::Spec;
use super::region::{Home, Membership, Mode, Region, missing};
use crate::error::{Error, ErrorKind};
use ginnel_core::Role;
use ginnel_os::{fork, memfd};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

/// The links that there are, by name: those that somebody has open, or that hold messages.
static LINKS: Mutex<BTreeMap<String, Arc<Region>>> = Mutex::new(BTreeMap::new());

/// Works on the table, while no other thread forks: a child would inherit it locked.
fn with_links<R>(work: impl FnOnce(&mut BTreeMap<String, Arc<Region>>) -> R) -> R {
    let _no_fork = fork::hold_off();
    let mut links = LINKS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut dropped = Vec::new();
    links.retain(|_, region| {
        region.is_ours() || {
            dropped.push(region.clone());
            false
        }
    });
    let result = work(&mut links);
    drop(links);
    drop(dropped); // the parent's: their memory goes, their tokens stay
    result
}

/// Opens a link as one of its ends.
pub(super) fn join(spec: &Spec, mode: Mode, role: Role) -> Result<Membership, Error> {
    loop {
        let region = with_links(|links| match links.get(spec.name.as_str()) {
            Some(_) if mode == Mode::Create => Err(Error::new(ErrorKind::AlreadyExists, "create", spec.link())
                .problem("this process has it already")
                .remedy("open it instead")),
            Some(region) => Ok(region.clone()),
            None if mode == Mode::Join => Err(missing("open", &spec.link())),
            None => {
                let region = Arc::new(create(spec)?);
                links.insert(spec.name.as_str().to_owned(), region.clone());
                Ok(region)
            }
        })?;
        region.agrees(spec)?;
        if let Some(membership) = region.enter(role)? {
            return Ok(membership);
        }
        forget(&region); // it ended just now
    }
}

fn create(spec: &Spec) -> Result<Region, Error> {
    let os = |e| Error::os("create", spec.link(), e);
    let file = memfd::create(spec.name.as_str(), 0, memfd::Options::default()).map_err(os)?;
    let built = Region::build(&file, spec, |_, e| os(e))?;
    Region::attach(Home::Process, spec.link(), file, built)
}

/// Removes a link that has ended from the table, if it still stands there.
pub(super) fn forget(region: &Region) {
    let forgotten = with_links(|links| {
        let name =
            links.iter().find(|(_, there)| std::ptr::eq(&raw const ***there, region)).map(|(name, _)| name.clone());
        name.and_then(|name| links.remove(&name))
    });
    drop(forgotten);
}

/// The file of a link, to look at it.
pub(super) fn file(spec: &Spec) -> Result<OwnedFd, Error> {
    let region = with_links(|links| links.get(spec.name.as_str()).cloned());
    let region = region.ok_or_else(|| missing("look at", &spec.link()))?;
    region.file().try_clone().map_err(|e| Error::os("look at", spec.link(), e))
}

/// Removes a link by name.
pub(super) fn unlink(spec: &Spec, force: bool) -> Result<(), Error> {
    let region = with_links(|links| links.get(spec.name.as_str()).cloned());
    region.ok_or_else(|| missing("remove", &spec.link()))?.end(force)
}
