//! `passwd(5)`: the names of users. What another service of the host knows is shown as a number.

use std::collections::HashMap;

/// The users of `/etc/passwd`.
pub(crate) struct Users(HashMap<u32, String>);

impl Users {
    /// Reads the file. Without it, users are numbers.
    pub(crate) fn read() -> Self {
        Self::parse(&std::fs::read("/etc/passwd").unwrap_or_default())
    }

    fn parse(text: &[u8]) -> Self {
        let user = |line: &[u8]| {
            let mut fields = line.split(|byte| *byte == b':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let number = std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()?;
            Some((number, crate::escape::terminal(name)))
        };
        // The first name of a number is the one that `id` shows.
        Self(text.split(|byte| *byte == b'\n').rev().filter_map(user).collect())
    }

    /// The user's name, or number.
    pub(crate) fn name(&self, uid: u32) -> String {
        self.0.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_nonsense_is_not() {
        let users = Users::parse(b"root:x:0:0::/:/bin/sh\ntoor:x:0:0::/:\n# x\n:x:7\nbad:x:y\n");
        assert_eq!((users.name(0), users.name(7)), ("root".into(), "7".into()));
    }
}
