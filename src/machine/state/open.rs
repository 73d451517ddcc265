//! From where both directions work, and from where one does.

use std::time::Instant;

use super::super::flow::Holder;
use super::super::tls::Progress;
use super::super::{
    Deadline, Fault, Input, Output, Outputs, ReadStep, RecvPass, Release, Rules, SendPass, Sent,
    WriteStep,
};
use super::{Closed, Draining, Ender, Fin, Half, Pipe, Reads, State, abort, end, ended, tell_end};

impl Pipe {
    pub(super) fn read(&mut self) -> ReadStep {
        if std::mem::replace(&mut self.receiving, true) {
            return ReadStep::Wait;
        }
        match &self.tls {
            None => ReadStep::Receive(RecvPass(Holder::Reader)),
            Some(tls) if tls.has_unread() => ReadStep::Take(RecvPass(Holder::Reader)),
            Some(_) => ReadStep::Ingest(RecvPass(Holder::Reader)),
        }
    }

    pub(super) fn write(&mut self) -> WriteStep {
        if std::mem::replace(&mut self.sending, true) {
            return WriteStep::Wait;
        }
        match &self.tls {
            None => WriteStep::Send(SendPass(())),
            Some(_) => WriteStep::Seal(SendPass(())),
        }
    }

    pub(super) fn handle(
        mut self,
        input: Input<'_>,
        rules: Rules,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        match input {
            Input::Close => {
                self.close(Release::Linger, Reads::Fail(Fault::Closed), rules, now, outputs)
            }
            Input::Abort | Input::AbortWriting => abort(self, outputs),
            Input::FinishWriting if self.sending => State::Open(self),
            Input::FinishWriting => {
                self.finish(outputs);
                outputs.push(Output::Writable);
                State::HalfClosed(self, Half::ReadOnly)
            }
            Input::CancelReading => {
                outputs.push(Output::Readable);
                // A reader that is still at the wire starts the discarding when it leaves.
                if !self.receiving {
                    outputs.push(Output::Attend);
                }
                // What was taken ahead is dropped, and an end that was behind it shows.
                Half::Discarding.progressed(self, rules, now, outputs)
            }
            Input::StartTls if self.tls.is_none() && !self.sending => {
                // Whoever reads leaves the wire.
                outputs.push(Output::Readable);
                State::Yielding(self)
            }
            Input::WireFailed(fault) => self.failed_with_residue(fault, outputs),
            Input::Answered(_)
            | Input::Resolved(_)
            | Input::Attempted { .. }
            | Input::Deadline
            | Input::StartTls
            | Input::HandOver
            | Input::Unread
            | Input::WireEof => State::Open(self),
        }
    }

    pub(super) fn handle_yielding(
        self,
        input: Input<'_>,
        rules: Rules,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        match input {
            Input::HandOver if !self.receiving => {
                tell_end(outputs);
                State::Closed(Closed::Upgraded)
            }
            Input::Unread => self.unread(outputs),
            Input::WireEof => self.peer_ended_yielding(rules, now, outputs),
            Input::WireFailed(fault) => self.failed_with_residue(fault, outputs),
            Input::Close => {
                self.close(Release::Linger, Reads::Fail(Fault::Closed), rules, now, outputs)
            }
            Input::Abort | Input::AbortWriting => abort(self, outputs),
            Input::Answered(_)
            | Input::Resolved(_)
            | Input::Attempted { .. }
            | Input::Deadline
            | Input::FinishWriting
            | Input::CancelReading
            | Input::StartTls
            | Input::HandOver => State::Yielding(self),
        }
    }

    /// Bytes came that were to be read before the upgrade, or that somebody injected.
    pub(super) fn unread(self, outputs: &mut Outputs<'_>) -> State {
        outputs.push(Output::ShutdownWrite);
        outputs.push(Output::Release(Release::Linger));
        tell_end(outputs);
        let fault = Fault::UnreadPlaintext;
        State::Closed(ended(self, Reads::Fail(fault), Err(fault)))
    }

