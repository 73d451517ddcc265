//! A list of skipped tests, printed once at the exit of the test process, because it would be lost between other lines.

use std::io::{self, Write};
use std::sync::{Mutex, Once, PoisonError};

static SKIPPED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Records that a test cannot run here.
pub fn note(id: &str, reason: &str) {
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| {
        // SAFETY: the handler takes no argument, does not unwind, and exists as long as the process.
        #[allow(unsafe_code)]
        let status = unsafe { libc::atexit(tell_all) };
        assert_eq!(status, 0, "atexit has memory for a handler");
    });
    let line = format!("skipped: {id}: {reason}");
    SKIPPED.lock().unwrap_or_else(PoisonError::into_inner).push(line);
}

/// Prints the list in the order of test names. CI counts these lines.
extern "C" fn tell_all() {
    let Ok(mut skipped) = SKIPPED.lock() else { return };
    skipped.sort();
    let mut text = format!("\n{} tests or parts of tests could not be run here:\n", skipped.len());
    for line in skipped.iter() {
        text.push_str(line);
        text.push('\n');
    }
    // Writes to the descriptor directly, because the harness captures output; an error is ignored.
    let _ = io::stderr().write_all(text.as_bytes());
}
