//! `ginnel sem`: both kinds of semaphore from the shell, whatever happens to who holds one.

use std::process::Command;

use crate::process::{Done, Place, Run, wait_until};

/// A semaphore of one test, which goes with it.
struct Semaphore(String);

impl Semaphore {
    fn posix(test: &str) -> Self {
        Self(format!("sem:/ginnel-cli-{}-{test}", std::process::id()))
    }

    fn sysv(number: u32) -> Self {
        Self(format!("sysv-sem:{:#x}", 0x6800_0000 | (std::process::id() & 0xffff) << 8 | number))
    }

    fn both(test: &str, number: u32) -> [Self; 2] {
        [Self::posix(test), Self::sysv(number)]
    }

    fn run(&self, args: &[&str]) -> Done {
        Place::new().run(["sem", &self.0].iter().chain(args), b"")
    }

    fn start(&self, place: &Place, args: &[&str]) -> Run {
        place.start(["sem", &self.0].iter().chain(args))
    }

    fn made(self, value: &str) -> Self {
        let done = self.run(&["create", value]);
        assert_eq!((done.status, done.err.as_str()), (0, ""));
        self
    }

    fn value(&self) -> String {
        let done = self.run(&["value"]);
        assert_eq!(done.status, 0, "{}", done.err);
        done.out_text().trim_end().to_owned()
    }
}

impl Drop for Semaphore {
    fn drop(&mut self) {
        let _ = self.run(&["rm"]);
    }
}

#[test]
fn it_is_made_taken_given_and_removed() {
    for semaphore in Semaphore::both("life", 1) {
        let status = |args: &[&str]| semaphore.run(args).status;
        assert_eq!(status(&["value"]), 3, "there is none");
        assert_eq!(status(&["create", "2"]), 0);
        assert_eq!(status(&["create", "2"]), 1, "it is there");
        assert_eq!(status(&["create", "9", "--if-missing"]), 0);
        assert_eq!(semaphore.value(), "2", "and stays as it is");
        assert_eq!((status(&["wait"]), status(&["try"]), status(&["try"])), (0, 0, 1));
        assert_eq!(status(&["post"]), 0);
        assert_eq!(semaphore.value(), "1");
        assert_eq!((status(&["rm"]), status(&["rm"])), (0, 3));
    }
}

#[test]
fn a_wait_that_is_too_long_ends_with_124() {
    for semaphore in Semaphore::both("late", 2) {
        let semaphore = semaphore.made("0");
        let done = semaphore.run(&["wait", "-W", "150ms"]);
        assert_eq!(done.status, 124);
        assert!(done.err.contains(&semaphore.0) && done.err.contains("stayed 0"), "{}", done.err);
    }
}

#[test]
fn one_that_waits_goes_on_when_it_is_posted() {
    for semaphore in Semaphore::both("posted", 3) {
        let (semaphore, place) = (semaphore.made("0"), Place::new());
        let mut waiting = semaphore.start(&place, &["wait"]);
        std::thread::sleep(std::time::Duration::from_millis(250)); // longer than a slice of its wait
        assert!(waiting.is_running());
        assert_eq!(semaphore.run(&["post"]).status, 0);
        assert_eq!(waiting.end().status, 0);
        assert_eq!(semaphore.value(), "0");
    }
}

#[test]
fn commands_run_one_at_a_time() {
    const RUNS: usize = 6;
    for (number, semaphore) in Semaphore::both("alone", 4).into_iter().enumerate() {
        let (semaphore, place) = (semaphore.made("1"), Place::new());
        let file = place.write("count", b"0");
        let script = format!("n=$(cat {file}); sleep 0.05; echo $((n + 1)) > {file}");
        let undo: &[&str] = if number == 1 { &["--undo"] } else { &[] };
        let args: Vec<&str> = ["run"].iter().chain(undo).chain(&["--", "sh", "-c", &script]).copied().collect();
        let runs: Vec<Run> = (0..RUNS).map(|_| semaphore.start(&place, &args)).collect();
        for run in runs {
            assert_eq!(run.end().status, 0);
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap().trim_end(), RUNS.to_string());
        assert_eq!(semaphore.value(), "1");
    }
}

