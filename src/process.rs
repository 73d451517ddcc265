//! What belongs to one process, and is made again in a forked child.
//!
//! A child has a copy of the parent's memory and of one of its threads. Locks that other threads held at the fork
//! stay locked, and what they guard may be half changed. So a child does not even look at what the parent made:
//! it makes its own. The parent's is leaked there.

use std::io;

use once_cell::race::OnceBox;

/// The process in which the mark was made.
#[cfg(unix)]
#[derive(Clone, Debug)]
pub(crate) struct ForkMark(forkguard::atfork::Guard);

#[cfg(unix)]
impl ForkMark {
    /// Marks this process.
    ///
    /// # Errors
    /// If the system can't take the handler that notices a fork, for want of memory.
    pub(crate) fn new() -> io::Result<Self> {
        match forkguard::atfork::Guard::try_new() {
            Ok(guard) => Ok(ForkMark(guard)),
            Err(error) => Err(io::Error::from_raw_os_error(error.code().get())),
        }
    }

    /// Whether this process was forked since, by the marked one or by a child of it. One load.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        // A guard tells a fork once; its copy keeps this one from having told.
        self.0.clone().detected_fork()
    }
}

/// There is no fork.
#[cfg(not(unix))]
#[derive(Clone, Debug)]
pub(crate) struct ForkMark;

#[cfg(not(unix))]
impl ForkMark {
    #[expect(clippy::unnecessary_wraps, reason = "the same signature as on Unix")]
    pub(crate) fn new() -> io::Result<Self> {
        Ok(ForkMark)
    }

    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        false
    }
}

/// A value for each process.
///
/// It takes no lock: a thread that is copied by a fork may be anywhere in [`get`](Self::get).
pub(crate) struct PerProcess<T>(OnceBox<Node<T>>);

struct Node<T> {
    /// None if a fork can't be noticed. No socket can be opened then.
    mark: Option<ForkMark>,
    /// None only while it is dropped.
    value: Option<T>,
    /// The value of the next process that was forked from this one, in that process.
    next: OnceBox<Node<T>>,
}

impl<T> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        PerProcess(OnceBox::new())
    }

    /// Returns this process's value. The first call in a process makes it, and may see the parent's value: what
    /// of it no lock guards. Threads that make it at once may each call `make`; one result is kept.
    pub(crate) fn get(&self, make: impl Fn(Option<&T>) -> T) -> &T {
        let mut slot = &self.0;
        let mut parents = None;
        loop {
            let node = slot.get_or_init(|| {
                let (mark, value) = (ForkMark::new().ok(), Some(make(parents)));
                Box::new(Node { mark, value, next: OnceBox::new() })
            });
            let value = node.value.as_ref().expect("it is not being dropped");
            if !node.is_forked() {
                return value;
            }
            parents = Some(value);
            slot = &node.next;
        }
    }
}

impl<T> Node<T> {
    fn is_forked(&self) -> bool {
        self.mark.as_ref().is_some_and(ForkMark::is_forked)
    }
}

impl<T> Drop for Node<T> {
    fn drop(&mut self) {
        if self.is_forked() {
            // A thread of the parent may have been changing it.
            std::mem::forget(self.value.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_fork_there_is_one_value() {
        let values = PerProcess::new();
        let first = values.get(|parents| {
            assert!(parents.is_none());
            String::from("made once")
        });
        assert!(std::ptr::eq(first, values.get(|_| unreachable!("there is one"))));
        assert!(!ForkMark::new().expect("there is memory").is_forked());
    }
}
