//! Stub.
use super::wait::Ready;
use super::{About, Blocked, Nothing, unsupported};
use crate::address::Address;
use crate::error::Error;
use crate::shm::Mode;
pub(crate) enum Outlet {}
#[allow(unused)]
impl Outlet {
    pub(super) fn open(address: &Address, mode: Mode) -> Result<Self, Error> {
        Err(unsupported("use", address))
    }
    pub(super) fn try_send(&self, tag: u16, message: &[u8]) -> Result<(), Blocked> {
        match *self {}
    }
    pub(super) fn flush(&self) -> Result<(), Blocked> {
        match *self {}
    }
    pub(super) fn ready(&self) -> Ready<'_> {
        match *self {}
    }
    pub(super) fn max(&self) -> u64 {
        match *self {}
    }
    pub(super) fn limit(&self) -> (&'static str, u64) {
        match *self {}
    }
    pub(super) fn is_closed(&self) -> bool {
        match *self {}
    }
    pub(super) fn len(&self) -> u64 {
        match *self {}
    }
    pub(super) fn is_full(&self) -> bool {
        match *self {}
    }
    pub(super) fn try_clone(&self, link: &str) -> Result<Self, Error> {
        match *self {}
    }
}
pub(crate) enum Inlet {}
#[allow(unused)]
impl Inlet {
    pub(super) fn open(address: &Address, mode: Mode) -> Result<Self, Error> {
        Err(unsupported("use", address))
    }
    pub(super) fn try_recv(&self, message: &mut Vec<u8>) -> Result<About, Nothing> {
        match *self {}
    }
    pub(super) fn ready(&self) -> Ready<'_> {
        match *self {}
    }
    pub(super) fn is_closed(&self) -> bool {
        match *self {}
    }
    pub(super) fn len(&self) -> u64 {
        match *self {}
    }
    pub(super) fn capacity(&self) -> u64 {
        match *self {}
    }
    pub(super) fn try_clone(&self, link: &str) -> Result<Self, Error> {
        match *self {}
    }
}
