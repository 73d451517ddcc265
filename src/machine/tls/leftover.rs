//! Decrypted data that did not fit into the reader's buffer.

#[derive(Default)]
pub(super) struct Leftover {
    pub(super) bytes: Vec<u8>,
    pub(super) start: usize,
}

impl Leftover {
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Takes the bytes up to and including `delimiter`, at most `max`.
    pub(super) fn take_until(&mut self, delimiter: u8, max: usize) -> Vec<u8> {
        let leftover = &self.bytes[self.start..];
        let leftover = &leftover[..leftover.len().min(max)];
        let end = leftover.iter().position(|&byte| byte == delimiter);
        let mut taken = vec![0; end.map_or(leftover.len(), |at| at + 1)];
        self.take(&mut taken);
        taken
    }

    /// Copies the bytes, as much as fits.
    pub(super) fn peek(&self, buf: &mut [u8]) -> usize {
        let leftover = &self.bytes[self.start..];
        let copied = leftover.len().min(buf.len());
        buf[..copied].copy_from_slice(&leftover[..copied]);
        copied
    }

    pub(super) fn take(&mut self, buf: &mut [u8]) -> usize {
        let taken = self.peek(buf);
        self.skip(taken);
        taken
    }

    /// Takes everything.
    pub(super) fn take_all(&mut self) -> Vec<u8> {
        let Leftover { mut bytes, start } = std::mem::take(self);
        bytes.drain(..start);
        bytes
    }

    /// Drops the first bytes.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.start = self.bytes.len().min(self.start + bytes);
        if self.is_empty() {
            self.clear();
        }
    }

    /// Stores `bytes`; the buffer must be empty.
    pub(super) fn set(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.bytes = bytes.to_vec();
            self.start = 0;
        }
    }

    pub(super) fn append(&mut self, later: &mut Leftover) {
        self.bytes.extend_from_slice(&later.bytes[later.start..]);
        later.clear();
    }

    /// Frees the memory, so that an idle session holds none.
    pub(super) fn clear(&mut self) {
        *self = Leftover::default();
    }
}
