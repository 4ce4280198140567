//! `cargo xtask demo`: plays the story in two namespaces, one line per promise.

use std::process::ExitCode;

use tests::privilege;
use tests::stage::Stage;
use tests::story::STEPS;

fn main() -> ExitCode {
    if let Some(reason) = privilege::missing() {
        eprintln!("the demo {reason}");
        return ExitCode::FAILURE;
    }
    println!("edge (native XDP, TLS, upstream) and clients in two namespaces joined by a veth pair\n");
    let mut stage = match Stage::new("") {
        Ok(stage) => stage,
        Err(error) => {
            eprintln!("the stage could not be built: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut broken = 0;
    for step in STEPS {
        match (step.play)(&mut stage) {
            Ok(observed) => println!("{:<4} held    {}: {observed}", step.promise, step.claim),
            Err(error) => {
                broken += 1;
                println!("{:<4} BROKEN  {}: {error:#}", step.promise, step.claim);
            }
        }
    }
    drop(stage);
    println!("\n{} held, {broken} broken", STEPS.len() - broken);
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
