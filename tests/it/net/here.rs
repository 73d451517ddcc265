//! The cases with this crate's types.

use sockeye::net;

/// `TCP_NODELAY` of a new stream.
const NODELAY: bool = true;

#[path = "cases.rs"]
mod cases;
