//! What a source keeps for each of its keys, under its own lock.

use std::sync::{Arc, Weak};

use super::{Notice, PollNumber, PollerInner, Report, WatchId};
use crate::driver::sys::wire::Wire;
use crate::poll::{Interest, Ready};

/// One key of one poller.
#[derive(Debug)]
pub(crate) struct Watch {
    poller: Weak<PollerInner>,
    key: u64,
    generation: u32,
    /// The events that have to be reported: those of the interest while armed, and the end until it was reported.
    awaited: Ready,
    marks: Marks,
    check: Check,
    /// The last byte of the number of the poller's last poll, at the time when the watch was armed or when a thread last read.
    /// What an earlier poll has found may be gone.
    used_in: u8,
}

/// A small word: two sets of events of the wire, and two flags.
#[derive(Clone, Copy, Debug, Default)]
struct Marks(u8);

impl Marks {
    const FOUND: u8 = 0x3;
    const LEVEL: u8 = 0x40;
    const URGENT: u8 = 0x80;

    /// What the last look at the wire found, until another thread uses the wire.
    fn found(self) -> Ready {
        Ready::from_bits(self.0 & Self::FOUND)
    }

    fn set_found(&mut self, found: Ready) {
        self.0 = self.0 & !Self::FOUND | found.bits() & Self::FOUND;
    }

    /// What the kernel reports to the poller itself.
    fn registered(self) -> Ready {
        Ready::from_bits(self.0 >> 4 & Self::FOUND)
    }

    fn set_registered(&mut self, registered: Ready) {
        self.0 = self.0 & !(Self::FOUND << 4) | (registered.bits() & Self::FOUND) << 4;
    }

    /// Whether the kernel has reported urgent data. A receive stops there, and no report follows for what is behind it.
    fn is_urgent(self) -> bool {
        self.0 & Self::URGENT != 0
    }

    fn set_urgent(&mut self) {
        self.0 |= Self::URGENT;
    }

    fn is_level(self) -> bool {
        self.0 & Self::LEVEL != 0
    }

    fn set_level(&mut self, on: bool) {
        self.0 = if on { self.0 | Self::LEVEL } else { self.0 & !Self::LEVEL };
    }
}

/// Whether a thread is checking a watch that it took out of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    No,
    Running,
    /// Something happened in the meantime that the thread may have missed.
    Repeat,
}

/// The keys of a source. Nearly always it is one.
#[derive(Debug)]
pub(crate) enum WatchList {
    One(Watch),
    #[expect(clippy::box_collection, reason = "a list with one watch is no larger than the watch")]
    Many(Box<Vec<Watch>>),
}

/// The pollers whose waiting threads have to be notified, once the lock of the source is released.
#[derive(Debug, Default)]
#[must_use = "a thread waits"]
pub(crate) struct ToNotify(Vec<(Arc<PollerInner>, Notice)>);

/// What becomes of a watch that a poller looks at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// It was removed.
    Gone,
    /// Nothing that it awaits is so. It stays armed.
    Nothing,
    /// The same, but something happened during the check. The caller queues it again.
    Again,
    Report(Report),
}

impl Watch {
    pub(crate) fn new(
        poller: &Arc<PollerInner>,
        key: u64,
        generation: u32,
        interest: Interest,
    ) -> Self {
        let mut marks = Marks::default();
        marks.set_level(interest.is_level());
        Watch {
            poller: Arc::downgrade(poller),
            key,
            generation,
            awaited: interest.events().and(Ready::CLOSED),
            marks,
            check: Check::No,
            used_in: last_byte(poller.polls_begun()),
        }
    }

    pub(crate) fn id(&self) -> WatchId {
        WatchId { key: self.key, generation: self.generation }
    }

    /// Frees the key of a source that is gone.
    pub(crate) fn forget(&self) {
        if let Some(poller) = self.poller.upgrade() {
            poller.forget(self.id());
        }
    }

    /// Returns the events that are still to be found.
    fn open(&self) -> Ready {
        self.awaited.without(self.marks.found())
    }

