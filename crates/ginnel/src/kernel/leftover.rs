//! What crashes left of links that have a book: it ends when nobody is there any more, as the last one would have ended it.

use super::book::{self, Book, Facts, Made};
use super::presence::Rest;
use super::{endpoint, mqueue, sysv};
use crate::clean::Cleaned;
use crate::error::{Error, ErrorKind};
use ginnel_os::errno::{EIDRM, EINVAL};
use std::ffi::CStr;
use std::io;
use std::path::Path;

/// What was done with each, or would be.
pub(crate) fn clean(dry_run: bool) -> Result<Vec<Result<Cleaned, Error>>, Error> {
    let names = book::names()?;
    Ok(names.iter().filter_map(|name| clean_one(name, dry_run).transpose()).collect())
}

fn clean_one(name: &CStr, dry_run: bool) -> Result<Option<Cleaned>, Error> {
    let Some(book) = Book::open(name)? else { return Ok(None) }; // it went meanwhile
    let os = |e| Error::os("look at", book::shown(name), e);
    let Some(link) = book.link().map_err(os)? else { return Err(strange(name)) };
    if !book.is_alone() {
        return Ok(None);
    }
    // Whoever stands in the gate lives.
    let Some(_gate) = book.try_gate().map_err(os)? else { return Ok(None) };
    if !book.is_alone() {
        return Ok(None);
    }
    let rest = end(&link, book.record().made, dry_run).ok_or_else(|| strange(name))?;
    if rest == Rest::Messages {
        return Ok(None);
    }
    if !dry_run {
        book.remove();
    }
    Ok(Some(Cleaned { address: link, dead: 0, removed: rest == Rest::Nothing }))
}

fn strange(name: &CStr) -> Error {
    Error::new(ErrorKind::NotALink, "look at", book::shown(name))
        .problem("it does not say whose ends it knows")
        .remedy("remove it yourself, if no process has it open")
}

/// Ends the object of a link that nobody uses any more, or only looks. Under the gate. `None` if it is nothing that ginnel would have written.
pub(super) fn end(link: &str, made: Made, dry_run: bool) -> Option<Rest> {
    let (mechanism, rest) = link.split_once(':')?;
    match mechanism {
        "mq" => Some(mqueue::end(rest, made, dry_run)),
        "sysv" => Some(sysv::end(rest.parse().ok()?, made, dry_run)),
        "unix" if rest.starts_with('/') => Some(endpoint::end(Path::new(rest), made, dry_run)),
        "unix" | "signal" => Some(Rest::Nothing),
        _ => None,
    }
}

/// The same of what a mechanism tells, with `remove`. If messages are in it, it stays; and if ginnel has not made it: somebody may have removed what
/// ginnel made, and made another.
pub(super) fn end_object(
    found: io::Result<Facts>,
    made: Made,
    dry_run: bool,
    remove: impl FnOnce() -> io::Result<()>,
) -> Rest {
    match found {
        Err(e) if is_gone(&e) => Rest::Nothing,
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Rest::Anothers,
        Err(_) => Rest::Messages,
        Ok(facts) if facts.messages > 0 => Rest::Messages,
        Ok(facts) if made.of(&facts) == Made::Nothing => Rest::Anothers,
        Ok(_) if dry_run || remove().is_ok() => Rest::Nothing,
        Ok(_) => Rest::Anothers,
    }
}

/// There is no such object, or it was removed between two calls.
fn is_gone(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound || matches!(e.raw_os_error(), Some(EIDRM | EINVAL))
}
