//! What few sockets have: limits on calls, watches of pollers, and busy polling. A socket without them has only an empty
//! pointer. A socket with one watch, of which there may be ten thousand, has no memory for the rest.

use std::time::{Duration, Instant};

use super::busy_poll::BusyPoll;
use crate::driver::poller::watch::{Watch, WatchList};
use crate::driver::poller::{PollerInner, WatchId};
use crate::driver::sys::wake::Side;

/// The user's limits on the calls of one direction; the earlier one applies.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CallLimit {
    pub(crate) timeout: Option<Duration>,
    pub(crate) deadline: Option<Instant>,
}

/// The limits on reads and on writes.
pub(crate) type CallLimits = [CallLimit; 2];

#[derive(Debug, Default)]
pub(crate) struct Extras(Option<Box<Kind>>);

#[derive(Debug)]
enum Kind {
    Watches(WatchList),
    Limits(Box<CallLimits>),
    Several(Box<Several>),
}

#[derive(Debug, Default)]
struct Several {
    limits: Option<CallLimits>,
    watches: Option<WatchList>,
    busy_poll: BusyPoll,
}

impl Extras {
    /// Returns what a socket has that takes over the connection of this one.
    pub(crate) fn inherited(&self) -> Self {
        let limits = self.limits().copied();
        Extras::from(Several { limits, watches: None, busy_poll: self.busy_poll() })
    }

    fn kind(&self) -> Option<&Kind> {
        self.0.as_deref()
    }

    fn kind_mut(&mut self) -> Option<&mut Kind> {
        self.0.as_deref_mut()
    }

    /// Changes any of it.
    fn change(&mut self, change: impl FnOnce(&mut Several)) {
        let mut several = match self.0.take().map(|kind| *kind) {
            None => Several::default(),
            Some(Kind::Limits(limits)) => Several { limits: Some(*limits), ..Several::default() },
            Some(Kind::Watches(watches)) => {
                Several { watches: Some(watches), ..Several::default() }
            }
            Some(Kind::Several(several)) => *several,
        };
        change(&mut several);
        *self = Extras::from(several);
    }

    // ------------------------------------------------------------- limits

    /// Checks whether the user never set a limit on calls.
    #[inline]
    pub(crate) fn has_no_limits(&self) -> bool {
        self.0.is_none() || self.limits().is_none()
    }

    pub(crate) fn limits(&self) -> Option<&CallLimits> {
        match self.kind()? {
            Kind::Limits(limits) => Some(limits),
            Kind::Several(several) => several.limits.as_ref(),
            Kind::Watches(_) => None,
        }
    }

    pub(crate) fn change_limit(&mut self, side: Side, change: impl FnOnce(&mut CallLimit)) {
        match self.kind_mut() {
            // Without allocations, because it may happen before each call.
            Some(Kind::Limits(limits)) => change(&mut limits[side as usize]),
            _ => self.change(|several| {
                change(&mut several.limits.get_or_insert_default()[side as usize]);
            }),
        }
    }

    // ------------------------------------------------------------- watches

    #[inline]
    pub(crate) fn has_watches(&self) -> bool {
        self.0.is_some() && self.watches().is_some()
    }

    pub(crate) fn watches(&self) -> Option<&WatchList> {
        match self.kind()? {
            Kind::Watches(watches) => Some(watches),
            Kind::Several(several) => several.watches.as_ref(),
            Kind::Limits(_) => None,
        }
    }

    pub(crate) fn watches_mut(&mut self) -> Option<&mut WatchList> {
        match self.kind_mut()? {
            Kind::Watches(watches) => Some(watches),
            Kind::Several(several) => several.watches.as_mut(),
            Kind::Limits(_) => None,
        }
    }

    /// Takes all watches out.
    pub(crate) fn take_watches(&mut self) -> Option<WatchList> {
        let mut watches = None;
        if self.has_watches() {
            self.change(|several| watches = several.watches.take());
        }
        watches
    }

