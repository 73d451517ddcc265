//! The same cases with the types of `std`, which shows that they say what `std` does.

use std::net;

/// `TCP_NODELAY` of a new stream.
const NODELAY: bool = false;

#[path = "cases.rs"]
#[expect(clippy::duplicate_mod, reason = "the cases run with both")]
mod cases;
