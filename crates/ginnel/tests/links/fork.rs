//! x
pub(crate) fn role(_: &str) {}
