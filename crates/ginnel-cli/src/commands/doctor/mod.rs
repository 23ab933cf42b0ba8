//! `ginnel doctor`: what on this machine hurts communication, why, and what to do about it. The judgement is `rules`; what is judged, `reading`.

mod reading;
mod rules;

use crate::exit::{Code, Failure, say};
use crate::table::Align::{Left, Right};
use crate::table::Table;
use crate::{json, output};
use reading::Reading;
use rules::{RULES, Rule, State};
use serde::Serialize;
use std::cmp::Reverse;

const AFTER_HELP: &str = "\
`hurts` is what will fail or stall before long, and ends with status 1;
`tight` is what fails for larger needs only, often a default of the kernel.
What a sysctl changes is lost at the next start: write it into a file in
/etc/sysctl.d. Looking changes nothing.

Examples:
  ginnel doctor
  ginnel doctor --all
  ginnel doctor --json | jq -r '.findings[] | select(.state == \"hurts\") | .remedy'";

/// Find the limits that hurt, and how to raise them
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Show what is fine, too, and what cannot be read
    #[arg(short, long)]
    all: bool,

    /// Print JSON: one object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, quiet: bool) -> Result<(), Failure> {
    let (readings, in_container) = reading::all();
    let mut findings: Vec<Finding> = readings.into_iter().map(Finding::of).collect();
    findings.sort_by_key(|finding| Reverse(finding.state));
    let hurt = findings.iter().filter(|finding| finding.state == State::Hurts).count();
    let shown: Vec<&Finding> = findings.iter().filter(|finding| args.all || finding.state >= State::Tight).collect();
    if args.json {
        json::print(&Report { hurts: hurt, in_container, findings: &shown })?;
    } else {
        output::emit(&text(&shown, in_container))?;
    }
    if hurt > 0 {
        return Err(Failure::quiet(Code::Failed));
    }
    if !quiet && !args.json {
        say("nothing hurts");
    }
    Ok(())
}

#[derive(Serialize)]
struct Report<'a> {
    hurts: usize,
    in_container: bool,
    findings: &'a [&'a Finding],
}

/// A reading that was judged.
#[derive(Serialize)]
struct Finding {
    name: String,
    state: State,
    /// Null if it cannot be read or is unlimited, which `unlimited` tells apart.
    value: Option<u64>,
    unlimited: bool,
    unit: &'static str,
    /// Why it hurts, and what helps, if it does.
    why: Option<&'static str>,
    remedy: Option<&'static str>,
    /// What helps when a container is started.
    container_remedy: Option<&'static str>,
    #[serde(skip)]
    shown: String,
}

impl Finding {
    fn of(reading: Reading) -> Self {
        let rule = RULES.iter().find(|rule| rule.name == reading.name);
        let state = rules::judge(rule, &reading);
        let rule: Option<&Rule> = rule.filter(|_| state >= State::Tight);
        Self {
            state,
            value: reading.number(),
            unlimited: reading.is_unlimited(),
            unit: reading.unit_name(),
            why: rule.map(|rule| rule.why),
            remedy: rule.map(|rule| rule.remedy),
            container_remedy: rule.and_then(|rule| rule.in_container),
            shown: reading.shown(),
            name: reading.name,
        }
    }

    fn paragraph(&self, in_container: bool) -> String {
        let mut text = format!("{:<6} {} is {}\n", self.state.word(), self.name, self.shown);
        let mut line = |label: &str, what: Option<&str>| {
            if let Some(what) = what {
                text += &format!("       {label}{what}\n");
            }
        };
        line("", self.why);
        line("fix: ", self.remedy);
        line("or when the container is started: ", self.container_remedy.filter(|_| in_container));
        text
    }
}

fn text(findings: &[&Finding], in_container: bool) -> String {
    let (bad, good): (Vec<&Finding>, Vec<&Finding>) =
        findings.iter().copied().partition(|finding| finding.state >= State::Tight);
    let mut text: String = bad.iter().map(|finding| finding.paragraph(in_container)).collect();
    if good.is_empty() {
        return text;
    }
    let mut table = Table::new(&[("LIMIT", Left), ("VALUE", Right), ("STATE", Left)]);
    for finding in good {
        table.row(vec![finding.name.clone(), finding.shown.clone(), finding.state.word().into()]);
    }
    if !text.is_empty() {
        text += "\n";
    }
    text + &table.render()
}
