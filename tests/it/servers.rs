//! Real servers, queried through the library and the examples, and the exit codes of the example `connect`.
//! The servers run on loopback from temporary directories. Each runs in a process group of its own that ends with its
//! test, and exits by itself if the test cannot end it. If a server is not installed, its tests print that and are
//! skipped. Each test creates the certificates of its TLS servers.
#![cfg(unix)]

mod certificates;
mod clients;
#[cfg(feature = "aws-lc-rs")]
mod ech;
mod harness;
mod nginx;
mod openssl;
mod tls;

mod example;
mod examples;
mod https;
mod imap;
mod mqtt;
mod plain;
mod postgres;
mod proxied;
mod proxies;
mod redis;
mod senders;
mod smtp;
mod unix;
mod websocket;
