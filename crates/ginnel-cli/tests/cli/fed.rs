//! The fuzz target `command`, without a fuzzer: command lines that are kept, and mutations of them, are understood or refused in words.

use ginnel_fed::{Dice, inputs, mutate, targets};

#[test]
fn any_command_line_is_understood_or_refused() {
    let inputs = inputs("command");
    let understood = inputs.iter().filter(|(_, bytes)| understand(bytes)).count();
    assert!(understood >= 20, "those that were typed make sense: {understood} of {}", inputs.len());
    let mutations = if std::env::var_os("GINNEL_FED").is_some_and(|value| value == "all") { 100_000 } else { 600 };
    let more = (0..mutations).filter(|seed| understand(&mutate(&inputs, &mut Dice::new(*seed)))).count();
    println!("command: {} inputs and {mutations} mutations of them, of which {more} make sense", inputs.len());
}

fn understand(bytes: &[u8]) -> bool {
    let arguments = targets::arguments(bytes);
    let said = std::panic::catch_unwind(|| ginnel_cli::understand(arguments.clone()));
    match said {
        Ok(said) => said.map_err(|text| assert!(!text.is_empty(), "{arguments:?}")).is_ok(),
        Err(_) => panic!("{arguments:?}"),
    }
}
