//! `Users`: whether more than one thread has used a socket.

use crate::driver::sys::thread_mark::thread_mark;
use crate::options::BlockingReceive;

/// The threads that have used a socket, as far as it matters: none, one, or several. Decides whether a receive may block,
/// which no other thread can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Users(u16);

impl Users {
    const NONE: Users = Users(0);
    const SEVERAL: Users = Users(1);
    /// The program accepts that other threads wait.
    const IRRELEVANT: Users = Users(2);

    pub(crate) fn new(setting: BlockingReceive) -> Self {
        match setting {
            BlockingReceive::OneThread => Users::NONE,
            BlockingReceive::Always => Users::IRRELEVANT,
            BlockingReceive::Never => Users::SEVERAL,
        }
    }

    /// Records that the calling thread uses the socket.
    #[inline(always)]
    pub(crate) fn add_this_thread(&mut self) {
        let mark = thread_mark().max(Users::IRRELEVANT.0 + 1);
        if self.0 != mark {
            self.add(mark);
        }
    }

    #[cold]
    fn add(&mut self, mark: u16) {
        match *self {
            Users::NONE => *self = Users(mark),
            Users::IRRELEVANT => {}
            _ => *self = Users::SEVERAL,
        }
    }

    /// Returns whether a receive may block.
    #[inline]
    pub(crate) fn allow_blocking_recv(self) -> bool {
        self != Users::SEVERAL
    }
}

impl Default for Users {
    fn default() -> Self {
        Users::new(BlockingReceive::default())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn used_by(setting: BlockingReceive, threads: u32) -> Users {
        let mut users = Users::new(setting);
        for _ in 0..3 {
            users.add_this_thread();
        }
        for _ in 1..threads {
            thread::scope(|scope| scope.spawn(|| users.add_this_thread()).join().unwrap());
        }
        users
    }

    #[test]
    fn a_receive_may_block_while_one_thread_uses_the_socket() {
        use BlockingReceive::{Always, Never, OneThread};

        assert!(Users::default().allow_blocking_recv());
        assert!(used_by(OneThread, 1).allow_blocking_recv());
        assert!(!used_by(OneThread, 2).allow_blocking_recv());
        assert!(!used_by(OneThread, 3).allow_blocking_recv());
        assert!(used_by(Always, 3).allow_blocking_recv());
        assert!(!used_by(Never, 1).allow_blocking_recv());
        assert!(!Users::new(Never).allow_blocking_recv());
    }
}
