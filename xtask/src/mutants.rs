//! `cargo xtask mutants`: bugs that are put in on purpose, one at a time, and whether the test that has to see each does.
//!
//! A test that cannot fail proves nothing. So what the project rests on, the order of its loads and stores and the repair after a death, is broken in a copy
//! of the workspace (`target/mutants/tree`), line by line of `xtask/mutants.txt`, and each bug has to turn the test red that is written beside it. Before the first one of a
//! test is tried, the test has to pass; and a bug that does not compile is none. Whether every line of the table is still to be found in the code is a test of this
//! package, so that a change of the code changes the table.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::Outcome;
use crate::step::Group;

const TABLE: &str = "xtask/mutants.txt";
/// How long one test may take, its build not included. A bug that makes a test hang is seen by that.
const LIMIT: Duration = Duration::from_secs(300);

/// One bug, and who has to see it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mutant {
    name: String,
    file: PathBuf,
    /// The line stands behind the first occurrence of this text.
    behind: String,
    line: String,
    instead: Option<String>,
    test: Test,
    /// Why the test does not see it, as far as is known.
    unseen: Option<String>,
}

/// A test, as the table names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Test {
    suite: String,
    name: String,
}

/// What became of a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Caught,
    /// By the limit of time.
    Hung,
    Survived,
}

/// Tries every bug of the table, or those with an argument in their name.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<Outcome> {
    let mut mutants = table(root)?;
    mutants.retain(|mutant| arguments.is_empty() || arguments.iter().any(|part| mutant.name.contains(part)));
    if mutants.is_empty() {
        eprintln!("xtask mutants: no bug in {TABLE} has {arguments:?} in its name");
        return Ok(Outcome::Usage);
    }
    let tree = Tree::copy(root)?;
    let mut sound = BTreeSet::new();
    let mut report = String::new();
    let mut wrong = 0;
    for mutant in &mutants {
        if sound.insert(&mutant.test) {
            let fate = tree.test(&mutant.test).with_context(|| format!("without any bug, {}", mutant.test))?;
            ensure!(fate == Fate::Survived, "{} fails without any bug", mutant.test);
        }
        let start = Instant::now();
        let fate = tree.with(mutant, || tree.test(&mutant.test)).with_context(|| mutant.name.clone())?;
        let (verdict, is_right) = match (fate, &mutant.unseen) {
            (Fate::Caught, None) => ("caught", true),
            (Fate::Hung, None) => ("caught by the limit of time", true),
            (Fate::Survived, Some(_)) => ("not caught, as known", true),
            (Fate::Survived, None) => ("NOT CAUGHT", false),
            (_, Some(_)) => ("CAUGHT, where the table says it is not", false),
        };
        wrong += usize::from(!is_right);
        let line = format!("{verdict}: {} ({}, {:.0} s)", mutant.name, mutant.test, start.elapsed().as_secs_f64());
        eprintln!("== {line}");
        writeln!(report, "{line}")?;
    }
    println!("\n{report}{} bugs, {wrong} of them not as {TABLE} says", mutants.len());
    Ok(if wrong == 0 { Outcome::Passed } else { Outcome::Failed })
}

fn table(root: &Path) -> Result<Vec<Mutant>> {
    let text = std::fs::read_to_string(root.join(TABLE)).with_context(|| format!("cannot read {TABLE}"))?;
    parse(&text)
}

fn parse(text: &str) -> Result<Vec<Mutant>> {
    let text: String =
        text.lines().filter(|line| !line.starts_with('#')).fold(String::new(), |all, line| all + line + "\n");
    text.split("\n= ")
        .skip(1)
        .map(|record| parse_one(record).with_context(|| format!("in {TABLE}: {record}")))
        .collect()
}

fn parse_one(record: &str) -> Result<Mutant> {
    let mut lines = record.lines().filter(|line| !line.trim().is_empty());
    let name = lines.next().context("no name")?.to_owned();
    let (file, behind) = lines.next().and_then(|line| line.split_once(": ")).context("no `FILE: TEXT`")?;
    let line = lines.next().and_then(|line| line.strip_prefix("- ")).context("no line that goes, `- LINE`")?;
    let mut rest = lines.next();
    let instead = rest.and_then(|line| line.strip_prefix("+ "));
    if instead.is_some() {
        rest = lines.next();
    }
    let test = rest.and_then(|line| line.strip_prefix("? ")).context("no test, `? SUITE NAME`")?;
    let (suite, test) = test.split_once(' ').context("a test without a name")?;
    ensure!(matches!(suite, "loom" | "crash" | "links"), "no suite `{suite}`");
    let unseen = lines.next().map(|line| line.strip_prefix("! ").context("more than a record has")).transpose()?;
    ensure!(lines.next().is_none(), "more than a record has");
    Ok(Mutant {
        name,
        file: file.into(),
        behind: behind.into(),
        line: line.into(),
        instead: instead.map(Into::into),
        test: Test { suite: suite.into(), name: test.into() },
        unseen: unseen.map(Into::into),
    })
}

impl Mutant {
    /// The file with the bug in it.
    fn put_into(&self, text: &str) -> Result<String> {
        let behind = text.find(&self.behind).with_context(|| format!("`{}` is not there", self.behind))?;
        let at =
            behind + text[behind..].find(&self.line).with_context(|| format!("`{}` is not behind it", self.line))?;
        let (before, rest) = text.split_at(at);
        Ok(format!("{before}{}{}", self.instead.as_deref().unwrap_or_default(), &rest[self.line.len()..]))
    }
}

/// A copy of the workspace that may be broken.
struct Tree {
    root: PathBuf,
    target: PathBuf,
}

