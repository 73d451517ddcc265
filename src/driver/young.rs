//! Sockets that the loop will watch once nobody has read for a while.
//!
//! A socket that is closed before that takes itself out again, so that short lives cost the loop
//! nothing.

use std::sync::{PoisonError, Weak};

use super::shared::Shared;
use super::sync::{Mutex, MutexGuard};

/// The most sockets that one look takes out.
const TAKEN_MOST: usize = 1024;

/// A list that once was long gives its memory back when it is empty.
pub(super) const KEPT_CAPACITY: usize = 64;

/// Its lock guards the list; it may be taken under a socket's state lock, and none is taken under it.
#[derive(Debug)]
pub(super) struct Young {
    list: Mutex<List>,
}

#[derive(Debug)]
struct List {
    slots: Vec<Option<Listed>>,
    free: Vec<u32>,
    /// The number of looks.
    looks: u32,
    /// The loop is going to look.
    awaited: bool,
}

#[derive(Debug)]
struct Listed {
    socket: Weak<Shared>,
    turns: u32,
    since: u32,
}

/// Where a socket is in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot(u32);

/// A socket that a look took out.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) socket: Weak<Shared>,
    /// Where it was, by which it knows whether this is how it is listed.
    pub(super) spot: Spot,
    /// The number of reading turns that had ended when it was listed.
    pub(super) turns: u32,
}

impl Young {
    pub(super) const fn new() -> Self {
        let list = List { slots: Vec::new(), free: Vec::new(), looks: 0, awaited: false };
        Young { list: Mutex::new(list) }
    }

    /// Lists a socket; says where, and whether the loop has to be told to look.
    pub(super) fn add(&self, socket: Weak<Shared>, turns: u32) -> (Spot, bool) {
        let mut list = self.lock();
        let tell = !std::mem::replace(&mut list.awaited, true);
        let listed = Some(Listed { socket, turns, since: list.looks });
        let spot = match list.free.pop() {
            Some(spot) => {
                list.slots[spot as usize] = listed;
                spot
            }
            None => {
                list.slots.push(listed);
                // So that to free it takes no memory.
                let List { slots, free, .. } = &mut *list;
                free.reserve(slots.len() - free.len());
                u32::try_from(list.slots.len() - 1).expect("there are fewer descriptors than that")
            }
        };
        (Spot(spot), tell)
    }

    /// Takes a socket out, if it still is where it was.
    pub(super) fn remove(&self, Spot(spot): Spot, socket: &Shared) {
        let mut list = self.lock();
        let slot = list.slots.get_mut(spot as usize);
        let found = slot.and_then(|slot| slot.take_if(|held| held.is(socket)));
        if found.is_some() {
            list.free.push(spot);
        }
    }

    /// Takes out sockets that have been listed for the time between two looks at least; says whether there
    /// are more of them.
    pub(super) fn look(&self, taken: &mut Vec<Taken>) -> bool {
        let mut list = self.lock();
        let looks = list.looks;
        let List { slots, free, .. } = &mut *list;
        for (spot, slot) in (0..).zip(slots) {
            if taken.len() >= TAKEN_MOST {
                return true;
            }
            if let Some(listed) = slot.take_if(|held| looks.wrapping_sub(held.since) > 0) {
                let Listed { socket, turns, .. } = listed;
                taken.push(Taken { socket, spot: Spot(spot), turns });
                free.push(spot);
            }
        }
        list.looks = looks.wrapping_add(1);
        list.awaited = list.slots.len() > list.free.len();
        if !list.awaited {
            list.slots.clear();
            list.free.clear();
            list.slots.shrink_to(KEPT_CAPACITY);
            list.free.shrink_to(KEPT_CAPACITY);
        }
        false
    }

    /// Whether the loop has to look again.
    pub(super) fn is_awaited(&self) -> bool {
        self.lock().awaited
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    fn is(&self, socket: &Shared) -> bool {
        std::ptr::eq(self.socket.as_ptr(), socket)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::address::SocketAddress;
    use crate::driver::{LookupShare, Quota, Roster, Source, Terms};
    use crate::options::SocketOptions;

    #[test]
    fn sockets_are_taken_out_at_the_second_look_or_by_themselves() {
        let sockets: Vec<_> = (0..3).map(|_| socket()).collect();
        let young = Young::new();
        let (first, tell) = young.add(Arc::downgrade(&sockets[0]), 7);
        assert!(tell, "the loop does not know yet");
        let (second, tell) = young.add(Arc::downgrade(&sockets[1]), 8);
        assert!(!tell, "it is going to look");
        assert_eq!(look(&young), ([].into(), false), "nothing was there the time before");
        young.add(Arc::downgrade(&sockets[2]), 9);
        young.remove(second, &sockets[0]);
        young.remove(second, &sockets[1]);
        assert_eq!(look(&young), ([7].into(), false));
        assert!(young.is_awaited());
        young.remove(first, &sockets[0]);
        assert_eq!(look(&young), ([9].into(), false));
        assert!(!young.is_awaited(), "there is none left");
    }

    #[test]
    fn one_look_takes_out_so_many_and_says_that_there_are_more() {
        let socket = socket();
        let young = Young::new();
        for _ in 0..TAKEN_MOST + 1 {
            young.add(Arc::downgrade(&socket), 0);
        }
        assert_eq!(look(&young), ([].into(), false));
        assert_eq!(look(&young), (vec![0; TAKEN_MOST], true));
        assert_eq!(look(&young), ([0].into(), false));
    }

    fn look(young: &Young) -> (Vec<u32>, bool) {
        let mut taken = Vec::new();
        let more = young.look(&mut taken);
        (taken.into_iter().map(|taken| taken.turns).collect(), more)
    }

    /// One that fails at once: nobody listens there.
    fn socket() -> Arc<Shared> {
        let address: SocketAddress = "127.0.0.1:1".parse().unwrap();
        let quota = Quota { most: None, wait: false };
        let roster = Arc::new(Roster::new(quota, LookupShare::new(1)));
        let terms = Terms { resolver: None, egress: None, roster: &roster, scope: None };
        Shared::connect(address, SocketOptions::new(), Source::Dial, terms).unwrap()
    }
}
