//! The demo's story, held to its word: promises P1, P3 to P6, P8 to P10 and P13 on two hosts and a wire.

use tests::privilege;
use tests::stage::Stage;
use tests::story::STEPS;

#[test]
fn every_step_of_the_demo_holds() {
    if !privilege::kernel_usable("the demo's story") {
        return;
    }
    let mut stage = Stage::new("").unwrap();
    for step in STEPS {
        if let Err(error) = (step.play)(&mut stage) {
            panic!("{} {}: {error:#}", step.promise, step.claim);
        }
    }
}
