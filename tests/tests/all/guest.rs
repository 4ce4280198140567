//! The kernel that most hosts have: tests of this binary, run in a guest on Debian's.

use std::time::Duration;

use tests::guest::{Guest, Job};
use tests::privilege;

/// What depends on the kernel's age or on interfaces that this one may lack.
const TESTS: [&str; 5] = [
    "devices::a_filter_on_a_bond_is_native_and_outlives_the_loss_of_a_leg_and_of_the_agent",
    "devices::a_filter_on_a_vlan_is_generic_and_judges_that_vlan_alone",
    "devices::a_filter_on_an_interface_judges_what_its_vlans_carry",
    "filter::every_packet_of_the_table_gets_the_same_verdict_in_the_kernel",
    "filter::the_verifier_needs_less_than_half_of_what_it_may",
];

/// An emulated machine is some ten times slower, and others may use this one meanwhile.
const LIMIT: Duration = Duration::from_secs(600);

/// What cargo and `cargo xtask test` tell the tests.
fn environment() -> Vec<(String, String)> {
    let ours = |name: &str| name.starts_with("AUTH_");
    let nothing_is_skipped = ("CI".to_owned(), "1".to_owned());
    std::env::vars().filter(|(name, _)| ours(name)).chain([nothing_is_skipped]).collect()
}

#[test]
fn the_filter_loads_and_holds_on_an_older_kernel() {
    let guest = match Guest::find() {
        Ok(guest) => guest,
        Err(error) => return privilege::skip("the filter on an older kernel", format!("{error:#}")),
    };
    let options = ["--color", "never", "--exact", "--show-output", "--test-threads", "1"];
    let job = Job {
        arguments: options.iter().chain(&TESTS).map(|word| (*word).to_owned()).collect(),
        environment: environment(),
        folder: std::env::current_dir().unwrap(),
        program: std::env::current_exe().unwrap(),
    };
    let (output, status) = guest.run(&job, LIMIT).unwrap();
    for test in TESTS {
        let passed = format!("test {test} ... ok");
        assert!(output.lines().any(|line| line == passed), "{test} on Linux {}:\n{output}", guest.release);
    }
    assert_eq!(status, 0, "{output}");
    let verified = output.lines().find(|line| line.ends_with(" verified"));
    println!("Linux {}: {}", guest.release, verified.unwrap());
}
