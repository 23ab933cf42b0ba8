//! Signals that are queued and not taken.

use crate::apart::{apart, told};
use ginnel_os::signal::{self, Signal, Value};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn status(child: &Killed) -> String {
    std::fs::read_to_string(format!("/proc/{}/status", child.0.id())).unwrap()
}

/// A process that is stopped takes nothing.
fn stop(child: &Killed) {
    signal::send(child.0.id(), Signal::STOP).unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while !status(child).contains("State:\tT") {
        assert!(Instant::now() < until, "it does not stop");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn too_many_are_pending() {
    apart("signals::too_many_are_pending", ":", || {
        setrlimit(Resource::Sigpending, Rlimit { current: Some(8), maximum: Some(8) }).unwrap();
        let child = Killed(Command::new("sleep").arg("60").spawn().unwrap());
        stop(&child);
        let mut queued = 0;
        let fill = || -> std::io::Result<()> {
            loop {
                signal::queue(child.0.id(), Signal::real_time(4)?, Value::from_word(queued))?;
                queued += 1;
            }
        };
        told("signal: more pending than RLIMIT_SIGPENDING", fill, &["RLIMIT_SIGPENDING", "is 8", "ulimit -i"]);
        let status = status(&child);
        assert!(status.contains(&format!("SigQ:\t{queued}/8")), "what was queued is still there: {queued}, {status}");
    });
}
