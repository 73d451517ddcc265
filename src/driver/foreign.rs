//! TLS whose configuration may run code that is not this crate's: a verifier, a store of sessions, a key log.
//!
//! It runs without the state lock, and with the session out of the state, so that the socket can be closed, run
//! out of time and be looked at meanwhile. Handshakes run on worker threads, so that calls which wait for them keep
//! their limits; where all of those are busy, a thread that waits makes its handshake itself. What comes after the
//! handshake is taken in by who reads, and by a worker thread while nobody does. Never on the loop.

use std::sync::Arc;

use super::deeds::ActionSet;
use super::shared::{Connection, StateGuard, WorkerTask};
use super::watch::NextStep;
use super::workers::{Work, drop_off_loop};
use super::{Command, LoopHandle, Urgency, clock};
use crate::error::Fault;
use crate::machine::{Input, Loan, RecvBuf, RecvPermit};

impl Connection {
    /// Has the machine take in what was received with a permit, without the lock where that may run foreign code.
    #[inline]
    pub(super) fn ingest<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        permit: RecvPermit,
        recv_buf: &mut RecvBuf,
    ) -> (StateGuard<'a>, Option<ActionSet>) {
        match state.machine.lend(permit) {
            Ok(loan) => self.ingest_on_loan(state, loan, recv_buf),
            Err(permit) => {
                let actions =
                    ActionSet::collect(state.machine.ingest(permit, recv_buf, clock::now));
                (state, actions)
            }
        }
    }

    #[cold]
    fn ingest_on_loan<'a>(
        self: &'a Arc<Self>,
        state: StateGuard<'a>,
        mut loan: Loan,
        recv_buf: &mut RecvBuf,
    ) -> (StateGuard<'a>, Option<ActionSet>) {
        drop(state);
        loan.read_tls(recv_buf);
        self.restore(loan)
    }

    /// Begins a handshake with a session that was lent for that.
    #[cold]
    pub(super) fn begin_handshake<'a>(self: &'a Arc<Self>, mut loan: Loan) -> StateGuard<'a> {
        loan.begin_handshake();
        let (state, actions) = self.restore(loan);
        self.apply(state, actions)
    }

    fn restore<'a>(self: &'a Arc<Self>, loan: Loan) -> (StateGuard<'a>, Option<ActionSet>) {
        let mut state = self.state();
        let (discarded, actions) = state.machine.restore(loan, clock::now());
        let actions = ActionSet::collect(actions);
        // Who writes may wait for it.
        self.notify_waiters(&state);
        if discarded.is_some() {
            drop(state);
            drop_off_loop(discarded);
            state = self.state();
        }
        (state, actions)
    }

    /// Has a worker thread begin the handshake, or take in what is there.
    pub(super) fn defer_to_workers(self: &Arc<Self>) {
        let mut state = self.state();
        if state.worker_task != WorkerTask::None {
            state.worker_task = WorkerTask::Rerun;
            return;
        }
        state.worker_task = WorkerTask::Queued;
        drop(state);
        match LoopHandle::get() {
            Ok(loop_handle) => loop_handle.workers().submit(Work::DriveRecv(Arc::clone(self))),
            Err(fault) => self.on_worker_failed(fault),
        }
    }

    /// There is no worker thread for it.
    pub(super) fn on_worker_failed(self: &Arc<Self>, fault: Fault) {
        let mut state = self.state();
        state.worker_task = WorkerTask::None;
        drop(self.handle_input(state, Input::WireFailed(fault)));
    }

    /// What a worker thread does. Whether there is more to do.
    pub(super) fn run_worker_task(self: &Arc<Self>) -> bool {
        self.state().worker_task = WorkerTask::Queued;
        let next_step = self.ingest_unattended(None);
        let mut state = self.state();
        state.error_probe = false;
        let more = next_step == NextStep::RunAgain || state.worker_task == WorkerTask::Rerun;
        if !more && !planted!(WorkerKeepsSocket) {
            state.worker_task = WorkerTask::None;
        }
        self.notify_waiters(&state);
        drop(state);
        let update_interest = matches!(
            next_step,
            NextStep::UpdateInterest | NextStep::ErrorsOnly | NextStep::RunLater
        );
        if let (true, Ok(loop_handle)) = (update_interest, LoopHandle::get()) {
            // To register it anew reports once more what could not be taken in.
            loop_handle.post(Command::UpdateInterest(Arc::clone(self)), Urgency::Soon);
        }
        more
    }

    /// Whether worker threads make the handshake of a socket: not where that runs no foreign code, nor where all of
    /// them are busy.
    pub(super) fn runs_on_workers(&self, state: &StateGuard<'_>) -> bool {
        state.machine.runs_foreign_code()
            && LoopHandle::get().is_ok_and(|loop_handle| !loop_handle.workers().is_busy())
    }
}
