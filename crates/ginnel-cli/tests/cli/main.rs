//! The tool as a whole: real processes, one file a command. Each test has a directory of links of its own.

mod bench;
mod broadcast;
mod call;
mod clean;
mod completions;
mod doctor;
mod fed;
mod info;
mod lock;
mod ls;
mod mail;
mod man;
mod objects;
mod pipe;
mod process;
mod ps;
mod recv;
mod rm;
mod sem;
mod send;
mod signal;
mod tour;

use process::Place;

#[test]
fn the_version_is_printed() {
    let done = Place::new().run(["--version"], b"");
    assert_eq!((done.status, done.out_text().as_str()), (0, concat!("ginnel ", env!("CARGO_PKG_VERSION"), "\n")));
}

#[test]
fn help_shows_every_command_but_not_the_hidden_ones() {
    let done = Place::new().run(["--help"], b"");
    assert_eq!(done.status, 0);
    let commands = ["tour", "send", "recv", "ls", "ps", "info", "rm", "clean", "bench", "completions", "man"];
    for command in commands.iter().chain(&["pipe", "call", "serve", "mail", "sem", "lock", "signal", "doctor"]) {
        assert!(done.out_text().contains(&format!("\n  {command} ")), "{command}");
    }
    assert!(!done.out_text().contains("tour-send"));
}

#[test]
fn nonsense_is_a_usage_error_on_stderr() {
    for args in [&["no-such-command"][..], &["ls", "--no-such-option"], &["send"], &[]] {
        let done = Place::new().run(args, b"");
        assert_eq!(done.status, 2, "{args:?}");
        assert!(done.out.is_empty() && !done.err.is_empty(), "{args:?}");
    }
}

#[test]
fn bad_addresses_and_options_are_usage_errors_that_say_what_is_wrong() {
    let place = Place::new();
    for command in ["send", "recv", "info", "rm"] {
        for (address, complaint) in [
            ("orders", "scheme"),
            ("http:x", "unknown"),
            ("mq:x", "begins with"),
            ("shm:", "empty"),
            ("shm:a/b", "`/`"),
            ("shm:a?colour=red", "known are shape, capacity"),
        ] {
            let done = place.run([command, address], b"");
            assert_eq!(done.status, 2, "{command} {address}: {}", done.err);
            assert!(done.err.contains(complaint), "{command} {address}: {}", done.err);
        }
    }
    let done = place.run(["send", "shm:a?capacity=3"], b"x\n");
    assert_eq!(done.status, 2, "an impossible number: {}", done.err);
}

#[test]
fn a_directory_of_others_is_not_permitted() {
    let place = Place::new();
    place.make_directory_unsafe();
    let done = place.run(["send", "shm:a"], b"x\n");
    assert_eq!(done.status, 4, "{}", done.err);
    assert!(done.err.contains("0700"), "{}", done.err);
}

#[test]
fn times_that_cannot_be_are_usage_errors_that_say_so() {
    let place = Place::new();
    let file = place.path("lock");
    let commands: [&[&str]; 5] = [
        &["recv", "shm:a"],
        &["pipe", "shm:a", "shm:b"],
        &["sem", "sem:/a", "wait"],
        &["signal", "wait"],
        &["lock", file.to_str().unwrap()],
    ];
    for command in commands {
        for (time, complaint) in [
            ("-1s", "negative"),
            ("NaN", "write a duration"),
            ("inf", "write a duration"),
            ("99999999999h", "too long"),
        ] {
            let done = place.run(command.iter().chain(&["-W", time]), b"");
            assert_eq!(done.status, 2, "{command:?} {time}: {}", done.err);
            assert!(done.err.contains(complaint), "{command:?} {time}: {}", done.err);
        }
    }
}

#[test]
fn numbers_that_cannot_be_are_told_their_limits() {
    let place = Place::new();
    for args in [
        &["recv", "shm:a", "-n", "-1"][..],
        &["recv", "shm:a", "-n", "1.5"],
        &["pipe", "shm:a", "shm:b", "-n", "18446744073709551616"],
        &["signal", "wait", "-n", "0"],
        &["signal", "1", "--value", "2147483648"],
        &["signal", "x"],
        &["ps", "-1"],
        &["sem", "sem:/a", "create", "-1"],
        &["sem", "sem:/a", "create", "4294967296"],
    ] {
        let done = place.run(args, b"");
        assert_eq!(done.status, 2, "{args:?}: {}", done.err);
        assert!(done.err.contains("write a whole number from"), "{args:?}: {}", done.err);
    }
}

#[test]
fn an_address_within_one_process_is_refused_instead_of_losing_what_is_sent() {
    let place = Place::new();
    for args in
        [&["send", "mem:a"][..], &["recv", "mem:a"], &["info", "mem:a"], &["rm", "mem:a"], &["pipe", "-", "mem:a"]]
    {
        let done = place.run(args, b"x\n");
        assert_eq!(done.status, 2, "{args:?}: {}", done.err);
        assert!(done.err.contains("use shm:NAME"), "{args:?}: {}", done.err);
    }
}

#[test]
fn the_help_lists_every_scheme() {
    let help = Place::new().run(["--help"], b"").out_text();
    for scheme in ["shm:", "pipe:", "fifo:", "mq:", "sysv:", "unix:", "tcp:", "udp:", "signal:"] {
        assert!(help.contains(&format!("  {scheme}")), "{scheme}");
    }
}
