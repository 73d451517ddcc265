//! The terms of a comparison: workloads, their figures, and the contenders that do them.

mod contender;
mod figure;
mod place;
mod plan;
mod service;
mod stream;
mod workload;

pub use self::contender::{Contender, Role};
pub use self::figure::{Aim, Better, Figure};
pub use self::place::CpuPlacement;
pub use self::plan::{Effort, Mode};
pub use self::service::{SecureService, Service};
pub use self::stream::{BenchStream, SharedStream};
pub use self::workload::{Client, Slice, Task, Workload};
