//! A generational slab, which holds the event loop's registered objects by token.

use crate::driver::sys::sync::mio::Token;

/// A generational slab: slots are reused, tokens are not. So a late event or timer finds no entry.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    item: Option<T>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Slab { slots: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn insert(&mut self, item: T) -> Token {
        self.insert_with(|_| item)
    }

    /// Inserts an item that needs to know its token.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(Token) -> T) -> Token {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot { generation: 0, item: None });
                u32::try_from(self.slots.len() - 1).expect("there are fewer descriptors than that")
            }
        };
        let slot = &mut self.slots[index as usize];
        let token = encode(index, slot.generation);
        slot.item = Some(make(token));
        token
    }

    pub(crate) fn get(&self, token: Token) -> Option<&T> {
        let (index, generation) = decode(token);
        let slot = self.slots.get(index as usize)?;
        if slot.generation == generation { slot.item.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let (index, generation) = decode(token);
        let slot = self.slots.get_mut(index as usize)?;
        if slot.generation == generation { slot.item.as_mut() } else { None }
    }

    /// Replaces an item and keeps its token. Returns the old item, or `None` if the token is stale.
    pub(crate) fn replace(&mut self, token: Token, item: T) -> Option<T> {
        self.get(token)?;
        let (index, _) = decode(token);
        self.slots[index as usize].item.replace(item)
    }

    pub(crate) fn remove(&mut self, token: Token) -> Option<T> {
        self.get(token)?;
        let (index, generation) = decode(token);
        let slot = &mut self.slots[index as usize];
        slot.generation = next_generation(generation);
        self.free.push(index);
        slot.item.take()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| slot.item.is_none())
    }
}

/// The number of token bits that hold the slot index. The other bits hold the generation. If a token has only 32 bits,
/// 16 would be too few for the descriptors of a process.
const INDEX_BITS: u32 = if usize::BITS == 64 { 32 } else { 20 };

fn encode(index: u32, generation: u32) -> Token {
    Token(index as usize | (generation as usize) << INDEX_BITS)
}

#[expect(clippy::cast_possible_truncation, reason = "each half fits in 32 bits")]
fn decode(token: Token) -> (u32, u32) {
    ((token.0 & ((1 << INDEX_BITS) - 1)) as u32, (token.0 >> INDEX_BITS) as u32)
}

/// Returns the next generation. The highest one is not used, because with the last index it would be the waker's token.
fn next_generation(generation: u32) -> u32 {
    let bits = (usize::BITS - INDEX_BITS).min(u32::BITS);
    let max = u32::MAX >> (u32::BITS - bits);
    (generation + 1) % max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_of_a_removed_item_finds_nothing_after_its_slot_is_reused() {
        let mut slab = Slab::new();
        let old = slab.insert("old");
        assert_eq!(slab.get(old), Some(&"old"));
        assert_eq!(slab.remove(old), Some("old"));
        let new = slab.insert("new");
        assert_ne!(old, new);
        assert_eq!(slab.get(old), None);
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.get(new), Some(&"new"));
    }

    #[test]
    fn generations_wrap_around_before_the_token_of_the_waker() {
        let max = u32::try_from(usize::MAX >> INDEX_BITS).unwrap();
        assert_eq!(next_generation(0), 1);
        assert_eq!(next_generation(max - 2), max - 1);
        assert_eq!(next_generation(max - 1), 0);
        let last = u32::try_from(usize::MAX & ((1 << INDEX_BITS) - 1)).unwrap();
        assert_ne!(encode(last, max - 1), crate::driver::event_loop::WAKER_TOKEN);
        assert_eq!(decode(encode(last, max - 1)), (last, max - 1));
    }
}
