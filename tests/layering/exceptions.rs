//! The places that break a rule today. A row goes when its file follows the rules.

use super::check::Violation;

/// Files, and how the paths begin that they may name in spite of the rules.
#[rustfmt::skip]
const EXCEPTIONS: [(&str, &str); 29] = [
    ("driver/connect/adopt.rs", "cfg("),
    ("driver/connect/dial.rs", "cfg("),
    ("driver/connect/dial.rs", "crate::driver::event_loop"),
    ("driver/connect/hosts_file.rs", "cfg("),
    ("driver/connection/fairness.rs", "cfg("),
    ("driver/connection/monitor.rs", "cfg("),
    ("driver/connection/poison.rs", "cfg("),
    ("driver/event_loop/handle.rs", "cfg("),
    ("driver/event_loop/handle.rs", "crate::driver::connection"),
    ("driver/event_loop/idle_list.rs", "crate::driver::connection"),
    ("driver/event_loop/linger.rs", "cfg("),
    ("driver/event_loop/mod.rs", "cfg("),
    ("driver/event_loop/mod.rs", "crate::driver::connect"),
    ("driver/event_loop/mod.rs", "crate::driver::connection"),
    ("driver/event_loop/slab.rs", "cfg("),
    ("driver/event_loop/workers.rs", "cfg("),
    ("driver/event_loop/workers.rs", "crate::driver::connection"),
    ("driver/mod.rs", "cfg("),
    ("driver/ops/detach.rs", "cfg("),
    ("driver/ops/mod.rs", "cfg("),
    ("driver/sys/descriptor.rs", "crate::driver::connection"),
    ("driver/sys/shuttle/kernel.rs", "crate::driver::connect"),
    ("driver/sys/shuttle/mod.rs", "crate::driver::event_loop"),
    ("machine/actions.rs", "crate::machine"),
    ("machine/happy_eyeballs.rs", "crate::machine"),
    ("machine/mod.rs", "crate::machine"),
    ("machine/state/closed.rs", "crate::machine"),
    ("machine/state/connecting.rs", "crate::machine"),
    ("machine/state/mod.rs", "crate::machine"),
];

pub(super) fn is_excused(violation: &Violation) -> bool {
    EXCEPTIONS
        .iter()
        .any(|(file, path)| violation.place.file == *file && violation.path.starts_with(path))
}
