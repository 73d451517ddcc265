//! `sockeye::net` in place of `std::net`: the cases of `std`'s own tests, and each intended difference.

mod differences;
mod here;
#[cfg(unix)]
mod lent;
mod with_std;
