//! What the benchmarks share: the CPU they run on, the figures of their rounds, and servers that end with them.

use std::io;

/// The figures of all rounds, sorted.
#[derive(Debug)]
pub struct Figures(Vec<f64>);

impl Figures {
    /// Sorts the figures, of which there is at least one.
    pub fn new(mut figures: Vec<f64>) -> Self {
        assert!(!figures.is_empty(), "there is at least one round");
        figures.sort_by(f64::total_cmp);
        Figures(figures)
    }

    /// Divides each figure by that of the reference in the same round.
    pub fn ratios(figures: &[f64], references: &[f64]) -> Self {
        let pairs = figures.iter().zip(references);
        Figures::new(pairs.map(|(figure, reference)| figure / reference).collect())
    }

    pub fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    pub fn lowest(&self) -> f64 {
        self.0[0]
    }

    pub fn highest(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    /// Returns the first and the third quartile.
    pub fn quartiles(&self) -> [f64; 2] {
        let last = self.0.len() - 1;
        [(last + 2) / 4, (3 * last + 2) / 4].map(|index| self.0[index])
    }
}

/// Ends this process with its parent, which holds the other end of the input.
pub fn exit_with_parent() {
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(0);
    });
}

/// Restricts this process, and the processes that it starts, to one CPU.
#[cfg(target_os = "linux")]
pub fn pin() -> io::Result<()> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let all = sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    if let Some(last) = (0..CpuSet::MAX_CPU).rev().find(|&cpu| all.is_set(cpu)) {
        one.set(last);
    }
    Ok(sched_setaffinity(None, &one)?)
}

/// Lets this process run on all CPUs again.
#[cfg(target_os = "linux")]
pub fn unpin() -> io::Result<()> {
    use rustix::thread::{CpuSet, sched_setaffinity};
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
    Ok(sched_setaffinity(None, &all)?)
}

/// Does nothing: this system has no such call.
#[cfg(not(target_os = "linux"))]
pub fn pin() -> io::Result<()> {
    Ok(())
}

/// Does nothing: this system has no such call.
#[cfg(not(target_os = "linux"))]
pub fn unpin() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_sorted() {
        let figures = Figures::new(vec![3.0, 1.0, 5.0, 2.0, 4.0]);
        assert_eq!([figures.lowest(), figures.median(), figures.highest()], [1.0, 3.0, 5.0]);
        assert_eq!(figures.quartiles(), [2.0, 4.0]);
        assert_eq!(Figures::ratios(&[2.0, 9.0, 4.0], &[1.0, 3.0, 4.0]).median(), 2.0);
        assert_eq!(Figures::new(vec![7.0]).quartiles(), [7.0, 7.0]);
    }
}
