//! `ginnel doctor`: on this machine, and on one that is made worse.

use crate::process::Place;

#[test]
fn the_status_says_whether_something_hurts() {
    let place = Place::new();
    let done = place.run(["doctor", "--json"], b"");
    let report = done.json();
    let findings = report["findings"].as_array().unwrap();
    let hurts = findings.iter().filter(|finding| finding["state"] == "hurts").count();
    assert_eq!((report["schema"].as_u64(), report["hurts"].as_u64()), (Some(1), Some(hurts as u64)));
    assert_eq!(done.status, i32::from(hurts > 0), "{}", done.err);
    for finding in findings {
        assert!(finding["why"].is_string() && finding["remedy"].is_string(), "{finding}");
        assert!(["hurts", "tight"].contains(&finding["state"].as_str().unwrap()), "{finding}");
    }
}

#[test]
fn a_limit_that_is_too_low_comes_first_with_what_raises_it() {
    let run = Place::new().start_shell("ulimit -S -n 64; ulimit -S -f 2000; exec \"$GINNEL\" doctor");
    let done = run.end();
    assert_eq!(done.status, 1, "{}", done.err);
    let text = done.out_text();
    assert!(text.starts_with("HURTS"), "{text}");
    let position = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what}: {text}"));
    assert!(position("HURTS  RLIMIT_NOFILE is 64") < position("fix: ulimit -n 65536"));
    assert!(position("HURTS  RLIMIT_FSIZE") < text.find("tight").unwrap_or(usize::MAX));
    assert!(!done.err.contains("nothing hurts"));
}

#[test]
fn what_is_fine_is_shown_on_demand() {
    let place = Place::new();
    let (short, all) = (place.run(["doctor"], b""), place.run(["doctor", "--all"], b""));
    assert!(!short.out_text().contains("vm.nr_hugepages") && all.out_text().contains("vm.nr_hugepages"));
    let count = |json: serde_json::Value| json["findings"].as_array().unwrap().len();
    let all = place.run(["doctor", "--all", "--json"], b"").json();
    let names: std::collections::HashSet<String> =
        all["findings"].as_array().unwrap().iter().map(|finding| finding["name"].to_string()).collect();
    assert_eq!(names.len(), count(all), "each once");
}
