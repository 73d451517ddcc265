//! Small writes of 100 bytes, directly and through a [`BufWriter`] of the default size.

use std::io::{self, BufWriter, Write};

use super::bulk::stream;
use crate::api::{BenchStream, Slice, Task};

pub const SMALL: usize = 100;

pub fn unbuffered<W: BenchStream>(task: &Task) -> io::Result<Slice> {
    let wire = W::open(task.servers[0])?;
    stream(task, wire, |wire| {
        wire.write_all(&[0x5a; SMALL])?;
        Ok(SMALL)
    })
}

pub fn buffered<W: BenchStream>(task: &Task) -> io::Result<Slice> {
    let writer = BufWriter::new(Writer(W::open(task.servers[0])?));
    stream(task, writer, |writer| {
        writer.write_all(&[0x5a; SMALL])?;
        Ok(SMALL)
    })
}

/// Adapts a wire to [`Write`].
struct Writer<W>(W);

impl<W: BenchStream> Write for Writer<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
