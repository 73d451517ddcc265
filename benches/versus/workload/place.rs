//! Where the processes of a workload run.

/// Where client and server run.
#[derive(Clone, Copy)]
pub enum Place {
    /// Both on one and the same CPU: what is measured is work, not the distance between CPUs.
    OneCore,
    /// Each on a CPU of its own.
    Apart,
    /// Both on the same two CPUs, where the scheduler puts them.
    Anywhere,
}

impl Place {
    /// The CPUs of client and server out of those that there are; none where nothing can be pinned.
    pub fn cpus(self, all: &[usize]) -> Result<[Vec<usize>; 2], String> {
        let (&first, &last) = match (all.first(), all.last()) {
            (Some(first), Some(last)) => (first, last),
            _ => return Ok([Vec::new(), Vec::new()]),
        };
        match self {
            Self::OneCore => Ok([vec![last], vec![last]]),
            Self::Apart | Self::Anywhere if first == last => Err("there is one CPU".to_owned()),
            Self::Apart => Ok([vec![last], vec![first]]),
            Self::Anywhere => Ok([vec![first, last], vec![first, last]]),
        }
    }
}
