//! x
pub(crate) fn racer(_: &str) {}
pub(crate) fn cleaner(_: &str) {}
