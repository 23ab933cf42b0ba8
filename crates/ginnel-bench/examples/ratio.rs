//! Measures a link of ginnel beside the raw baselines in a few cases: `ratio ROUNDS [SIZE..]`, for work on the hot paths.

use ginnel_bench::{Case, Mode, Plan, baselines, contest, links, table};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse());
    let rounds = numbers.next().unwrap_or(Ok(5))?;
    let sizes = numbers.collect::<Result<Vec<usize>, _>>()?;
    let mut cases = vec![Case::round_trip(Mode::Spin, 64)];
    cases.extend(sizes.into_iter().map(|size| Case::stream(Mode::Spin, size)));
    let plan = Plan { cases, rounds: rounds as u32, ..Plan::default() };
    let mut contenders = baselines();
    contenders.extend(links());
    let report = contest(&plan, &contenders, |_| ())?;
    print!("{}", table(&report));
    Ok(())
}
