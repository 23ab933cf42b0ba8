//! `ginnel completions`: every shell gets a script without the hidden commands.

use crate::process::Place;

#[test]
fn every_shell_has_them() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let done = place.run(["completions", shell], b"");
        assert_eq!(done.status, 0);
        assert!(done.out_text().contains("length-prefixed") && !done.out_text().contains("tour-send"), "{shell}");
    }
    assert_eq!(place.run(["completions", "cmd.exe"], b"").status, 2);
}
