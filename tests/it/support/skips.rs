//! What was skipped, told once, when the test process ends: between the lines of tests nobody sees it.

use std::io::{self, Write};
use std::sync::{Mutex, Once, PoisonError};

static SKIPPED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes that a test can't be run here.
pub fn note(id: &str, reason: &str) {
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| {
        // SAFETY: the handler takes no argument, unwinds nowhere, and is there for as long as the process.
        #[allow(unsafe_code)]
        let status = unsafe { libc::atexit(tell_all) };
        assert_eq!(status, 0, "there is memory for a handler");
    });
    let line = format!("skipped: {id}: {reason}");
    SKIPPED.lock().unwrap_or_else(PoisonError::into_inner).push(line);
}

/// In the order of their names. CI counts these lines.
extern "C" fn tell_all() {
    let Ok(mut skipped) = SKIPPED.lock() else { return };
    skipped.sort();
    let mut text = format!("\n{} tests or parts of tests could not be run here:\n", skipped.len());
    for line in skipped.iter() {
        text.push_str(line);
        text.push('\n');
    }
    // Past the harness, and nothing is to be done where that fails.
    let _ = io::stderr().write_all(text.as_bytes());
}
