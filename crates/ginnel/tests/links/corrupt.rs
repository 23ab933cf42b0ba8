//! x
pub(crate) fn scribbler(_: &str) {}
