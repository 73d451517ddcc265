//! One connection attempt, by dialling or by adopting a stream, and the pools that look names up.

pub(crate) mod adopt;
pub(crate) mod dial;
pub(crate) mod hosts_file;
pub(crate) mod resolver_pool;
pub(crate) mod thread_pool;