#[test]
fn the_status_is_that_of_the_command() {
    let semaphore = Semaphore::posix("status").made("1");
    for (command, status) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)] {
        assert_eq!(semaphore.run(&["run", "--", "sh", "-c", command]).status, status);
    }
    assert_eq!(semaphore.run(&["run", "--", "/no/such/program"]).status, 127);
    assert_eq!(semaphore.run(&["run", "--", "/dev/null"]).status, 126);
    assert_eq!(semaphore.value(), "1", "given back each time");
}

#[test]
fn a_signal_goes_to_the_command_and_the_semaphore_is_given_back() {
    for semaphore in Semaphore::both("signal", 5) {
        let (semaphore, place) = (semaphore.made("1"), Place::new());
        let run = semaphore.start(&place, &["run", "--", "cat"]);
        wait_until("it is taken", || semaphore.value() == "0");
        run.signal("TERM");
        assert_eq!(run.end_by_itself().status, 143);
        assert_eq!(semaphore.value(), "1");
    }
}

#[test]
fn a_signal_while_it_waits_ends_it_and_takes_nothing() {
    for semaphore in Semaphore::both("interrupted", 6) {
        let (semaphore, place) = (semaphore.made("0"), Place::new());
        let run = semaphore.start(&place, &["run", "--", "touch", "never"]);
        wait_until("it waits", || blocks_signals(run.id()));
        run.signal("INT");
        let done = run.end_by_itself();
        assert_eq!((done.status, done.err.as_str()), (130, ""));
        semaphore.run(&["post"]);
        assert_eq!(semaphore.value(), "1");
    }
}

fn blocks_signals(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("SigBlk:") && line.bytes().any(|byte| (b'1'..=b'f').contains(&byte)))
}

#[test]
fn what_a_killed_run_had_comes_back_with_undo_only() {
    for (semaphore, undo, left) in
        [(Semaphore::sysv(7), true, "1"), (Semaphore::sysv(8), false, "0"), (Semaphore::posix("killed"), false, "0")]
    {
        let (semaphore, place) = (semaphore.made("1"), Place::new());
        let args = if undo { &["run", "--undo", "--", "cat"][..] } else { &["run", "--", "cat"] };
        let mut run = semaphore.start(&place, args);
        wait_until("it is taken", || semaphore.value() == "0");
        run.kill();
        assert_eq!(semaphore.value(), left, "{}", semaphore.0);
    }
}

#[test]
fn many_that_make_one_at_once_make_one() {
    for semaphore in Semaphore::both("race", 9) {
        let place = Place::new();
        let makers: Vec<Run> = (0..8).map(|_| semaphore.start(&place, &["create", "3", "--if-missing"])).collect();
        let posters: Vec<Run> = makers
            .into_iter()
            .map(|maker| {
                assert_eq!(maker.end().status, 0);
                semaphore.start(&place, &["post"])
            })
            .collect();
        posters.into_iter().for_each(|poster| assert_eq!(poster.end().status, 0));
        assert_eq!(semaphore.value(), "11");
    }
}

#[test]
fn each_semaphore_of_a_set_is_its_own() {
    let set = Semaphore::sysv(10);
    let third = Semaphore(format!("{}#2", set.0)).made("5");
    assert_eq!(third.run(&["wait"]).status, 0);
    assert_eq!((set.value(), third.value()), ("5".into(), "4".into()));
    let beyond = Semaphore(format!("{}#3", set.0));
    let done = beyond.run(&["value"]);
    assert_eq!(done.status, 1);
    assert!(done.err.contains("no semaphore 3"), "{}", done.err);
}

