//! Spins before a wait: receives again and again for a short time, if the program asks for that.

use std::hint;
use std::io;
use std::time::{Duration, Instant};

use crate::driver::connection::call_timer::{CallTimer, Elapsed};
use crate::driver::connection::{ConnectionState, Turn};
use crate::driver::sys::wake::Side;
use crate::driver::sys::wire::Wire;
use crate::driver::sys::{self, clock};

/// Number of hints to the processor between two tries.
const HINTS: u32 = 8;
/// Number of tries between two reads of the clock.
const TRIES_PER_TIME: u32 = 8;
/// Number of tries under the model, where time stands still.
const MODEL_TRIES: u32 = 2;

/// The result of a spin.
pub(crate) enum SpinResult {
    /// The socket does not spin now. The thread has the lock, and had it all the time.
    Off,
    /// A call did not find the wire empty. The thread does not have the lock, and has to count the spin.
    Made(io::Result<usize>),
    /// Nothing came, or another thread ended the spin. The thread has the lock again.
    Nothing,
}

impl Turn<'_> {
    /// Makes the call again and again until it need not wait, for as long as the socket may spin.
    ///
    /// Nothing is announced, and no lock is taken: a thread that would wake a waiting one counts on the wire.
    pub(crate) fn spin(
        &mut self,
        wire: &Wire,
        make: &mut dyn FnMut(&Wire, bool) -> io::Result<usize>,
        timer: &mut CallTimer,
    ) -> SpinResult {
        let Some(limit) = self.extras.busy_poll().spin_limit() else { return SpinResult::Off };
        let left = match timer.left(self.call_limit(Side::Read)) {
            Ok(left) => left.unwrap_or(limit),
            Err(Elapsed) => return SpinResult::Off,
        };
        let is_cut = left < limit;
        let limit = left.min(limit);
        let before = wire.spins_ended();
        self.recv.ready = false;
        self.unlock();
        let result = spin_for(limit, before, wire, make);
        match result {
            Some(result) => SpinResult::Made(result),
            None => {
                self.lock();
                // A spin that was cut short says nothing.
                if !is_cut && wire.spins_ended() == before {
                    self.count_spin(false);
                }
                SpinResult::Nothing
            }
        }
    }
}

fn spin_for(
    limit: Duration,
    before: u32,
    wire: &Wire,
    make: &mut dyn FnMut(&Wire, bool) -> io::Result<usize>,
) -> Option<io::Result<usize>> {
    let until = clock::now() + limit;
    let mut tries = 0_u32;
    loop {
        match make(wire, false) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return Some(result),
        }
        (0..HINTS).for_each(|_| hint::spin_loop());
        if wire.spins_ended() != before {
            return None;
        }
        tries += 1;
        let is_over = tries % TRIES_PER_TIME == 0 && clock::now() >= until;
        if is_over || sys::IS_MODEL && tries == MODEL_TRIES {
            return None;
        }
    }
}

impl ConnectionState {
    fn count_spin(&mut self, found: bool) {
        if let Some(busy_poll) = self.extras.busy_poll_mut() {
            busy_poll.on_spin(found);
        }
    }

    /// Counts a spin that ended with a call. Over TLS only the record tells whether it has found data. A signal says
    /// nothing.
    pub(crate) fn count_spin_made(&mut self, result: &io::Result<usize>) {
        let is_tls = self.machine.is_tls();
        match (self.extras.busy_poll_mut(), result) {
            (Some(busy_poll), Ok(1..)) if is_tls => busy_poll.on_record(),
            (Some(busy_poll), Ok(_)) => busy_poll.on_spin(true),
            (Some(_), Err(_)) | (None, _) => {}
        }
    }

    /// Counts a spin that has received a record, once the record is decrypted.
    pub(crate) fn count_decrypted(&mut self) {
        if self.extras.busy_poll().is_on() {
            let has_data = self.machine.has_unread();
            if let Some(busy_poll) = self.extras.busy_poll_mut() {
                busy_poll.on_decrypted(has_data);
            }
        }
    }

    /// Returns the time at which a blocking receive begins, if its length matters.
    #[inline]
    pub(crate) fn blocking_recv_begins(&self) -> Option<Instant> {
        self.extras.busy_poll().is_on().then(clock::now)
    }

    /// Records that a blocking receive brought data.
    #[inline]
    pub(crate) fn count_blocking_recv(&mut self, begun: Option<Instant>) {
        if let (Some(begun), Some(busy_poll)) = (begun, self.extras.busy_poll_mut()) {
            busy_poll.on_waited(clock::now() - begun);
        }
    }
}
