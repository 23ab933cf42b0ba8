//! Copies crossbeam-channel's tests, and the macros that they use, from its package as cargo has it, and makes them a suite: `tests/suite.rs`. They are never part of this repository.
//!
//! ```text
//! cargo metadata --> the package's directory --> tests/*.rs   --> OUT_DIR/NAME.rs    without the tests that `excepted.txt` names, with EDITS
//!                                                                 OUT_DIR/suite.rs   a table of what runs, and of what the package has
//!                                           `--> src/select_macro.rs --> OUT_DIR/macros.rs
//! ```
//!
//! The tests are read line by line, in the form in which `rustfmt` writes them: an item that begins at some indentation ends with the first `}` at the same one. What that
//! misses is seen: there are as many tests as lines `#[test]`, or the build fails.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const PACKAGE: &str = "crossbeam-channel";

/// What of it is not run, and why.
const EXCEPTED: &str = "tests/suite/excepted.txt";

/// What is changed: in which test, or module of tests, what, into what. That what is there exactly once, or the build fails.
#[rustfmt::skip]
const EDITS: &[(&str, &str, &str)] = &[
    // A link's capacity is a power of two.
    ("array::capacity", "in 1..10 ", "in [1, 2, 4, 8, 16, 1024] "),
    ("array::len", "usize = 1000;", "usize = 1024;"),
    // A link takes a millisecond to make, a handle of it tens of microseconds to clone, which some do for each message.
    ("array::stress_oneshot", "usize = 10_000;", "usize = 1_000;"),
    ("list::stress_oneshot", "usize = 10_000;", "usize = 1_000;"),
    ("golang::chan_test::test_multi_consumer", "usize = 271828;", "usize = 2_718;"),
    // These take a while: many sleep and are woken for each message.
    ("array::stress_iter", "usize = 100_000;", "usize = 10_000;"),
    ("mpsc::channel_tests::stress_recv_timeout_two_threads", "() + 100", "() + 20"),
    ("mpsc::select_tests::stress", "i32 = 10000;", "i32 = 2000;"),
    // Here a capacity of 0 keeps two threads in step: that is left to a channel of crossbeam's.
    ("select::linearizable_try", "(start_s, start_r) = bounded", "(start_s, start_r) = ginnel_crossbeam::original::bounded"),
    ("select::linearizable_try", "(end_s, end_r) = bounded", "(end_s, end_r) = ginnel_crossbeam::original::bounded"),
    ("select::linearizable_timeout", "(start_s, start_r) = bounded", "(start_s, start_r) = ginnel_crossbeam::original::bounded"),
    ("select::linearizable_timeout", "(end_s, end_r) = bounded", "(end_s, end_r) = ginnel_crossbeam::original::bounded"),
    ("select_macro::linearizable_default", "(start_s, start_r) = bounded", "(start_s, start_r) = ginnel_crossbeam::original::bounded"),
    ("select_macro::linearizable_default", "(end_s, end_r) = bounded", "(end_s, end_r) = ginnel_crossbeam::original::bounded"),
    ("select_macro::linearizable_timeout", "(start_s, start_r) = bounded", "(start_s, start_r) = ginnel_crossbeam::original::bounded"),
    ("select_macro::linearizable_timeout", "(end_s, end_r) = bounded", "(end_s, end_r) = ginnel_crossbeam::original::bounded"),
    ("select::linearizable_try", "usize = 100_000;", "usize = 10_000;"),
    ("select::linearizable_timeout", "usize = 100_000;", "usize = 10_000;"),
    ("select_macro::linearizable_default", "usize = 100_000;", "usize = 10_000;"),
    ("select_macro::linearizable_timeout", "usize = 100_000;", "usize = 10_000;"),
];

/// Calls that make a channel, to which a capacity of 0 is given.
const MAKERS: [&str; 3] = ["bounded", "sync_channel", "make"];

fn main() {
    for changes in [EXCEPTED, "build.rs", "../../Cargo.lock"] {
        println!("cargo::rerun-if-changed={changes}");
    }
    println!("cargo::rustc-check-cfg=cfg(miri, crossbeam_sanitize)"); // which the copies ask for
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let package = directory_of(PACKAGE);
    copy_macros(&package, &out);

    let excepted = names_in(&fs::read_to_string(EXCEPTED).expect(EXCEPTED));
    let mut suite = Suite::default();
    let tests = package.join("tests");
    let entries =
        fs::read_dir(&tests).unwrap_or_else(|e| panic!("{}: {e}: does the package carry its tests?", tests.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|kind| kind == "rs")) {
        let name = file.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        let text = fs::read_to_string(file).expect("its text");
        suite.add(name, &text, &excepted, &out);
    }
    assert_eq!(suite.edited, EDITS.len(), "an edit is of a test that is not there, or not run");
    fs::write(out.join("suite.rs"), suite.text(&package)).expect("suite.rs");
}

