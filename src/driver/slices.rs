//! The buffers of a caller, one or many, and the part of them that one system call takes.

use std::borrow::Cow;
use std::io::{IoSlice, IoSliceMut};
use std::ops::{Deref, Range};

/// A caller's buffer to receive into.
pub(crate) enum RecvBufs<'a, 'b> {
    One(&'a mut [u8]),
    Many(&'a mut [IoSliceMut<'b>]),
}

impl RecvBufs<'_, '_> {
    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            RecvBufs::One(buf) => buf.len(),
            RecvBufs::Many(bufs) => total_len(bufs),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first part that has any room.
    pub(super) fn first_nonempty(&mut self) -> &mut [u8] {
        match self {
            RecvBufs::One(buf) => buf,
            RecvBufs::Many(bufs) => match bufs.iter_mut().find(|buf| !buf.is_empty()) {
                Some(buf) => buf,
                None => &mut [],
            },
        }
    }
}

/// A caller's bytes to send.
pub(crate) enum SendBufs<'a, 'b> {
    One(&'a [u8]),
    Many(&'a [IoSlice<'b>]),
}

impl SendBufs<'_, '_> {
    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            SendBufs::One(buf) => buf.len(),
            SendBufs::Many(bufs) => total_len(bufs),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in one piece, at most about as many as are sealed at a time.
    pub(super) fn coalesce(&self) -> Cow<'_, [u8]> {
        match self {
            SendBufs::One(buf) => Cow::Borrowed(buf),
            SendBufs::Many(bufs) => {
                let mut gathered = Vec::new();
                for buf in *bufs {
                    let room = MAX_COALESCED - gathered.len();
                    gathered.extend_from_slice(&buf[..buf.len().min(room)]);
                    if gathered.len() == MAX_COALESCED {
                        break;
                    }
                }
                Cow::Owned(gathered)
            }
        }
    }
}

/// Not inlined: where there is one buffer, as mostly, it would be in the way. The same memory may be sent
/// many times in one call, so that the sum may be more than there is.
#[inline(never)]
fn total_len<B: Deref<Target = [u8]>>(bufs: &[B]) -> usize {
    bufs.iter().fold(0, |sum, buf| sum.saturating_add(buf.len()))
}

/// The most that small buffers are put together to.
const MAX_COALESCED: usize = 64 * 1024;

/// The most slices of one call: IOV_MAX of Linux, Apple's systems and the BSDs.
const MAX_SLICES: usize = 1024;

/// The most bytes of one call. Linux stops there by itself; others fail a call of more than `i32::MAX`.
pub(super) const MAX_BYTES: usize = 0x7fff_f000;

/// The slices that one call takes: those behind leading empty ones, as many as it may have. There is one at
/// least where there is any byte, and only the first may be longer than [`MAX_BYTES`].
pub(super) fn slices_for_call<B: Deref<Target = [u8]>>(bufs: &[B]) -> Range<usize> {
    let first = bufs.iter().position(|buf| !buf.is_empty()).unwrap_or(bufs.len());
    let mut bytes = 0_usize;
    let fits = |buf: &&B| {
        bytes = bytes.saturating_add(buf.len());
        bytes <= MAX_BYTES
    };
    let count = bufs[first..].iter().take(MAX_SLICES).take_while(fits).count();
    first..first + count.max(usize::from(first < bufs.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_empty_slices_take_no_place_and_no_more_are_taken_than_a_call_may_have() {
        let one = [7_u8];
        let check = |empty: usize, full: usize, expected: Range<usize>| {
            let mut bufs = vec![IoSlice::new(&[]); empty];
            bufs.extend(std::iter::repeat_n(IoSlice::new(&one), full));
            assert_eq!(slices_for_call(&bufs), expected, "{empty} empty, {full} full");
        };
        check(0, 0, 0..0);
        check(3, 0, 3..3);
        check(0, 1, 0..1);
        check(2_000, 1, 2_000..2_001);
        check(0, MAX_SLICES, 0..MAX_SLICES);
        check(0, MAX_SLICES + 1, 0..MAX_SLICES);
        check(5_000, 5_000, 5_000..5_000 + MAX_SLICES);
    }

    #[test]
    fn no_more_bytes_are_taken_than_a_call_may_have() {
        // Never written to, and so never there.
        let large = vec![0_u8; 1 << 30];
        let bufs = vec![IoSlice::new(&large); 5];
        assert_eq!(slices_for_call(&bufs), 0..1);
        assert_eq!(slices_for_call(&[IoSlice::new(&[]), IoSlice::new(&large)]), 1..2);
        assert_eq!(SendBufs::Many(&bufs).len(), 5 << 30);
    }

    #[test]
    fn what_is_sealed_at_a_time_is_gathered_from_the_first_slices() {
        let part = vec![1_u8; MAX_COALESCED - 1];
        let bufs = [&[][..], &part, &[2, 3], &part].map(IoSlice::new);
        let bufs = SendBufs::Many(&bufs);
        let gathered = bufs.coalesce();
        assert_eq!(gathered.len(), MAX_COALESCED);
        assert_eq!(gathered[MAX_COALESCED - 1], 2);
    }
}
