//! Catches panics in code that may be the program's.

/// Calls code that may run the program's code, and catches a panic. Returns `None` if it panicked.
pub(crate) fn catch_panic<R>(work: impl FnOnce() -> R) -> Option<R> {
    // Under the model a panic must end the run.
    #[cfg(sockeye_shuttle)]
    return Some(work());
    #[cfg(not(sockeye_shuttle))]
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(result) => Some(result),
        Err(payload) => {
            // Dropping the payload may panic again.
            std::mem::forget(payload);
            None
        }
    }
}

#[cfg(all(test, not(sockeye_shuttle)))]
mod tests {
    use std::panic::panic_any;

    use super::*;

    #[test]
    fn a_panic_is_caught_even_if_its_payload_panics_on_drop() {
        struct PanicsOnDrop;
        impl Drop for PanicsOnDrop {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        assert_eq!(catch_panic(|| 7), Some(7));
        assert!(catch_panic(|| panic_any(PanicsOnDrop)).is_none());
    }
}