/// Where cargo has the package that this one is built with: in the registry's folder, or a vendored one.
fn directory_of(package: &str) -> PathBuf {
    let metadata = metadata(true)
        .or_else(|_| metadata(false))
        .unwrap_or_else(|e| panic!("cargo metadata: {e}; try `cargo fetch`"));
    let packages = metadata["packages"].as_array().expect("packages");
    let manifests =
        packages.iter().filter(|one| one["name"] == package).filter_map(|one| one["manifest_path"].as_str());
    let manifests: Vec<_> = manifests.collect();
    let [manifest] = manifests[..] else { panic!("{package} is there {} times, not once", manifests.len()) };
    Path::new(manifest).parent().expect("a directory").to_owned()
}

/// Without the net first: what is built is there. The packages of other systems may not be, so these are left out.
fn metadata(offline: bool) -> Result<serde_json::Value, String> {
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    cargo
        .args(["metadata", "--format-version=1", "--locked", "--filter-platform"])
        .arg(env::var_os("TARGET").expect("cargo sets it"));
    cargo.args(offline.then_some("--offline"));
    let output = cargo.output().map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|e| e.to_string())
}

/// The macros, without their documentation, whose examples are crossbeam-channel's.
fn copy_macros(package: &Path, out: &Path) {
    let text = fs::read_to_string(package.join("src/select_macro.rs")).expect("src/select_macro.rs");
    let text: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let text = text.join("\n").replace("$crate::never::<()>()", "$crate::internal::Nothing");
    fs::write(out.join("macros.rs"), text).expect("macros.rs");
}

/// Lines that are neither empty nor begin with `#` or a space.
fn names_in(text: &str) -> BTreeSet<String> {
    text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase())).map(str::to_owned).collect()
}

/// The suite as it is put together.
#[derive(Default)]
struct Suite {
    modules: String,
    runs: String,
    found: Vec<String>,
    edited: usize,
}

/// A test of a file, by lines.
struct Test {
    /// With its file and its modules.
    name: String,
    /// From its first attribute.
    first: usize,
    last: usize,
    /// The line of its name.
    head: usize,
    should_panic: Option<String>,
}

/// A module of a file.
struct Module {
    name: String,
    first: usize,
    last: usize,
}

impl Suite {
    fn add(&mut self, file: &str, text: &str, excepted: &BTreeSet<String>, out: &Path) {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let modules = modules_of(file, &lines);
        let tests = tests_of(file, &lines, &modules);
        let attributes = lines.iter().filter(|line| line.trim() == "#[test]").count();
        assert_eq!(tests.len(), attributes, "{file}: some tests are not found");
        self.found.extend(tests.iter().map(|test| test.name.clone()));

        let is_out = |name: &str| excepted.contains(name);
        let mut removed: Vec<_> =
            tests.iter().filter(|test| is_out(&test.name)).map(|test| (test.first, test.last)).collect();
        removed.extend(
            modules
                .iter()
                .filter(|module| is_empty(module, &tests, excepted))
                .map(|module| (module.first, module.last)),
        );
        if tests.iter().all(|test| is_out(&test.name)) {
            return;
        }
        self.edited += edit(&mut lines, &tests, &modules);
        set_out(&mut lines);
        for test in tests.iter().filter(|test| !is_out(&test.name)) {
            let body = &lines[test.first..=test.last];
            let has = |what: &str| body.iter().any(|line| line.contains(what));
            let Test { name, should_panic, .. } = test;
            let (sleeps, counts, from_zero) = (has("sleep("), has("ALLOCATED"), has(FROM_ZERO));
            writeln!(
                self.runs,
                "    Run {{ name: {name:?}, test: {name}, should_panic: {should_panic:?}, sleeps: {sleeps}, alone: {counts}, from_zero: {from_zero} }},"
            )
            .expect("a string");
        }
        open(&mut lines, &tests, &modules);
        for (first, last) in removed {
            lines[first..=last].fill(String::new());
        }
        let path = out.join(format!("{file}.rs"));
        fs::write(&path, lines.join("\n")).expect("a copy");
        writeln!(self.modules, "#[allow(warnings, clippy::all, unsafe_code, unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]\n#[path = {path:?}]\nmod {file};").expect("a string");
    }

    fn text(&self, package: &Path) -> String {
        let from = package.file_name().expect("a name").to_string_lossy();
        let edits = EDITS.iter().map(|(test, from, to)| (*test, format!("`{}` is `{}`", from.trim(), to.trim())));
        let edits: Vec<_> = edits.collect();
        let Self { modules, runs, found, .. } = self;
        format!(
            "{modules}\nconst PACKAGE: &str = {from:?};\nconst FOUND: &[&str] = &{found:?};\nconst EDITED: &[(&str, &str)] = &{edits:?};\nconst RUNS: &[Run] = &[\n{runs}];\n"
        )
    }
}

