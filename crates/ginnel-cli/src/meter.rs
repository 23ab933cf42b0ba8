//! How far a transfer is, for somebody who watches: one line on stderr, only if that is a terminal, only after a second.

use crate::units;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

/// A transfer that takes no longer is not worth a line.
const AFTER: Duration = Duration::from_secs(1);
/// Bytes, a message counting as 64 at least, between two looks at the clock.
const STEP: u64 = 1 << 20;

/// Counts messages and bytes, and shows them.
pub(crate) struct Meter {
    shown: bool,
    total: Option<u64>,
    started: Instant,
    bar: Option<ProgressBar>,
    messages: u64,
    bytes: u64,
    until_look: u64,
}

impl Meter {
    /// Shows nothing if `hidden`. `total` is how many bytes will come, if that is known.
    pub(crate) fn new(hidden: bool, total: Option<u64>) -> Self {
        let shown = !hidden && stderr().is_terminal();
        Self { shown, total, started: Instant::now(), bar: None, messages: 0, bytes: 0, until_look: STEP }
    }

    /// Another message.
    #[inline]
    pub(crate) fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
        self.until_look = self.until_look.saturating_sub(bytes.max(64) as u64);
        if self.until_look == 0 {
            self.until_look = STEP;
            self.look(None);
        }
    }

    /// Messages so far.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Nothing moves; `why` may be worth showing.
    pub(crate) fn idle(&mut self, why: &str) {
        self.look(Some(why));
    }

    #[cold]
    fn look(&mut self, why: Option<&str>) {
        if !self.shown || self.started.elapsed() < AFTER {
            return;
        }
        let text = self.text(why);
        let bar = self.bar.get_or_insert_with(|| bar(self.total));
        bar.set_position(self.bytes);
        bar.set_message(text);
    }

    fn text(&self, why: Option<&str>) -> String {
        let mut text = format!("{} messages, {}", self.messages, units::size(self.bytes));
        if let Some(total) = self.total {
            text += &format!(" of {}", units::size(total));
        }
        match why {
            Some(why) => text + ", " + why,
            None => {
                let rate = self.bytes as f64 / self.started.elapsed().as_secs_f64();
                text + ", " + &units::size(rate as u64) + "/s"
            }
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{bar:24} {percent:>3}% {wide_msg}"),
        None => (ProgressBar::no_length(), "{wide_msg}"),
    };
    // Without colours, so there is nothing that NO_COLOR would take away.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style.progress_chars("=> "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_though_it_is_hidden() {
        let mut meter = Meter::new(true, Some(1 << 20));
        for _ in 0..100 {
            meter.add(1024);
        }
        assert_eq!(meter.messages(), 100);
        assert_eq!(meter.text(Some("waiting")), "100 messages, 100KiB of 1MiB, waiting");
        assert!(meter.bar.is_none());
    }
}