impl Tree {
    /// Copies what git knows of, as it is now; what has not changed since the last time keeps its date, so that it is not built again.
    fn copy(root: &Path) -> Result<Self> {
        let base = root.join("target/mutants");
        let tree = Self { root: base.join("tree"), target: base.join("build") };
        let listed =
            Command::new("git").args(["ls-files", "-z"]).current_dir(root).output().context("cannot start git")?;
        ensure!(listed.status.success(), "git ls-files failed: is this a clone?");
        for name in String::from_utf8(listed.stdout)?.split_terminator('\0') {
            let (from, to) = (root.join(name), tree.root.join(name));
            if !from.is_file() {
                continue; // removed, and not committed yet
            }
            let bytes = std::fs::read(&from).with_context(|| format!("cannot read {name}"))?;
            if std::fs::read(&to).is_ok_and(|there| there == bytes) {
                continue;
            }
            std::fs::create_dir_all(to.parent().context("a file without a folder")?)?;
            std::fs::write(&to, bytes).with_context(|| format!("cannot write {}", to.display()))?;
        }
        Ok(tree)
    }

    /// Runs something while a bug is in.
    fn with<R>(&self, mutant: &Mutant, run: impl FnOnce() -> Result<R>) -> Result<R> {
        let file = self.root.join(&mutant.file);
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        std::fs::write(&file, mutant.put_into(&text)?)?;
        let result = run();
        std::fs::write(&file, text)?;
        result
    }

    /// Builds a test, which must work, and runs it.
    fn test(&self, test: &Test) -> Result<Fate> {
        let mut build = self.cargo(test);
        build.arg("--no-run");
        let built = build.stdout(Stdio::null()).stderr(Stdio::piped()).output().context("cannot start cargo")?;
        if !built.status.success() {
            bail!("does not compile: {}", String::from_utf8_lossy(&built.stderr));
        }
        let mut command = self.cargo(test);
        command.arg("--").arg(&test.name).stdout(Stdio::null()).stderr(Stdio::null());
        let group = Group::start().context("cannot start `sh`, which guards a test")?;
        let ended = group.run(&mut command, LIMIT)?;
        group.end();
        Ok(match ended {
            None => Fate::Hung,
            Some(status) if status.success() => Fate::Survived,
            Some(_) => Fate::Caught,
        })
    }

    fn cargo(&self, test: &Test) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let package = if test.suite == "loom" { "ginnel-core" } else { "ginnel" };
        let suite = if test.suite == "loom" { "loom*" } else { &test.suite };
        command.args(["test", "--release", "-p", package, "--test", suite]).current_dir(&self.root);
        // What is built once is run once.
        command.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
        command.env("CARGO_TARGET_DIR", &self.target);
        if test.suite == "loom" {
            command.env("CARGO_TARGET_DIR", self.target.join("loom"));
            command.env("RUSTFLAGS", "--cfg loom").env("LOOM_MAX_PREEMPTIONS", "2");
        }
        command
    }
}

impl std::fmt::Display for Test {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.suite, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = "# a word\n\n= ordering: one\na/b.rs: fn f\n- x.store(1, Release);\n+ x.store(1, Relaxed);\n? loom f_is_seen\n\n= recovery: two\na/b.rs: fn g\n- y();\n? crash send, alone\n! nobody looks\n";

    #[test]
    fn records_are_read() {
        let mutants = parse(RECORD).unwrap();
        assert_eq!(mutants.len(), 2);
        assert_eq!(
            (mutants[0].name.as_str(), mutants[0].instead.as_deref()),
            ("ordering: one", Some("x.store(1, Relaxed);"))
        );
        assert_eq!((mutants[1].test.suite.as_str(), mutants[1].test.name.as_str()), ("crash", "send, alone"));
        assert_eq!((mutants[0].unseen.as_deref(), mutants[1].unseen.as_deref()), (None, Some("nobody looks")));
        for broken in [
            "\n= a\n",
            "\n= a\nf: g\n- x\n",
            "\n= a\nf: g\n- x\n? polish b\n",
            "\n= a\nf: g\n- x\n? loom b\n? loom c\n",
        ] {
            assert!(parse(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_bug_goes_behind_its_text() {
        let mutants = parse(RECORD).unwrap();
        let text = "x.store(1, Release); fn f() { x.store(1, Release); } fn g() { y(); }";
        assert_eq!(
            mutants[0].put_into(text).unwrap(),
            "x.store(1, Release); fn f() { x.store(1, Relaxed); } fn g() { y(); }"
        );
        assert_eq!(
            mutants[1].put_into(text).unwrap(),
            "x.store(1, Release); fn f() { x.store(1, Release); } fn g() {  }"
        );
        assert!(mutants[1].put_into("fn g() {}").is_err());
    }

    #[test]
    fn every_bug_of_the_table_fits_the_code() {
        let root = crate::root().unwrap();
        let mutants = table(&root).unwrap();
        let seen = mutants.iter().filter(|mutant| mutant.unseen.is_none());
        let kind = |kind: &str| seen.clone().filter(|mutant| mutant.name.starts_with(kind)).count();
        assert_eq!(kind("ordering: ") + kind("recovery: "), seen.clone().count());
        assert!(kind("ordering: ") >= 12 && kind("recovery: ") >= 6);
        for mutant in &mutants {
            let text = std::fs::read_to_string(root.join(&mutant.file)).unwrap();
            let broken = mutant.put_into(&text).unwrap_or_else(|e| panic!("{}: {e}", mutant.name));
            assert_ne!(broken, text, "{}", mutant.name);
        }
    }
}
