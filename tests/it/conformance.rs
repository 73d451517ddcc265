//! The scenarios of `conformance/scenarios.json`, one test each. A scenario records the observed behaviour of the
//! Workers runtime and the expected behaviour of this crate.
//! A test has the name of its scenario: `half-open.f-reading` is `half_open::f_reading` here.
//! [`every_scenario_has_its_test_and_every_test_its_scenario`] checks that the file and the tests match.

mod address_object;
mod address_string;
mod certificates;
mod close;
mod common;
mod half_open;
mod names;
mod opened;
mod options;
mod reset;
mod secured;
mod site;
mod starttls;
mod tls_on;
mod unix;
mod volume;
mod writer_reader;

use std::collections::BTreeSet;

/// The scenarios, and the files that test them; a group may span several files.
const SCENARIOS: &str = include_str!("conformance/scenarios.json");
const TESTS: [(&str, &str); 13] = [
    ("address_object", include_str!("conformance/address_object.rs")),
    ("address_string", include_str!("conformance/address_string.rs")),
    ("close", include_str!("conformance/close.rs")),
    ("half_open", include_str!("conformance/half_open.rs")),
    ("opened", include_str!("conformance/opened.rs")),
    ("options", include_str!("conformance/options.rs")),
    ("reset", include_str!("conformance/reset.rs")),
    ("starttls", include_str!("conformance/starttls.rs")),
    ("starttls", include_str!("conformance/starttls/refused.rs")),
    ("tls_on", include_str!("conformance/tls_on.rs")),
    ("tls_on", include_str!("conformance/tls_on/refused.rs")),
    ("volume", include_str!("conformance/volume.rs")),
    ("writer_reader", include_str!("conformance/writer_reader.rs")),
];

#[test]
fn every_scenario_has_its_test_and_every_test_its_scenario() {
    // Each scenario has its id on a line of its own.
    let ids: Vec<&str> = SCENARIOS
        .lines()
        .filter_map(|line| line.trim().strip_prefix("\"id\": \"")?.strip_suffix("\","))
        .collect();
    let expected: BTreeSet<String> =
        ids.iter().map(|id| id.replace('.', "::").replace('-', "_")).collect();
    assert_eq!(expected.len(), ids.len(), "ids are unique");
    let tested: BTreeSet<String> =
        TESTS.iter().flat_map(|(group, text)| tests(group, text)).collect();
    let missing: Vec<_> = expected.difference(&tested).collect();
    let unknown: Vec<_> = tested.difference(&expected).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing {missing:#?}, unknown {unknown:#?}");
}

/// Returns the names of the tests in a source text: each function directly below a test attribute.
fn tests<'a>(group: &'a str, text: &'a str) -> impl Iterator<Item = String> + 'a {
    text.split("#[test]\nfn ").skip(1).map(move |rest| {
        let (name, _) = rest.split_once('(').expect("a function has parameters");
        format!("{group}::{name}")
    })
}
