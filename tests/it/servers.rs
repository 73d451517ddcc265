//! Real servers, asked through the library and through the example `connect`; and what the example's
//! exit codes tell.
//!
//! The servers run on loopback from throwaway directories, each in a process group of its own that is
//! killed with its test and ends by itself where the test can't do that. Where a server isn't
//! installed, its tests say so and are skipped.
#![cfg(unix)]

mod harness;

mod example;
mod plain;