/// Marks the lines in which a capacity of 0 became 1.
const FROM_ZERO: &str = "/* 0 */ 1)";

/// Modules with a body, the innermost last.
fn modules_of(file: &str, lines: &[String]) -> Vec<Module> {
    let mut modules = vec![Module { name: file.to_owned(), first: 0, last: lines.len() }];
    for (first, line) in lines.iter().enumerate() {
        let head = line.trim_start().trim_start_matches("pub ");
        let Some(name) = head.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(" {")) else { continue };
        let around = modules.iter().rfind(|module| module.last > first).expect("the file");
        modules.push(Module { name: format!("{}::{name}", around.name), first, last: end_of(lines, first) });
    }
    modules
}

/// Where the item whose head is at this line ends.
fn end_of(lines: &[String], head: usize) -> usize {
    let indentation = lines[head].len() - lines[head].trim_start().len();
    let end = format!("{}}}", " ".repeat(indentation));
    let rest = lines[head..].iter().position(|line| *line == end);
    head + rest.unwrap_or_else(|| panic!("no end of `{}`", lines[head]))
}

fn tests_of(file: &str, lines: &[String], modules: &[Module]) -> Vec<Test> {
    let mut tests = Vec::new();
    for (first, _) in lines.iter().enumerate().filter(|(_, line)| line.trim() == "#[test]") {
        let head = (first..lines.len())
            .find(|&at| lines[at].trim_start().starts_with("fn "))
            .unwrap_or_else(|| panic!("{file}: a test without a function"));
        let name = lines[head].trim().trim_start_matches("fn ").split('(').next().expect("a name");
        let around = modules.iter().rfind(|module| module.first <= first && module.last > first).expect("the file");
        let expected =
            lines[first..head].iter().find_map(|line| line.trim().strip_prefix("#[should_panic(expected = \""));
        let should_panic = expected.map(|rest| rest.trim_end_matches("\")]").to_owned());
        tests.push(Test {
            name: format!("{}::{name}", around.name),
            first,
            last: end_of(lines, head),
            head,
            should_panic,
        });
    }
    tests
}

/// Whether a module has tests, and none of them runs.
fn is_empty(module: &Module, tests: &[Test], excepted: &BTreeSet<String>) -> bool {
    let mut inside = tests.iter().filter(|test| test.first > module.first && test.last < module.last).peekable();
    module.first > 0 && inside.peek().is_some() && inside.all(|test| excepted.contains(&test.name))
}

/// [`EDITS`], and how many there were.
fn edit(lines: &mut [String], tests: &[Test], modules: &[Module]) -> usize {
    let mut edited = 0;
    for (name, from, to) in EDITS {
        let of_test = tests.iter().find(|test| test.name == *name).map(|test| (test.first, test.last));
        let of_module = || modules.iter().find(|module| module.name == *name).map(|module| (module.first, module.last));
        let Some((first, last)) = of_test.or_else(of_module) else { continue };
        let mut places = lines[first..=last].iter_mut().filter(|line| line.contains(from));
        let (Some(place), None) = (places.next(), places.next()) else { panic!("{name}: `{from}` is not there once") };
        *place = place.replace(from, to);
        edited += 1;
    }
    edited
}

/// The names of another crate, and a capacity of 1 for one of 0.
fn set_out(lines: &mut [String]) {
    for line in lines.iter_mut().filter(|line| !line.contains("::original::")) {
        *line = line.replace("use crossbeam_channel", "use ginnel_crossbeam");
        for maker in MAKERS {
            let Some(at) = line.find(maker) else { continue };
            let call = line[at..].split_inclusive("(0)").next().unwrap_or_default().to_owned();
            let rest = &call[maker.len()..];
            if rest == "(0)" || (rest.starts_with("::<") && rest.ends_with(">(0)")) {
                *line = line.replace(&call, &call.replace("(0)", &format!("({FROM_ZERO}")));
            }
        }
    }
}

/// Makes tests plain functions that can be called from outside of their modules.
fn open(lines: &mut [String], tests: &[Test], modules: &[Module]) {
    for test in tests {
        for line in &mut lines[test.first..test.head] {
            line.clear();
        }
        lines[test.head] = lines[test.head].replacen("fn ", "pub fn ", 1);
    }
    for module in modules.iter().filter(|module| module.first > 0) {
        let head = &mut lines[module.first];
        if !head.trim_start().starts_with("pub ") {
            *head = head.replacen("mod ", "pub mod ", 1);
        }
    }
}