    /// The peer has ended, and all that it sent was delivered.
    pub(super) fn peer_ended(
        mut self,
        rules: Rules,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        if rules.allow_half_open {
            outputs.push(Output::Readable);
            return State::HalfClosed(self, Half::WriteOnly);
        }
        self.say_goodbye(outputs);
        if self.is_sending() {
            outputs.push(Output::Readable);
            // Its pass stands, but now there is a limit.
            outputs.push(Output::Writable);
            return State::HalfClosed(self, Half::Finishing(rules.close_timeout.after(now)));
        }
        outputs.push(Output::ShutdownWrite);
        let release = self.after_the_end();
        end(self, Ender::Peer, release, outputs)
    }

    /// The peer has ended before an upgrade took place, which so comes to nothing.
    pub(super) fn peer_ended_yielding(
        self,
        rules: Rules,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        if rules.allow_half_open {
            // Who came to write meanwhile waits, and may write after all.
            outputs.push(Output::Writable);
        }
        self.peer_ended(rules, now, outputs)
    }

    /// How to let go of the wire when the peer has ended. Behind its close_notify something may still come,
    /// and be it FIN.
    fn after_the_end(&self) -> Release {
        if self.tls.is_some() { Release::Linger } else { Release::Done }
    }

    pub(super) fn close(
        mut self,
        release: Release,
        reads: Reads,
        rules: Rules,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        self.say_goodbye(outputs);
        if self.is_sending() {
            outputs.push(Output::Readable);
            outputs.push(Output::Writable);
            let deadline = rules.close_timeout.after(now);
            let draining = Draining { pipe: self, deadline, release, reads };
            return State::Closed(Closed::Draining(Box::new(draining)));
        }
        outputs.push(Output::ShutdownWrite);
        outputs.push(Output::Release(release));
        tell_end(outputs);
        State::Closed(ended(self, reads, Ok(())))
    }

    /// Ends the write side, with FIN once all that was sealed is with the system.
    fn finish(&mut self, outputs: &mut Outputs<'_>) {
        self.say_goodbye(outputs);
        if !self.is_sending() || planted!(FinBeforeData) {
            outputs.push(Output::ShutdownWrite);
            self.fin = Fin::Sent;
        }
    }

    /// A write that is being made goes before it.
    pub(super) fn say_goodbye(&mut self, outputs: &mut Outputs<'_>) {
        if let (false, Some(tls)) = (self.sending, &mut self.tls) {
            if tls.close_notify() {
                outputs.push(Output::Transmit);
            }
        }
    }

    /// The wire failed where nothing can be left to read.
    pub(super) fn broken(self, fault: Fault, outputs: &mut Outputs<'_>) -> State {
        outputs.push(Output::Release(Release::Done));
        tell_end(outputs);
        State::Closed(ended(self, Reads::Fail(fault), Err(fault)))
    }

    /// The wire failed, but what came before may still be with the system.
    pub(super) fn failed_with_residue(mut self, fault: Fault, outputs: &mut Outputs<'_>) -> State {
        if let Some(tls) = &mut self.tls {
            tls.stop_sending();
            if !tls.has_unread() && !tls.wants_more() {
                return self.broken(fault, outputs);
            }
        }
        tell_end(outputs);
        let reads = Reads::Residue(Box::new(self));
        State::Closed(Closed::Ended { reads, outcome: Err(fault), remains: None })
    }

    /// TLS failed: the peer is told why, and what was decrypted before can still be read.
    pub(super) fn tls_failed(self, outputs: &mut Outputs<'_>) -> State {
        // Where FIN has gone out nothing may follow it.
        if self.fin == Fin::ToCome {
            outputs.push(Output::Transmit);
            outputs.push(Output::ShutdownWrite);
        }
        outputs.push(Output::Release(Release::Linger));
        tell_end(outputs);
        let fault = Fault::Tls;
        if self.tls.as_ref().is_some_and(|tls| tls.has_unread()) {
            let reads = Reads::Decrypted(Box::new(self));
            return State::Closed(Closed::Ended { reads, outcome: Err(fault), remains: None });
        }
        State::Closed(ended(self, Reads::Fail(fault), Err(fault)))
    }

