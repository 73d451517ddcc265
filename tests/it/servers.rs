//! Real servers, asked through the library and through the examples; and what the exit codes of the
//! example `connect` tell.
//!
//! The servers run on loopback from throwaway directories, each in a process group of its own that is
//! ended with its test and ends by itself where the test can't do that. Where a server isn't
//! installed, its tests say so and are skipped. TLS servers show certificates that were made for the
//! one test.
#![cfg(unix)]

mod certificates;
mod harness;
mod nginx;
mod tls;

mod example;
mod examples;
mod https;
mod imap;
mod mqtt;
mod plain;
mod postgres;
mod redis;
mod smtp;
mod websocket;
