//! The timers of the event loop.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::driver::sys::sync::mio::Token;

/// The pending timers. Each is keyed by its instant and its owner's token, so that it can be cancelled exactly.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    pending: BTreeSet<(Instant, Token)>,
}

impl Timers {
    pub(crate) fn set(&mut self, at: Instant, token: Token) {
        self.pending.insert((at, token));
    }

    pub(crate) fn cancel(&mut self, at: Instant, token: Token) {
        self.pending.remove(&(at, token));
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.pending.first().map(|&(at, _)| at)
    }

    /// Removes the first timer that is due, and returns its token.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Token> {
        match self.pending.first() {
            Some(&(at, _)) if at <= now => self.pending.pop_first().map(|(_, token)| token),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn timers_become_due_in_order_and_not_early() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        timers.set(at(20), Token(2));
        timers.set(at(10), Token(1));
        timers.set(at(30), Token(3));
        timers.cancel(at(30), Token(3));
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.pop_due(at(9)), None);
        assert_eq!(timers.pop_due(at(25)), Some(Token(1)));
        assert_eq!(timers.pop_due(at(25)), Some(Token(2)));
        assert_eq!(timers.pop_due(at(99)), None);
    }
}
