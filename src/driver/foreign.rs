//! TLS whose configuration may run code that is not this crate's: a verifier, a store of sessions, a key log.
//!
//! It runs without the state lock, and with the session out of the state, so that the socket can be closed, run
//! out of time and be looked at meanwhile. Handshakes run on worker threads, so that calls which wait for them keep
//! their limits; where all of those are busy, a thread that waits makes its handshake itself. What comes after the
//! handshake is taken in by who reads, and by a worker thread while nobody does. Never on the loop.

use std::sync::Arc;

use super::deeds::Deeds;
use super::shared::{Guard, Handed, Shared};
use super::watch::Look;
use super::workers::{Work, discard};
use super::{Driver, Job, Urgency, clock};
use crate::error::Fault;
use crate::machine::{Input, Intake, Loan, RecvPass};

impl Shared {
    /// Has the machine take in what was received with a pass, without the lock where that may run foreign code.
    #[inline]
    pub(super) fn feed<'a>(
        self: &'a Arc<Self>,
        mut core: Guard<'a>,
        pass: RecvPass,
        intake: &mut Intake,
    ) -> (Guard<'a>, Option<Deeds>) {
        match core.machine.lend(pass) {
            Ok(loan) => self.feed_lent(core, loan, intake),
            Err(pass) => {
                let deeds = Deeds::of(core.machine.ingest(pass, intake, clock::now));
                (core, deeds)
            }
        }
    }

    #[cold]
    fn feed_lent<'a>(
        self: &'a Arc<Self>,
        core: Guard<'a>,
        mut loan: Loan,
        intake: &mut Intake,
    ) -> (Guard<'a>, Option<Deeds>) {
        drop(core);
        loan.feed(intake);
        self.restore(loan)
    }

    /// Begins a handshake with a session that was lent for that.
    #[cold]
    pub(super) fn begin<'a>(self: &'a Arc<Self>, mut loan: Loan) -> Guard<'a> {
        loan.begin();
        let (core, deeds) = self.restore(loan);
        self.settle(core, deeds)
    }

    fn restore<'a>(self: &'a Arc<Self>, loan: Loan) -> (Guard<'a>, Option<Deeds>) {
        let mut core = self.lock();
        let (discarded, outputs) = core.machine.restore(loan, clock::now());
        let deeds = Deeds::of(outputs);
        // Who writes may wait for it.
        self.notify(&core);
        if discarded.is_some() {
            drop(core);
            discard(discarded);
            core = self.lock();
        }
        (core, deeds)
    }

    /// Has a worker thread begin the handshake, or take in what is there.
    pub(super) fn leave_to_workers(self: &Arc<Self>) {
        let mut core = self.lock();
        if core.handed != Handed::Nothing {
            core.handed = Handed::Again;
            return;
        }
        core.handed = Handed::Once;
        drop(core);
        match Driver::running() {
            Ok(driver) => driver.workers().submit(Work::Attend(Arc::clone(self))),
            Err(fault) => self.not_worked(fault),
        }
    }

    /// There is no worker thread for it.
    pub(super) fn not_worked(self: &Arc<Self>, fault: Fault) {
        let mut core = self.lock();
        core.handed = Handed::Nothing;
        drop(self.tell(core, Input::WireFailed(fault)));
    }

    /// What a worker thread does. Whether there is more to do.
    pub(super) fn work(self: &Arc<Self>) -> bool {
        self.lock().handed = Handed::Once;
        let look = self.ingest_quietly(None);
        let mut core = self.lock();
        core.looking = false;
        let more = look == Look::Again || core.handed == Handed::Again;
        if !more && !planted!(WorkerKeepsSocket) {
            core.handed = Handed::Nothing;
        }
        self.notify(&core);
        drop(core);
        let recheck = matches!(look, Look::Recheck | Look::FailuresOnly | Look::Later);
        if let (true, Ok(driver)) = (recheck, Driver::running()) {
            // To register it anew reports once more what could not be taken in.
            driver.post(Job::Register(Arc::clone(self)), Urgency::Soon);
        }
        more
    }

    /// Whether worker threads make the handshake of a socket: not where that runs no foreign code, nor where all of
    /// them are busy.
    pub(super) fn is_for_workers(&self, core: &Guard<'_>) -> bool {
        core.machine.runs_foreign_code()
            && Driver::running().is_ok_and(|driver| !driver.workers().is_busy())
    }
}