#[test]
fn what_cannot_be_is_a_usage_error() {
    let (posix, sysv) = (Semaphore::posix("usage"), Semaphore::sysv(11));
    for (semaphore, args, complaint) in [
        (&posix, &["run", "--undo", "--", "true"][..], "cannot be undone"),
        (&posix, &["create", "4294967295"], "is the highest"),
        (&posix, &["create", "--size", "2"], "is alone"),
        (&posix, &["create", "-1"], "-1"),
        (&posix, &["run"], "COMMAND"),
        (&posix, &["frobnicate"], "frobnicate"),
        (&sysv, &["create", "32768"], "32767 is the highest"),
        (&sysv, &["create", "--size", "0"], "0"),
    ] {
        let done = semaphore.run(args);
        assert_eq!(done.status, 2, "{args:?}: {}", done.err);
        assert!(done.err.contains(complaint), "{args:?}: {}", done.err);
    }
    let done = Semaphore("shm:a".into()).run(&["wait"]);
    assert_eq!(done.status, 2);
    assert!(done.err.contains("sysv-sem:KEY"), "{}", done.err);
}

#[test]
fn what_a_set_lacks_is_named() {
    let place = Place::new();
    let key = crate::objects::key();
    let (_set, _removed) = crate::objects::sysv_set(key, &[1, 1]);
    let done = place.run(["sem", &format!("sysv-sem:{}#2", key.number()), "value"], b"");
    assert_eq!(done.status, 1, "{}", done.err);
    assert!(done.err.contains("no semaphore 2: it has 2"), "{}", done.err);
    for action in ["value", "create", "rm"] {
        let done = place.run(["sem", "sysv-sem:/nonexistent#1", action], b"");
        assert_eq!(done.status, 3, "{action}: {}", done.err);
        assert!(done.err.contains("a file, which is not there"), "{action}: {}", done.err);
    }
}

/// The C program that the tests of ginnel-os speak with: <semaphore.h> and semop(2), and nothing of ginnel.
#[test]
fn a_c_program_takes_what_the_tool_gives_and_gives_what_it_takes() {
    let place = Place::new();
    let program = place.path("objects");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../ginnel-os/tests/interop/objects.c");
    let mut cc = Command::new("cc");
    let Ok(made) = cc.args(["-pthread", "-o"]).arg(&program).args([source, "-lrt"]).status() else {
        println!("skipped: cc is not there");
        return;
    };
    assert!(made.success(), "{source} does not compile");
    for semaphore in Semaphore::both("interop", 12) {
        let (kind, name) = semaphore.0.split_once(':').unwrap();
        let key = name.strip_prefix("0x").map(|digits| i64::from_str_radix(digits, 16).unwrap().to_string());
        let c = |acts: &[&str]| {
            let output =
                Command::new(&program).args([kind, key.as_deref().unwrap_or(name)]).args(acts).output().unwrap();
            assert!(output.status.success(), "{kind} {acts:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
        };
        c(&["create", "1"]);
        assert_eq!((semaphore.value().as_str(), semaphore.run(&["wait"]).status), ("1", 0));
        assert_eq!((c(&["try"]).as_str(), semaphore.run(&["try"]).status), ("would block", 1));
        let waiting = semaphore.start(&place, &["wait"]);
        std::thread::sleep(std::time::Duration::from_millis(250)); // longer than a slice of its wait
        c(&["post"]);
        assert_eq!(waiting.end().status, 0);
        assert_eq!(semaphore.run(&["post"]).status, 0);
        assert_eq!((c(&["wait"]).as_str(), c(&["value"]).as_str()), ("taken", "0"));
        c(&["remove"]);
        assert_eq!(semaphore.run(&["value"]).status, 3);
        assert_eq!(semaphore.run(&["create", "4"]).status, 0);
        assert_eq!(c(&["value"]), "4");
    }
}