    pub(crate) fn add_watch(&mut self, watch: Watch) {
        self.change(|several| {
            several.watches = Some(WatchList::with(several.watches.take(), watch));
        });
    }

    pub(crate) fn remove_watch(&mut self, poller: &PollerInner, id: WatchId) {
        if self.has_watches() {
            self.change(|several| {
                let watches = several.watches.take();
                several.watches = watches.and_then(|watches| watches.without(poller, id));
            });
        }
    }

    // ------------------------------------------------------------- busy polling

    #[inline]
    pub(crate) fn busy_poll(&self) -> BusyPoll {
        match self.kind() {
            Some(Kind::Several(several)) => several.busy_poll,
            Some(Kind::Limits(_) | Kind::Watches(_)) | None => BusyPoll::default(),
        }
    }

    /// Returns the state of busy polling if it is on.
    pub(crate) fn busy_poll_mut(&mut self) -> Option<&mut BusyPoll> {
        match self.kind_mut()? {
            Kind::Several(several) => Some(&mut several.busy_poll).filter(|it| it.is_on()),
            Kind::Limits(_) | Kind::Watches(_) => None,
        }
    }

    pub(crate) fn set_busy_poll(&mut self, limit: Option<Duration>) {
        if limit.is_some() || self.busy_poll().is_on() {
            self.change(|several| several.busy_poll = BusyPoll::new(limit));
        }
    }
}

impl From<Several> for Extras {
    fn from(several: Several) -> Self {
        let kind = match several {
            Several { busy_poll, .. } if busy_poll.is_on() => Kind::Several(Box::new(several)),
            Several { limits: None, watches: None, .. } => return Extras(None),
            Several { limits: Some(limits), watches: None, .. } => Kind::Limits(Box::new(limits)),
            Several { limits: None, watches: Some(watches), .. } => Kind::Watches(watches),
            several => Kind::Several(Box::new(several)),
        };
        Extras(Some(Box::new(kind)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::Interest;

    #[test]
    fn everything_comes_and_goes_without_the_rest() {
        let second = Some(Duration::from_secs(1));
        let poller = PollerInner::new().unwrap();
        let id = |generation| WatchId { key: 7, generation };
        let watch = |generation| Watch::new(&poller, 7, generation, Interest::READABLE);
        let count = |extras: &Extras| extras.watches().map_or(0, |watches| watches.iter().count());
        let mut extras = Extras::default();
        assert!(extras.has_no_limits() && !extras.has_watches());
        extras.add_watch(watch(0));
        assert!(matches!(extras.kind(), Some(Kind::Watches(_))) && extras.has_no_limits());
        extras.change_limit(Side::Write, |limit| limit.timeout = second);
        extras.set_busy_poll(second);
        extras.add_watch(watch(1));
        assert!(!extras.has_no_limits() && extras.has_watches() && extras.busy_poll().is_on());
        assert_eq!(count(&extras), 2);
        extras.remove_watch(&poller, id(5));
        extras.remove_watch(&poller, id(0));
        assert_eq!(count(&extras), 1);
        let inherited = extras.inherited();
        assert!(!inherited.has_watches() && !inherited.has_no_limits());
        assert!(inherited.busy_poll().is_on());
        extras.remove_watch(&poller, id(1));
        assert!(!extras.has_watches());
        extras.set_busy_poll(None);
        assert!(matches!(extras.kind(), Some(Kind::Limits(_))));
        let limits = extras.limits().expect("they stay");
        assert_eq!((limits[0].timeout, limits[1].timeout), (None, second));
        extras.add_watch(watch(2));
        extras.change_limit(Side::Write, |limit| assert_eq!(limit.timeout, second));
        assert!(extras.take_watches().is_some());
        assert!(matches!(extras.kind(), Some(Kind::Limits(_))));
    }

    #[test]
    fn a_watch_is_small() {
        assert!(size_of::<Kind>() <= 24, "{}", size_of::<Kind>());
    }
}
