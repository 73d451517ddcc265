//! Reads and writes through the handles.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};

use super::Socket;
use super::reader::Reader;
use super::writer::Writer;
use crate::driver::{RecvBufs, SendBufs};
use crate::error::{Error, Step};

/// Implements reads or writes for a handle type, by value and by reference.
macro_rules! io_by_value_and_reference {
    ($trait:ident for $handle:ty, $($call:tt)*) => {
        impl $trait for $handle { $($call)* }
        impl $trait for &$handle { $($call)* }
    };
}

macro_rules! impl_read {
    ($handle:ty) => {
        io_by_value_and_reference!(Read for $handle,
            /// Waits for the connection to open and for data. `Ok(0)` is the peer's clean end.
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.handle.call(|connection| connection.read(&mut RecvBufs::One(buf))).map_err(read_error)
            }

            fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                self.handle.call(|connection| connection.read(&mut RecvBufs::Many(bufs))).map_err(read_error)
            }
        );
    };
}

macro_rules! impl_write {
    ($handle:ty) => {
        io_by_value_and_reference!(Write for $handle,
            /// Waits for the connection to open and for some of the bytes to be accepted.
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                self.handle.call(|connection| connection.write(&SendBufs::One(buf))).map_err(write_error)
            }

            fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                self.handle.call(|connection| connection.write(&SendBufs::Many(bufs))).map_err(write_error)
            }

            /// Waits until the kernel has all accepted data, which in plaintext it always has. Fails if the socket
            /// has failed.
            fn flush(&mut self) -> io::Result<()> {
                self.handle.call(|connection| connection.flush()).map_err(write_error)
            }
        );
    };
}

#[cold]
pub(super) fn read_error(error: Error) -> io::Error {
    error.during(Step::Read).into()
}

#[cold]
pub(super) fn write_error(error: Error) -> io::Error {
    error.during(Step::Write).into()
}

impl_read!(Socket);
impl_write!(Socket);
impl_read!(Reader);
impl_write!(Writer);
