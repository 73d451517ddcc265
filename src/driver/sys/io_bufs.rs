//! A caller's buffers, one or many, and the part of them that one system call takes.

use std::borrow::Cow;
use std::io::{IoSlice, IoSliceMut};
use std::ops::{Deref, Range};

/// The caller's buffers to receive into.
pub(crate) enum RecvBufs<'a, 'b> {
    One(&'a mut [u8]),
    Many(&'a mut [IoSliceMut<'b>]),
}

impl RecvBufs<'_, '_> {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self {
            RecvBufs::One(buf) => buf.len(),
            RecvBufs::Many(bufs) => total_len(bufs),
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the first buffer that is not empty, or an empty one.
    pub(crate) fn first_nonempty(&mut self) -> &mut [u8] {
        match self {
            RecvBufs::One(buf) => buf,
            RecvBufs::Many(bufs) => match bufs.iter_mut().find(|buf| !buf.is_empty()) {
                Some(buf) => buf,
                None => &mut [],
            },
        }
    }
}

/// The caller's bytes to send.
pub(crate) enum SendBufs<'a, 'b> {
    One(&'a [u8]),
    Many(&'a [IoSlice<'b>]),
}

impl SendBufs<'_, '_> {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self {
            SendBufs::One(buf) => buf.len(),
            SendBufs::Many(bufs) => total_len(bufs),
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes in one slice. Several buffers are copied together, up to [`MAX_COALESCED`] bytes.
    pub(crate) fn coalesce(&self) -> Cow<'_, [u8]> {
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

/// Returns the sum of the lengths. Not inlined, to keep it off the path with one buffer, which is the usual case. The
/// sum saturates, because one call may send the same memory many times.
#[inline(never)]
fn total_len<B: Deref<Target = [u8]>>(bufs: &[B]) -> usize {
    bufs.iter().fold(0, |sum, buf| sum.saturating_add(buf.len()))
}

/// The maximum number of bytes that several buffers are copied together to.
const MAX_COALESCED: usize = 64 * 1024;

/// The maximum number of slices in one call: IOV_MAX on Linux, Apple's systems and the BSDs.
const MAX_SLICES: usize = 1024;

/// The maximum number of bytes in one call. Linux limits a call to this itself. Other systems fail a call with more
/// than `i32::MAX`.
pub(crate) const MAX_BYTES: usize = 0x7fff_f000;

/// Returns the slices to pass to one call: as many as the limits allow, without leading empty ones. The range is empty
/// only if all slices are. Only its first slice may be longer than [`MAX_BYTES`].
pub(crate) fn slices_for_call<B: Deref<Target = [u8]>>(bufs: &[B]) -> Range<usize> {
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
    fn leading_empty_slices_are_skipped_and_the_slice_limit_applies() {
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
    fn the_byte_limit_of_a_call_applies() {
        // Zeroed and never written, so the kernel never allocates the pages.
        let large = vec![0_u8; 1 << 30];
        let bufs = vec![IoSlice::new(&large); 5];
        assert_eq!(slices_for_call(&bufs), 0..1);
        assert_eq!(slices_for_call(&[IoSlice::new(&[]), IoSlice::new(&large)]), 1..2);
        // The sum saturates if a word has 32 bits.
        let sum = usize::try_from(5_u64 << 30).unwrap_or(usize::MAX);
        assert_eq!(SendBufs::Many(&bufs).len(), sum);
    }

    #[test]
    fn coalesce_copies_the_first_slices_up_to_its_limit() {
        let part = vec![1_u8; MAX_COALESCED - 1];
        let bufs = [&[][..], &part, &[2, 3], &part].map(IoSlice::new);
        let bufs = SendBufs::Many(&bufs);
        let gathered = bufs.coalesce();
        assert_eq!(gathered.len(), MAX_COALESCED);
        assert_eq!(gathered[MAX_COALESCED - 1], 2);
    }
}