    /// Ends the reports of the kernel.
    fn deregister(&mut self, wire: Option<&Wire>) {
        if self.marks.registered().is_nothing() {
            return;
        }
        self.marks.set_registered(Ready::NOTHING);
        let poller = self.poller.upgrade();
        let registrations = poller.as_ref().and_then(|poller| poller.registrations());
        if let (Some(registrations), Some(wire)) = (registrations, wire) {
            registrations.deregister(wire);
        }
    }

    fn is(&self, poller: &PollerInner, id: WatchId) -> bool {
        self.generation == id.generation && std::ptr::eq(self.poller.as_ptr(), poller)
    }
}

impl WatchList {
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Watch> {
        match self {
            WatchList::One(watch) => std::slice::from_ref(watch).iter(),
            WatchList::Many(watches) => watches.iter(),
        }
    }

    fn iter_mut(&mut self) -> std::slice::IterMut<'_, Watch> {
        match self {
            WatchList::One(watch) => std::slice::from_mut(watch).iter_mut(),
            WatchList::Many(watches) => watches.iter_mut(),
        }
    }

    fn find(&mut self, poller: &PollerInner, id: WatchId) -> Option<&mut Watch> {
        self.iter_mut().find(|watch| watch.is(poller, id))
    }

    /// Adds a watch to a list, which may be empty.
    pub(crate) fn with(list: Option<WatchList>, watch: Watch) -> Self {
        match list {
            None => WatchList::One(watch),
            Some(WatchList::One(first)) => WatchList::Many(Box::new(vec![first, watch])),
            Some(WatchList::Many(mut watches)) => {
                watches.push(watch);
                WatchList::Many(watches)
            }
        }
    }

    /// Removes a watch. Returns the rest of the list.
    pub(crate) fn without(self, poller: &PollerInner, id: WatchId) -> Option<WatchList> {
        match self {
            WatchList::One(watch) => (!watch.is(poller, id)).then_some(WatchList::One(watch)),
            WatchList::Many(mut watches) => {
                watches.retain(|watch| !watch.is(poller, id));
                match watches.pop() {
                    None => None,
                    Some(last) if watches.is_empty() => Some(WatchList::One(last)),
                    Some(last) => {
                        watches.push(last);
                        Some(WatchList::Many(watches))
                    }
                }
            }
        }
    }

    /// Replaces the interest of a watch and arms it. Returns false if the watch was removed.
    pub(crate) fn modify(&mut self, poller: &PollerInner, id: WatchId, interest: Interest) -> bool {
        let Some(watch) = self.find(poller, id) else { return false };
        watch.marks.set_level(interest.is_level());
        watch.marks.set_found(Ready::NOTHING);
        watch.used_in = last_byte(poller.polls_begun());
        let is_end_due = watch.awaited.has(Ready::CLOSED) || interest.has(Interest::CLOSED);
        let events = interest.events().without(Ready::CLOSED);
        watch.awaited = events.and(Ready::CLOSED.when(is_end_due));
        true
    }

    /// Returns the events that are still to be found.
    pub(crate) fn awaited(&self) -> Ready {
        self.iter().fold(Ready::NOTHING, |all, watch| all.and(watch.open()))
    }

    /// Returns those of these events that the event loop has to report.
    pub(crate) fn awaited_of_loop(&self) -> Ready {
        let of_loop = |watch: &Watch| watch.open().without(watch.marks.registered());
        self.iter().fold(Ready::NOTHING, |all, watch| all.and(of_loop(watch)))
    }

    /// Returns whether a watch waits for the event loop to report one of these events, found or not.
    pub(crate) fn is_armed(&self, events: Ready) -> bool {
        self.iter().any(|watch| watch.awaited.without(watch.marks.registered()).has(events))
    }

    /// Has the kernel report what watches wait for to those pollers that can be told, of these events.
    pub(crate) fn register(&mut self, wire: &mut Arc<Wire>, events: Ready) {
        for index in 0..self.iter().len() {
            let Some(watch) = self.iter().nth(index) else { return };
            let known = watch.marks.registered();
            let wanted = watch.open().only(events).without(known);
            if wanted.is_nothing() {
                continue;
            }
            let Some(poller) = watch.poller.upgrade() else { continue };
            let Some(registrations) = poller.registrations() else { continue };
            // A poller knows a wire once.
            let is_other = |(at, other): (usize, &Watch)| {
                at != index
                    && !other.marks.registered().is_nothing()
                    && std::ptr::eq(other.poller.as_ptr(), Arc::as_ptr(&poller))
            };
            let registered = known.and(wanted);
            if self.iter().enumerate().any(is_other) && !planted!(PollerForgetsSecondKey) {
                continue;
            }
            if registrations.register(wire, watch.key, registered) {
                if let Some(watch) = self.iter_mut().nth(index) {
                    watch.marks.set_registered(registered);
                }
            }
        }
    }

    /// Leaves it to the event loop to report what happens to a wire.
    pub(crate) fn deregister(&mut self, wire: Option<&Wire>) {
        self.iter_mut().for_each(|watch| watch.deregister(wire));
    }

    /// Ends what the kernel reports of one watch.
    pub(crate) fn deregister_one(&mut self, poller: &PollerInner, id: WatchId, wire: &Wire) {
        if let Some(watch) = self.find(poller, id) {
            watch.deregister(Some(wire));
        }
    }

    /// Returns whether the kernel reports more than a watch waits for.
    pub(crate) fn is_overregistered(&mut self, poller: &PollerInner, id: WatchId) -> bool {
        let is_over =
            |watch: &mut Watch| !watch.marks.registered().without(watch.awaited).is_nothing();
        self.find(poller, id).is_some_and(is_over)
    }

    /// Queues the watches for which something is, or may be so. `found` is what a look at the wire found. A thread that
    /// is checking a watch sees it there.
    pub(crate) fn report(&mut self, ready: Ready, found: Ready) -> ToNotify {
        let mut notify = ToNotify::default();
        for watch in self.iter_mut() {
            watch.marks.set_found(watch.marks.found().and(found.only(watch.awaited)));
            if !watch.awaited.has(ready.and(found)) {
                continue;
            }
            if watch.check != Check::No {
                watch.check = Check::Repeat;
                continue;
            }
            let Some(poller) = watch.poller.upgrade() else { continue };
            if let Some(notice) = poller.enqueue(watch.id()) {
                notify.0.push((poller, notice));
            }
        }
        notify
    }

    /// Queues the watches that wait for one of these events, because it may be so, and notifies the threads. Takes no lock
    /// but that of the pollers.
    pub(crate) fn touch(&self, events: Ready) {
        for watch in self.iter().filter(|watch| watch.awaited.has(events)) {
            if let Some(poller) = watch.poller.upgrade() {
                if let Some(notice) = poller.enqueue(watch.id()) {
                    poller.notify(notice);
                }
            }
        }
    }

    /// Forgets what was found on a wire that another thread has used since.
    pub(crate) fn forget_found(&mut self, used: Ready) {
        for watch in self.iter_mut() {
            watch.marks.set_found(watch.marks.found().without(used));
            let is_read = used.has(Ready::READABLE) && watch.awaited.has(Ready::READABLE);
            if let Some(poller) = watch.poller.upgrade().filter(|_| is_read) {
                watch.used_in = last_byte(poller.polls_begun());
            }
        }
    }

    /// Believes the kernel that there is data, unless a thread may have read it since that poll.
    pub(crate) fn believe(&mut self, poller: &PollerInner, id: WatchId, poll: PollNumber) {
        let Some(watch) = self.find(poller, id) else { return };
        if is_newer(poll.get(), watch.used_in, poller.polls_begun())
            || planted!(PollerBelievesOldPoll)
        {
            watch.marks.set_found(watch.marks.found().and(Ready::READABLE));
        }
    }

    /// Records that the kernel has reported urgent data.
    pub(crate) fn note_urgent(&mut self, poller: &PollerInner, id: WatchId) {
        if let Some(watch) = self.find(poller, id) {
            watch.marks.set_urgent();
        }
    }

    /// Returns whether the kernel reports all new data to the poller of a watch, once a receive has drained the wire.
    pub(crate) fn is_told_of_data(&mut self, poller: &PollerInner, id: WatchId) -> bool {
        self.find(poller, id)
            .is_some_and(|it| it.marks.registered().has(Ready::READABLE) && !it.marks.is_urgent())
    }

    /// Begins a check of a watch that the poller has taken out of the queue. Returns false if it was removed, or if another
    /// thread is checking it.
    pub(crate) fn begin_check(&mut self, poller: &PollerInner, id: WatchId) -> bool {
        match self.find(poller, id) {
            Some(watch) if watch.check == Check::No => {
                watch.check = Check::Running;
                true
            }
            Some(watch) => {
                watch.check = Check::Repeat;
                false
            }
            None => false,
        }
    }

    /// Ends a check that a panic has interrupted. Returns whether the watch is still there.
    pub(crate) fn abandon_check(&mut self, poller: &PollerInner, id: WatchId) -> bool {
        let watch = self.find(poller, id);
        watch.map(|watch| watch.check = Check::No).is_some()
    }

    /// Returns the events of this watch for which a look at the wire has to decide, of those in `wire`.
    pub(crate) fn open_events(&mut self, poller: &PollerInner, id: WatchId, wire: Ready) -> Ready {
        self.find(poller, id).map_or(Ready::NOTHING, |watch| watch.open().only(wire))
    }

    /// Ends a check: reports a watch that the poller has taken out of the queue.
    pub(crate) fn check(
        &mut self,
        poller: &PollerInner,
        id: WatchId,
        ready: Ready,
        wire: Ready,
    ) -> Checked {
        let Some(watch) = self.find(poller, id) else { return Checked::Gone };
        let ready = ready.and(watch.marks.found().only(wire));
        watch.marks.set_found(Ready::NOTHING);
        let check = std::mem::replace(&mut watch.check, Check::No);
        let is_level = watch.marks.is_level();
        if !watch.awaited.has(ready) {
            return if check == Check::Repeat { Checked::Again } else { Checked::Nothing };
        }
        let report = Report { ready: ready.only(watch.awaited.and(Ready::CLOSED)), is_level };
        let still = if is_level { watch.awaited } else { watch.awaited.only(Ready::CLOSED) };
        watch.awaited = still.without(ready.only(Ready::CLOSED));
        Checked::Report(report)
    }
}