    /// The wire failed when the peer had ended, which TLS has proved. Where that only kept this side's own
    /// end from it nothing is lost.
    fn broken_after_the_end(self, fault: Fault, outputs: &mut Outputs<'_>) -> State {
        if self.tls.is_none() {
            return self.broken(fault, outputs);
        }
        if !self.owes_data() {
            return end(self, Ender::Peer, Release::Done, outputs);
        }
        outputs.push(Output::Release(Release::Done));
        tell_end(outputs);
        State::Closed(ended(self, Reads::End(Ender::Peer), Err(fault)))
    }

    /// Whether something was accepted that is not with the system.
    pub(super) fn owes_data(&self) -> bool {
        self.sending || self.tls.as_ref().is_some_and(|tls| tls.owes_data())
    }

    /// How far the session is, where nothing of it is unread; a failure shows at once.
    pub(super) fn progress(&self) -> Progress {
        match &self.tls {
            None => Progress::Established,
            Some(tls) => match tls.progress() {
                Progress::Ended | Progress::Truncated if tls.has_unread() => Progress::Established,
                progress => progress,
            },
        }
    }

    /// Whether something is yet to be sent that was accepted.
    pub(super) fn is_sending(&self) -> bool {
        self.sending || self.tls.as_ref().is_some_and(|tls| !tls.is_drained())
    }
}

impl Half {
    pub(super) fn handle(
        self,
        mut pipe: Pipe,
        input: Input<'_>,
        rules: Rules,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        match (self, input) {
            (Half::ReadOnly, Input::Close) if pipe.is_sending() => {
                pipe.close(Release::Linger, Reads::Fail(Fault::Closed), rules, now, outputs)
            }
            (Half::ReadOnly, Input::Close) => {
                outputs.push(Output::Release(Release::Linger));
                tell_end(outputs);
                State::Closed(ended(pipe, Reads::Fail(Fault::Closed), Ok(())))
            }
            (Half::ReadOnly, Input::CancelReading) if pipe.is_sending() => {
                pipe.close(Release::Linger, Reads::End(Ender::This), rules, now, outputs)
            }
            (Half::ReadOnly, Input::CancelReading) => {
                end(pipe, Ender::This, Release::Linger, outputs)
            }
            (Half::ReadOnly, Input::AbortWriting) if pipe.is_sending() => abort(pipe, outputs),
            (Half::ReadOnly, Input::WireFailed(fault)) => pipe.failed_with_residue(fault, outputs),
            (Half::WriteOnly | Half::Finishing(_), Input::Close) => {
                let release = pipe.after_the_end();
                pipe.close(release, Reads::Fail(Fault::Closed), rules, now, outputs)
            }
            (Half::Discarding, Input::Close) => {
                pipe.close(Release::Linger, Reads::Fail(Fault::Closed), rules, now, outputs)
            }
            (Half::WriteOnly | Half::Discarding, Input::FinishWriting) if !pipe.sending => {
                let release = match self {
                    Half::Discarding => Release::Linger,
                    Half::ReadOnly | Half::WriteOnly | Half::Finishing(_) => pipe.after_the_end(),
                };
                pipe.finish(outputs);
                if pipe.is_sending() {
                    let reads = Reads::End(Ender::This);
                    return pipe.close(release, reads, rules, now, outputs);
                }
                end(pipe, Ender::This, release, outputs)
            }
            (Half::Discarding, Input::WireEof) => pipe.peer_ended(rules, now, outputs),
            (Half::WriteOnly | Half::Discarding, Input::WireFailed(fault)) => {
                pipe.broken(fault, outputs)
            }
            (Half::Finishing(_), Input::WireFailed(fault)) => {
                pipe.broken_after_the_end(fault, outputs)
            }
            // Ciphertext can't be called back as a pass can.
            (Half::Finishing(at), Input::Deadline) if at <= now && pipe.tls.is_some() => {
                let fault = Fault::TimedOut(Deadline::Close);
                outputs.push(Output::Release(Release::Reset));
                tell_end(outputs);
                State::Closed(ended(pipe, Reads::End(Ender::Peer), Err(fault)))
            }
            // The write that was to end has not: it gives its pass back and tells what it took.
            (Half::Finishing(at), Input::Deadline) if at <= now => {
                let release = pipe.after_the_end();
                pipe.close(release, Reads::End(Ender::Peer), rules, now, outputs)
            }
            (Half::ReadOnly | Half::WriteOnly | Half::Discarding | Half::Finishing(_), Input::Abort)
            | (Half::WriteOnly | Half::Discarding | Half::Finishing(_), Input::AbortWriting) => {
                abort(pipe, outputs)
            }
            // The write side has ended well.
            (Half::ReadOnly, Input::AbortWriting | Input::FinishWriting)
            // A second time, or while a write is being made.
            | (Half::WriteOnly | Half::Discarding | Half::Finishing(_), Input::FinishWriting)
            | (Half::WriteOnly | Half::Discarding | Half::Finishing(_), Input::CancelReading)
            // Not awaited here.
            | (Half::ReadOnly | Half::WriteOnly | Half::Finishing(_), Input::WireEof)
            | (
                Half::ReadOnly | Half::WriteOnly | Half::Discarding | Half::Finishing(_),
                Input::Answered(_)
                | Input::Resolved(_)
                | Input::Attempted { .. }
                | Input::StartTls
                | Input::HandOver
                | Input::Unread
                | Input::Deadline,
            ) => State::HalfClosed(pipe, self),
        }
    }

