//! A generational slab: the event loop's table, the idle list and the registry keep their objects in one.

use std::num::NonZeroU32;

use crate::driver::sys::sync::mio::Token;

/// The number of slots that an empty slab retains.
pub(crate) const RETAINED_CAPACITY: usize = 64;

/// A list of items with stable indices. Slots are reused, tokens are not: a token carries the generation of its item.
/// So a late event or timer finds no item.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    /// The first slot of the list of free slots. They are linked, so that freeing a slot needs no memory.
    first_free: Option<Index>,
    len: usize,
    /// The generation of the next item.
    generation: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    next_free: Option<Index>,
    item: Option<T>,
}

/// The index of a slot, plus one, so that an `Option` of it is as small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Index(NonZeroU32);

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Slab { slots: Vec::new(), first_free: None, len: 0, generation: 0 }
    }

    pub(crate) fn insert(&mut self, item: T) -> Token {
        self.insert_with(|_| item)
    }

    /// Inserts an item that needs to know its token.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(Token) -> T) -> Token {
        let (index, generation) = self.occupy();
        let token = encode(index, generation);
        self.slots[index.position()].item = Some(make(token));
        token
    }

    /// Inserts an item that is only found by its index.
    pub(crate) fn add(&mut self, item: T) -> Index {
        let (index, _) = self.occupy();
        self.slots[index.position()].item = Some(item);
        index
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    // ------------------------------------------------------------- by token

    pub(crate) fn get(&self, token: Token) -> Option<&T> {
        let (index, generation) = decode(token)?;
        let slot = self.slots.get(index.position())?;
        if slot.generation == generation { slot.item.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let (index, generation) = decode(token)?;
        let slot = self.slots.get_mut(index.position())?;
        if slot.generation == generation { slot.item.as_mut() } else { None }
    }

    /// Replaces an item and keeps its token. Returns the old item, or `None` if the token is stale.
    pub(crate) fn replace(&mut self, token: Token, item: T) -> Option<T> {
        self.get_mut(token).map(|held| std::mem::replace(held, item))
    }

    pub(crate) fn remove(&mut self, token: Token) -> Option<T> {
        self.get(token)?;
        let (index, _) = decode(token)?;
        self.take_if(index, |_| true)
    }

    // ------------------------------------------------------------- by index

    pub(crate) fn at(&self, index: Index) -> Option<&T> {
        self.slots.get(index.position())?.item.as_ref()
    }

    pub(crate) fn at_mut(&mut self, index: Index) -> Option<&mut T> {
        self.slots.get_mut(index.position())?.item.as_mut()
    }

    /// Removes the item at an index if `is_wanted` returns `true` for it.
    pub(crate) fn take_if(
        &mut self,
        index: Index,
        is_wanted: impl FnOnce(&T) -> bool,
    ) -> Option<T> {
        let slot = self.slots.get_mut(index.position())?;
        let item = slot.item.take_if(|item| is_wanted(item))?;
        slot.next_free = self.first_free.replace(index);
        self.len -= 1;
        if self.len == 0 {
            self.slots.clear();
            self.slots.shrink_to(RETAINED_CAPACITY);
            self.first_free = None;
        }
        Some(item)
    }

    /// Returns the items and their indices.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Index, &T)> {
        self.indices()
            .zip(&self.slots)
            .filter_map(|(index, slot)| Some((index, slot.item.as_ref()?)))
    }

    /// Returns the indices of all slots, also of the free ones.
    pub(crate) fn indices(&self) -> impl Iterator<Item = Index> + use<T> {
        (0..self.slots.len()).map(Index::at_position)
    }

    /// Takes a free slot, or adds one.
    fn occupy(&mut self) -> (Index, u32) {
        let generation = self.generation;
        self.generation = next_generation(generation);
        self.len += 1;
        let index = match self.first_free {
            Some(index) => {
                let slot = &mut self.slots[index.position()];
                slot.generation = generation;
                self.first_free = slot.next_free.take();
                index
            }
            None => {
                self.slots.push(Slot { generation, next_free: None, item: None });
                Index::at_position(self.slots.len() - 1)
            }
        };
        (index, generation)
    }
}

impl Index {
    fn at_position(position: usize) -> Self {
        let number = u32::try_from(position + 1).ok().and_then(NonZeroU32::new);
        Index(number.expect("there are fewer descriptors than that"))
    }

    fn position(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The number of token bits that hold the slot index. The other bits hold the generation. If a token has only 32 bits,
/// 16 would be too few for the descriptors of a process.
const INDEX_BITS: u32 = if usize::BITS == 64 { 32 } else { 20 };

fn encode(index: Index, generation: u32) -> Token {
    Token(index.0.get() as usize | (generation as usize) << INDEX_BITS)
}

#[expect(clippy::cast_possible_truncation, reason = "each half fits in 32 bits")]
fn decode(token: Token) -> Option<(Index, u32)> {
    let index = NonZeroU32::new((token.0 & ((1 << INDEX_BITS) - 1)) as u32)?;
    Some((Index(index), (token.0 >> INDEX_BITS) as u32))
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
        let other = slab.insert("other");
        // The slab of the second round becomes empty in between.
        for _ in 0..2 {
            let old = slab.insert("old");
            assert_eq!(slab.get(old), Some(&"old"));
            assert_eq!(slab.remove(old), Some("old"));
            let new = slab.insert("new");
            assert_ne!(old, new);
            assert_eq!(decode(old).unwrap().0, decode(new).unwrap().0);
            assert_eq!(slab.get(old), None);
            assert_eq!(slab.remove(old), None);
            assert_eq!(slab.remove(new), Some("new"));
            slab.remove(other);
        }
    }

    /// Half of the bits of a short token would not suffice.
    #[test]
    fn each_of_many_tokens_finds_its_own_item() {
        let mut slab = Slab::new();
        let tokens: Vec<_> = (0..200_000).map(|number| slab.insert(number)).collect();
        for (number, &token) in tokens.iter().enumerate() {
            assert_eq!(slab.get(token), Some(&number));
        }
        let last = *tokens.last().unwrap();
        assert_eq!(slab.remove(last), Some(199_999));
        assert_eq!(slab.get(tokens[0]), Some(&0));
        assert_eq!(slab.get(last), None);
    }

    #[test]
    fn an_empty_slab_retains_few_slots() {
        let mut slab = Slab::new();
        let indices: Vec<_> = (0..1_000).map(|number| slab.add(number)).collect();
        for &index in &indices[1..] {
            assert!(slab.take_if(index, |_| true).is_some());
        }
        assert_eq!(slab.take_if(indices[0], |number| *number == 7), None);
        assert_eq!(slab.iter().collect::<Vec<_>>(), [(indices[0], &0)]);
        assert_eq!(slab.indices().count(), 1_000);
        assert_eq!(slab.take_if(indices[0], |number| *number == 0), Some(0));
        assert!(slab.is_empty());
        assert!(slab.slots.capacity() <= RETAINED_CAPACITY);
        assert_eq!(size_of::<Option<Index>>(), 4);
    }

    #[test]
    fn generations_wrap_around_before_the_token_of_the_waker() {
        let max = u32::try_from(usize::MAX >> INDEX_BITS).unwrap();
        assert_eq!(next_generation(0), 1);
        assert_eq!(next_generation(max - 2), max - 1);
        assert_eq!(next_generation(max - 1), 0);
        let last = Index(NonZeroU32::new(u32::MAX >> (32 - INDEX_BITS)).unwrap());
        assert_ne!(encode(last, max - 1), Token(usize::MAX));
        assert_eq!(decode(encode(last, max - 1)), Some((last, max - 1)));
    }
}
