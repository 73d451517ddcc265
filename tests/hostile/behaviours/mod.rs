//! The behaviours, by the part of TLS that they misuse.

mod after;
mod alerts;
mod before;
mod certificates;
mod ends;
mod flight;
mod floods;
mod hello;
mod records;
mod retry;
mod tcp;
mod tls12;
mod together;

use crate::behaviour::Behaviour;
use crate::forge::Version;

const BOTH: [Version; 2] = [Version::Tls12, Version::Tls13];

pub fn all() -> Vec<Behaviour> {
    [
        before::all(),
        hello::all(),
        retry::all(),
        flight::all(),
        certificates::all(),
        tls12::all(),
        together::all(),
        records::all(),
        alerts::all(),
        after::all(),
        floods::all(),
        ends::all(),
        tcp::all(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
