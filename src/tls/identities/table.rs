//! The table of identities. A handshake reads it without waiting for a change, and a forked child always has it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::super::identity::Identity;

/// The number of parts of a table: one for each value of a byte of the name's hash. A change copies one of them.
const PARTS: usize = 256;

/// The identities, the default one and those with names.
#[derive(Clone)]
pub(super) struct Table {
    pub(super) default: Option<Identity>,
    /// By name in lower case; also `*.example.com`.
    parts: Vec<Arc<BTreeMap<Arc<str>, Identity>>>,
}

impl Default for Table {
    fn default() -> Self {
        Table { default: None, parts: vec![Arc::default(); PARTS] }
    }
}

impl Table {
    pub(super) fn get(&self, name: &str) -> Option<&Identity> {
        self.parts[part_of(name)].get(name)
    }

    pub(super) fn set_default(&mut self, identity: Identity) -> bool {
        self.default = Some(identity);
        true
    }

    /// Inserts or replaces an identity.
    pub(super) fn insert(&mut self, name: &str, identity: Identity) -> bool {
        Arc::make_mut(&mut self.parts[part_of(name)]).insert(name.into(), identity);
        true
    }

    /// Returns whether there was an identity.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        Arc::make_mut(&mut self.parts[part_of(name)]).remove(name).is_some()
    }

    /// Returns the names and identities in order.
    pub(super) fn named(&self) -> BTreeMap<&str, &Identity> {
        self.parts.iter().flat_map(|part| part.iter()).map(|(name, it)| (&**name, it)).collect()
    }
}

fn part_of(name: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let [first, ..] = hasher.finish().to_ne_bytes();
    usize::from(first)
}

/// The current table.
///
/// There are two slots. A change fills the one that is not active, and then activates it. So no thread ever writes the
/// active slot. A reader waits only if the table changes twice while it takes its reference. At a fork at most other
/// readers hold the lock of the active slot, so the child can read it too.
pub(super) struct Current {
    slots: [RwLock<Arc<Table>>; 2],
    active: AtomicUsize,
    /// Held by a change.
    changing: Mutex<()>,
}

impl Current {
    pub(super) fn new(table: Arc<Table>) -> Self {
        Current {
            slots: [RwLock::new(Arc::clone(&table)), RwLock::new(table)],
            active: AtomicUsize::new(0),
            changing: Mutex::new(()),
        }
    }

    /// Copies the table of the parent process, whose threads may hold the locks for ever.
    pub(super) fn of_parent(parent: &Current) -> Self {
        let active = &parent.slots[parent.active.load(Ordering::Acquire)];
        let table = active.try_read().map(|table| Arc::clone(&table));
        Current::new(table.unwrap_or_default())
    }

    pub(super) fn get(&self) -> Arc<Table> {
        let active = &self.slots[self.active.load(Ordering::Acquire)];
        Arc::clone(&active.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the table by a changed copy, unless `change` returns that nothing has changed. Returns whether it has.
    pub(super) fn change(&self, change: impl FnOnce(&mut Table) -> bool) -> bool {
        let changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&self.get());
        if !change(&mut table) {
            return false;
        }
        let table = Arc::new(table);
        let active = self.active.load(Ordering::Relaxed);
        let old = self.replace(1 - active, &table);
        self.active.store(1 - active, Ordering::Release);
        let same = self.replace(active, &table);
        drop(changing);
        // These may be the last references to keys.
        drop((old, same));
        true
    }

    fn replace(&self, slot: usize, table: &Arc<Table>) -> Arc<Table> {
        let mut slot = self.slots[slot].write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *slot, Arc::clone(table))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::super::super::testing::{Authority, crypto};
    use super::*;

    fn identity() -> Identity {
        crypto();
        let leaf = Authority::new("table").leaf(["a.test"]);
        Identity::from_pem(leaf.pem(), leaf.key_pem()).expect("it is valid")
    }

    #[test]
    fn reads_see_the_last_change_and_wait_for_none() {
        let current = Current::new(Arc::default());
        let one = identity();
        current.change(|table| {
            for number in 0..20_000 {
                table.insert(&format!("{number}.test"), one.clone());
            }
            true
        });
        let stop = AtomicBool::new(false);
        let mut waits = Vec::new();
        thread::scope(|scope| {
            let changing = scope.spawn(|| {
                let (begun, mut changes) = (Instant::now(), 0);
                while !stop.load(Ordering::Relaxed) {
                    current.change(|table| table.insert("b.test", one.clone()));
                    current.change(|table| table.remove("b.test"));
                    changes += 2;
                }
                begun.elapsed() / changes
            });
            for _ in 0..10_000 {
                let begun = Instant::now();
                let table = current.get();
                waits.push(begun.elapsed());
                assert!(table.get("7.test").is_some());
            }
            stop.store(true, Ordering::Relaxed);
            // A change copies the table, and a read that waited for one would take as long. The scheduler delays a few
            // reads.
            let change = changing.join().expect("it does not panic");
            waits.sort();
            let usual: Duration = waits[waits.len() / 2];
            assert!(usual * 10 < change, "{usual:?} beside changes of {change:?}");
        });
        assert!(current.get().get("b.test").is_none());
        assert_eq!(current.get().named().len(), 20_000);
    }

    #[test]
    fn a_change_of_nothing_replaces_nothing() {
        let current = Current::new(Arc::default());
        let before = current.get();
        assert!(!current.change(|table| table.remove("a.test")));
        assert!(Arc::ptr_eq(&before, &current.get()));
    }

    #[test]
    fn a_child_reads_the_table_while_threads_of_its_parent_read_and_change_it() {
        let current = Current::new(Arc::default());
        let one = identity();
        current.change(|table| table.insert("a.test", one.clone()));
        // As another thread has it that is taking its reference.
        let reading = current.slots[current.active.load(Ordering::Relaxed)].read().unwrap();
        // As a thread has it that changes the table.
        let changing = current.changing.lock().unwrap();
        let writing = current.slots[1 - current.active.load(Ordering::Relaxed)].write().unwrap();
        let child = Current::of_parent(&current);
        assert!(child.get().get("a.test").is_some());
        child.change(|table| table.insert("b.test", one.clone()));
        assert!(child.get().get("b.test").is_some());
        drop((reading, changing, writing));
    }
}
