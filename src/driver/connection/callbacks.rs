//! Runs TLS sessions that call the program's code, such as a certificate verifier, a session store or a key log.
//!
//! This code runs without the state lock, and the session is lent out of the state. So the socket can be closed,
//! queried and time out during that code. Handshakes run on worker threads, so that calls that wait for them keep their
//! limits. If all workers are busy, a waiting caller drives its own handshake. After the handshake the reader ingests
//! data, or a worker thread if there is no reader. The event loop never does.

use std::sync::Arc;

use super::{Connection, StateGuard, WorkerTask};
use crate::driver::event_loop::callback_threads::{CallbackTask, Work};
use crate::driver::event_loop::handle::drop_off_loop;
use crate::driver::event_loop::source::NextStep;
use crate::driver::event_loop::{Command, LoopHandle, Urgency};
use crate::driver::sys::clock;
use crate::error::Fault;
use crate::machine::{Actions, Input, Loan, RecvBuf, RecvPermit};
use crate::poll::Ready;

impl Connection {
    /// Lets the machine ingest received data. If that may run foreign code, it runs without the lock.
    #[inline]
    pub(crate) fn ingest<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a>,
        permit: RecvPermit,
        recv_buf: &mut RecvBuf,
    ) -> (StateGuard<'a>, Actions) {
        match state.machine.lend(permit) {
            Ok(loan) => self.ingest_on_loan(state, loan, recv_buf),
            Err(permit) => {
                let actions = state.machine.ingest(permit, recv_buf, clock::now);
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
    ) -> (StateGuard<'a>, Actions) {
        drop(state);
        loan.read_tls(recv_buf);
        self.restore(loan)
    }

    /// Begins a handshake with the session that was lent for it.
    #[cold]
    pub(crate) fn begin_handshake<'a>(self: &'a Arc<Self>, mut loan: Loan) -> StateGuard<'a> {
        loan.begin_handshake();
        let (state, actions) = self.restore(loan);
        self.apply(state, actions)
    }

    fn restore<'a>(self: &'a Arc<Self>, loan: Loan) -> (StateGuard<'a>, Actions) {
        let mut state = self.state();
        let (discarded, actions) = state.machine.restore(loan, clock::now());
        // A writer may be waiting for the session.
        self.notify_waiters(&state);
        if discarded.is_some() {
            drop(state);
            drop_off_loop(discarded);
            state = self.state();
        }
        // A poller may be waiting for it too.
        (self.report(state, Ready::NOTHING), actions)
    }

    /// Lets a worker thread begin the handshake or ingest received data.
    pub(crate) fn defer_to_workers(self: &Arc<Self>) {
        let mut state = self.state();
        if state.worker_task != WorkerTask::None {
            state.worker_task = WorkerTask::Rerun;
            return;
        }
        state.worker_task = WorkerTask::Queued;
        drop(state);
        match LoopHandle::get() {
            Ok(loop_handle) => {
                let task = Arc::clone(self) as Arc<dyn CallbackTask>;
                loop_handle.callback_threads().submit(Work::Task(task));
            }
            Err(fault) => self.fail_worker_task(fault),
        }
    }

    fn fail_worker_task(self: &Arc<Self>, fault: Fault) {
        let mut state = self.state();
        state.worker_task = WorkerTask::None;
        drop(self.handle_input(state, Input::WireFailed(fault)));
    }

    /// Starts the handshake or ingests received data. Returns whether there is more to do.
    fn run_worker_task(self: &Arc<Self>) -> bool {
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
            // Registering again makes the kernel report the data that was not ingested.
            loop_handle.post(Command::UpdateInterest(self.loop_source()), Urgency::Soon);
        }
        more
    }

    /// Returns whether a worker thread drives the handshake: if it runs foreign code and a worker is available.
    pub(crate) fn runs_on_workers(&self, state: &StateGuard<'_>) -> bool {
        state.machine.runs_foreign_code()
            && LoopHandle::get().is_ok_and(|loop_handle| !loop_handle.callback_threads().is_busy())
    }
}

impl CallbackTask for Connection {
    fn run(self: Arc<Self>) -> bool {
        self.fail_on_panic(|| self.run_worker_task())
    }

    fn on_spawn_failed(self: Arc<Self>, fault: Fault) {
        self.fail_worker_task(fault);
    }
}
