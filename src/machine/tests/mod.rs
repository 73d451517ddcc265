//! The machine by itself, without a clock, a thread or a socket.

#![allow(clippy::disallowed_methods, reason = "a life has to begin at some instant")]

mod lives;
mod poison;
mod race;
mod tls;
