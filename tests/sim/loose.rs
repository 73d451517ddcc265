//! Machines that get arbitrary inputs, and TLS records in pieces, from random bytes.

use sockeye::sim;

const INPUTS: u64 = 20_000;
const RECORDS: u64 = 2_000;

#[test]
fn every_rule_of_a_machine_holds_for_arbitrary_inputs() {
    crate::silence_rustls_panics();
    check(INPUTS, |bytes| sim::inputs(bytes).map(drop));
}

#[test]
fn the_pieces_of_a_record_do_not_change_the_result() {
    crate::silence_rustls_panics();
    check(RECORDS, sim::records);
}

#[test]
fn every_rule_of_an_acceptor_holds_for_arbitrary_worlds() {
    check(INPUTS, |bytes| sim::acceptor(bytes).map(drop));
}

#[test]
fn the_pieces_of_a_proxys_answer_do_not_change_the_result() {
    check(INPUTS, sim::preamble);
}

fn check(times: u64, test: impl Fn(&[u8]) -> Result<(), sim::Violation>) {
    for seed in 0..times {
        test(&crate::random_bytes(seed))
            .unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
}
