//! Tests of the machine alone, without a clock, threads or sockets.

#![allow(clippy::disallowed_methods, reason = "tests need a start time")]

mod happy_eyeballs;
mod poison;
mod random_lives;
mod scenarios;
mod tls;
mod unix_attempt;
