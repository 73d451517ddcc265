//! The connections that are not open yet, and which of them gives way to waiting clients.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::driver::connection::Connection;

/// The age from which the connection that has been opening the longest is reset, while no further one may be accepted.
const MIN_AGE: Duration = Duration::from_secs(1);

/// The connections that are opening, in order of arrival.
#[derive(Debug)]
pub(super) struct Opening<T = Arc<Connection>>(VecDeque<(Instant, T)>);

impl<T> Opening<T> {
    pub(super) fn new() -> Self {
        Opening(VecDeque::new())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn add(&mut self, connection: T, now: Instant) {
        self.0.push_back((now, connection));
    }

    /// Takes a connection that has opened, or has failed to.
    pub(super) fn take(&mut self, is_it: impl Fn(&T) -> bool) -> Option<T> {
        let index = self.0.iter().position(|(_, connection)| is_it(connection))?;
        self.0.remove(index).map(|(_, connection)| connection)
    }

    /// Takes the connection that gives way to others, once it is old enough.
    pub(super) fn displace(&mut self, now: Instant) -> Option<T> {
        let due = self.displaces_at()?;
        if due <= now { self.0.pop_front().map(|(_, connection)| connection) } else { None }
    }

    /// Returns the time from which a connection gives way to others.
    pub(super) fn displaces_at(&self) -> Option<Instant> {
        self.0.front().map(|(since, _)| *since + MIN_AGE)
    }

    #[cfg(test)]
    pub(super) fn first(&self) -> Option<T>
    where
        T: Clone,
    {
        self.0.front().map(|(_, connection)| connection.clone())
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + use<'_, T> {
        self.0.drain(..).map(|(_, connection)| connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_gives_way_after_a_second() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut opening = Opening::new();
        assert_eq!(opening.displaces_at(), None);
        for (number, millis) in [(1, 0), (2, 300), (3, 600)] {
            opening.add(number, at(millis));
        }
        assert_eq!(opening.displace(at(999)), None);
        assert_eq!(opening.displaces_at(), Some(at(1000)));
        assert_eq!(opening.displace(at(1000)), Some(1));
        assert_eq!(opening.displace(at(1000)), None, "the next one is younger");
        assert_eq!(opening.take(|number| *number == 2), Some(2));
        assert_eq!(opening.take(|number| *number == 2), None);
        assert_eq!(opening.displaces_at(), Some(at(1600)));
        assert_eq!(opening.drain().collect::<Vec<_>>(), [3]);
        assert_eq!(opening.len(), 0);
    }
}
