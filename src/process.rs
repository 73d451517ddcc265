//! Detects forks. `PerProcess` holds a global value that a forked child creates again.
//!
//! A forked child has a copy of the parent's memory and of one of its threads. Locks that other threads held at the
//! fork stay locked, and the data under them may be half changed. So a child does not read the guarded data of the
//! parent's values. It leaks these values and makes its own.

use std::io;

use once_cell::race::OnceBox;

/// A mark of the process that created it.
#[cfg(unix)]
#[derive(Clone, Debug)]
pub(crate) struct ForkMark(forkguard::atfork::Guard);

#[cfg(unix)]
impl ForkMark {
    /// Marks this process.
    ///
    /// # Errors
    /// Fails with `OutOfMemory` if the system has no memory for the fork handler.
    pub(crate) fn new() -> io::Result<Self> {
        match forkguard::atfork::Guard::try_new() {
            Ok(guard) => Ok(ForkMark(guard)),
            Err(error) => Err(io::Error::from_raw_os_error(error.code().get())),
        }
    }

    /// Returns whether this process is a descendant, by fork, of the marked one. Costs one load.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        // A guard reports a fork only once, so a copy is asked.
        self.0.clone().detected_fork()
    }
}

/// A mark that does nothing, because this system has no fork.
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

/// A value that each process makes for itself.
///
/// It uses no lock, because a fork may copy a thread at any point in [`get`](Self::get).
pub(crate) struct PerProcess<T>(OnceBox<Node<T>>);

struct Node<T> {
    /// The process that made the value. `None` if forks cannot be detected. No socket can be opened in that case.
    mark: Option<ForkMark>,
    /// The value. `None` only while it is dropped.
    value: Option<T>,
    /// The value of the next process in the line of forks, as seen by that process.
    next: OnceBox<Node<T>>,
}

impl<T> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        PerProcess(OnceBox::new())
    }

    /// Returns this process's value. The first call in a process calls `make` with the parent's value, of which it may
    /// read only parts that no lock guards. If several threads make the first call at once, each may call `make`, and
    /// one result is kept.
    pub(crate) fn get(&self, make: impl Fn(Option<&T>) -> T) -> &T {
        let mut slot = &self.0;
        let mut parents = None;
        loop {
            let node = slot.get_or_init(|| {
                let (mark, value) = (ForkMark::new().ok(), Some(make(parents)));
                Box::new(Node { mark, value, next: OnceBox::new() })
            });
            let value = node.value.as_ref().expect("the value is only taken on drop");
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
            // Another thread of the parent may have been changing the value at the fork.
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
        assert!(std::ptr::eq(first, values.get(|_| unreachable!("the value exists"))));
        assert!(!ForkMark::new().expect("there is memory for the fork handler").is_forked());
    }
}
