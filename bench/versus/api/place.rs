//! The CPUs on which the processes of a workload run.

/// The CPUs of client and server.
#[derive(Clone, Copy)]
pub enum CpuPlacement {
    /// The same CPU for both: this measures work, and not the distance between CPUs.
    OneCore,
    /// One CPU each.
    Apart,
    /// The same two CPUs for both, as the scheduler decides.
    Anywhere,
}

impl CpuPlacement {
    /// Selects the CPUs of client and server from `all`; they are empty if processes cannot be pinned.
    pub fn cpus(self, all: &[usize]) -> Result<[Vec<usize>; 2], String> {
        let (&first, &last) = match (all.first(), all.last()) {
            (Some(first), Some(last)) => (first, last),
            _ => return Ok([Vec::new(), Vec::new()]),
        };
        match self {
            Self::OneCore => Ok([vec![last], vec![last]]),
            Self::Apart | Self::Anywhere if first == last => {
                Err("there is only one CPU".to_owned())
            }
            Self::Apart => Ok([vec![last], vec![first]]),
            Self::Anywhere => Ok([vec![first, last], vec![first, last]]),
        }
    }
}