impl ToNotify {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notifies the threads. The caller holds no lock.
    pub(crate) fn notify(self) {
        self.0.into_iter().for_each(|(poller, notice)| poller.notify(notice));
    }
}

fn last_byte(number: u32) -> u8 {
    number.to_le_bytes()[0]
}

/// Returns whether a poll began after another one, of which only the last byte is known. Both are at most `last`. Says no if
/// that is not certain.
fn is_newer(poll: u32, other: u8, last: u32) -> bool {
    // Few polls have begun since, so that the other one, if it is newer, has a distance of the upper values.
    const MAX_AGE: u32 = 99;
    let distance = u32::from(last_byte(poll).wrapping_sub(other));
    last.wrapping_sub(poll) <= MAX_AGE && (1..256 - MAX_AGE).contains(&distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_is_newer_only_if_it_is() {
        for base in [0, 1000, u32::MAX - 500] {
            for (poll, other) in (0..700).flat_map(|poll| (0..700).map(move |other| (poll, other)))
            {
                let last = poll.max(other);
                let number = |it: u32| base.wrapping_add(it);
                let says = is_newer(number(poll), last_byte(number(other)), number(last));
                assert!(!says || poll > other, "{poll} {other}");
                // The usual case.
                assert!(says || !(other..other + 150).contains(&poll.wrapping_sub(1)));
            }
        }
    }

    #[test]
    fn marks_are_independent() {
        let mut marks = Marks::default();
        marks.set_level(true);
        marks.set_urgent();
        marks.set_found(Ready::READABLE);
        marks.set_registered(Ready::WRITABLE);
        assert!(marks.found() == Ready::READABLE && marks.registered() == Ready::WRITABLE);
        marks.set_found(Ready::NOTHING);
        marks.set_level(false);
        assert!(marks.found().is_nothing() && !marks.is_level() && marks.is_urgent());
        assert!(marks.registered() == Ready::WRITABLE);
    }

    /// With 64-bit pointers the fields leave no room.
    #[test]
    fn a_watch_is_small() {
        assert!(size_of::<Watch>() <= 24);
    }
}
