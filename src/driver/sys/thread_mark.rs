//! A number for the calling thread.

use super::sync::thread_local;

thread_local! {
    static MARK: u8 = const { 0 };
}

/// Returns a number that tells the calling thread from the others that run now. A later thread may have the number of one
/// that has ended, and one pair of threads in 65,536 shares one.
#[inline(always)]
pub(crate) fn thread_mark() -> u16 {
    let address = MARK.try_with(|mark| std::ptr::from_ref(mark).addr()).unwrap_or(0);
    // Addresses of threads differ by multiples of a large number. The product mixes their bits (Fibonacci hashing).
    ((address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16
}

#[cfg(all(test, not(sockeye_shuttle)))]
mod tests {
    use std::collections::HashSet;
    use std::sync::{Arc, Barrier};
    use std::thread;

    use super::*;

    #[test]
    fn threads_that_run_together_have_different_marks() {
        // 120 pairs: one collision is improbable, and several are a bad hash.
        let all_run = Arc::new(Barrier::new(16));
        let threads: Vec<_> = (0..16)
            .map(|_| {
                let all_run = Arc::clone(&all_run);
                thread::spawn(move || {
                    let first = thread_mark();
                    all_run.wait();
                    assert_eq!(thread_mark(), first);
                    first
                })
            })
            .collect();
        let marks: HashSet<_> = threads.into_iter().map(|it| it.join().unwrap()).collect();
        assert!(marks.len() >= 15, "{marks:?}");
    }
}
