//! What a handle calls: one file for each operation on a socket.

pub(crate) mod accept;
pub(crate) mod connect;
pub(crate) mod detach;
pub(crate) mod health;
pub(crate) mod lifecycle;
mod peek;
pub(crate) mod poll;
pub(crate) mod read;
mod read_until;
pub(crate) mod relay;
pub(crate) mod retry;
mod settings;
mod shutdown;
mod spin;
pub(crate) mod tls;
pub(crate) mod transmit;
mod try_io;
pub(crate) mod upgrade;
pub(crate) mod wait;
pub(crate) mod write;