    pub(super) fn progressed(
        self,
        mut pipe: Pipe,
        rules: Rules,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> State {
        if let (Half::Discarding, Some(tls)) = (self, &mut pipe.tls) {
            tls.drop_unread();
        }
        match (self, pipe.progress()) {
            (Half::ReadOnly, Progress::Ended) if pipe.is_sending() => {
                let release = pipe.after_the_end();
                pipe.close(release, Reads::End(Ender::This), rules, now, outputs)
            }
            (Half::ReadOnly, Progress::Ended) => {
                let release = pipe.after_the_end();
                end(pipe, Ender::This, release, outputs)
            }
            (Half::Discarding, Progress::Ended) => pipe.peer_ended(rules, now, outputs),
            (Half::ReadOnly | Half::Discarding, Progress::Truncated) => {
                pipe.broken(Fault::Truncated, outputs)
            }
            (Half::ReadOnly | Half::Discarding, Progress::Failed) => pipe.tls_failed(outputs),
            (
                Half::ReadOnly | Half::Discarding,
                Progress::Handshaking | Progress::Established,
            )
            // What comes behind the peer's end is not looked at.
            | (
                Half::WriteOnly | Half::Finishing(_),
                Progress::Handshaking
                | Progress::Established
                | Progress::Ended
                | Progress::Truncated
                | Progress::Failed,
            ) => State::HalfClosed(pipe, self),
        }
    }

    pub(super) fn sent(self, mut pipe: Pipe, what: Sent, outputs: &mut Outputs<'_>) -> State {
        match (self, what) {
            (Half::Discarding | Half::WriteOnly, Sent::Failed(fault)) => {
                pipe.broken(fault, outputs)
            }
            (Half::Finishing(_), Sent::Failed(fault)) => pipe.broken_after_the_end(fault, outputs),
            (Half::ReadOnly, Sent::Failed(fault)) => pipe.failed_with_residue(fault, outputs),
            (Half::Finishing(_), Sent::Nothing) => {
                pipe.finish(outputs);
                if pipe.is_sending() {
                    return State::HalfClosed(pipe, self);
                }
                let release = pipe.after_the_end();
                end(pipe, Ender::Peer, release, outputs)
            }
            // The last parcel of this side was close_notify.
            (Half::ReadOnly, Sent::Nothing) if pipe.fin == Fin::ToCome && !pipe.is_sending() => {
                pipe.fin = Fin::Sent;
                outputs.push(Output::ShutdownWrite);
                outputs.push(Output::Writable);
                State::HalfClosed(pipe, self)
            }
            (Half::ReadOnly | Half::WriteOnly | Half::Discarding, Sent::Nothing) => {
                State::HalfClosed(pipe, self)
            }
        }
    }
}
