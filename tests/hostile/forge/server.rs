//! The server's end of one connection: bytes, records, and counted application data.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use super::Sealer;
use super::hello::ClientHello;
use super::identity::{self, Identity};
use super::records::{self, ALERT, CLOSE_NOTIFY, DATA, FATAL, HANDSHAKE, MAX_RECORD, WARNING};
use crate::pattern;

/// The least number of bytes that a flood sends at a time.
const FLOOD_PARCEL: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Tls12,
    Tls13,
}

impl Version {
    pub fn name(self) -> &'static str {
        match self {
            Version::Tls12 => "TLS 1.2",
            Version::Tls13 => "TLS 1.3",
        }
    }
}

pub struct Server {
    pub stream: TcpStream,
    /// The certificates that it sends, and its key.
    pub identity: Identity,
    /// The current write key.
    pub sealer: Option<Sealer>,
    pub(super) client: ClientHello,
    /// The handshake messages so far.
    pub transcript: Vec<u8>,
    /// The secret from which the next keys are derived.
    pub secret: Vec<u8>,
    /// The traffic secret that authenticates the server's Finished.
    pub(super) traffic: Vec<u8>,
    /// Bytes that are held back, to be sent in one piece.
    corked: Option<Vec<u8>>,
    /// The length of the application data, counted before it is sent.
    sent: Arc<AtomicU64>,
    /// Receives the client's word that its situation has begun.
    ready: Receiver<()>,
}

impl Server {
    pub fn new(stream: TcpStream, sent: Arc<AtomicU64>, ready: Receiver<()>) -> Server {
        Server {
            stream,
            identity: identity::good(),
            sealer: None,
            client: ClientHello::default(),
            transcript: Vec::new(),
            secret: Vec::new(),
            traffic: Vec::new(),
            corked: None,
            sent,
            ready,
        }
    }

    // ---------------------------------------------------------------- a whole handshake

    /// Completes a correct handshake, waits until the client's situation has begun, and discards the client's data.
    pub fn open(&mut self, version: Version) -> io::Result<()> {
        match version {
            Version::Tls12 => self.open12()?,
            Version::Tls13 => self.open13()?,
        }
        self.await_client()?;
        self.discard();
        Ok(())
    }

    /// Does the same as [`open`](Self::open), but stops reading after the handshake.
    pub fn open_and_stop_reading(&mut self, version: Version) -> io::Result<()> {
        match version {
            Version::Tls12 => self.open12()?,
            Version::Tls13 => self.open13()?,
        }
        self.await_client()
    }

    pub fn await_client(&self) -> io::Result<()> {
        let waited = self.ready.recv_timeout(Duration::from_secs(10));
        waited.map_err(|_| io::ErrorKind::TimedOut.into())
    }

    /// Reads and drops everything from now on, in a thread.
    pub fn discard(&self) {
        if let Ok(mut stream) = self.stream.try_clone() {
            thread::spawn(move || io::copy(&mut stream, &mut io::sink()));
        }
    }

    /// Reads the ClientHello.
    pub fn hear(&mut self) -> io::Result<()> {
        let mut message = Vec::new();
        let len = |message: &[u8]| match *message {
            [_, high, middle, low, ..] => 4 + u32::from_be_bytes([0, high, middle, low]) as usize,
            _ => usize::MAX,
        };
        while message.len() < len(&message) {
            let (kind, content) = self.read_record()?;
            match kind {
                HANDSHAKE => message.extend(content),
                // The client sends one before its second ClientHello.
                records::CHANGE_CIPHER_SPEC => {}
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        self.transcript.extend(&message);
        self.client = ClientHello::parse(&message).ok_or(io::ErrorKind::InvalidData)?;
        Ok(())
    }

    pub fn read_record(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut header = [0; 5];
        self.stream.read_exact(&mut header)?;
        let mut content = vec![0; u16::from_be_bytes([header[3], header[4]]).into()];
        self.stream.read_exact(&mut content)?;
        Ok((header[0], content))
    }

    // ---------------------------------------------------------------- sending

    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.corked {
            Some(corked) => {
                corked.extend(bytes);
                Ok(())
            }
            None => self.stream.write_all(bytes),
        }
    }

    /// Holds back everything from now on.
    pub fn cork(&mut self) {
        self.corked.get_or_insert_default();
    }

    pub fn uncork(&mut self) -> io::Result<()> {
        let bytes = self.corked.take().unwrap_or_default();
        self.stream.write_all(&bytes)
    }

    /// Sends one byte at a time, with a pause after each.
    pub fn drip(&mut self, bytes: &[u8], pause: Duration) -> io::Result<()> {
        for byte in bytes {
            self.raw(&[*byte])?;
            thread::sleep(pause);
        }
        Ok(())
    }

    /// Sends these bytes again and again, until the client is gone or ten seconds have passed.
    pub fn flood(&mut self, bytes: &[u8]) -> io::Result<()> {
        let bytes = bytes.repeat((MAX_RECORD / bytes.len()).max(1));
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            self.raw(&bytes)?;
        }
        Ok(())
    }

    /// Sends the records of `make`, until the client is gone or ten seconds have passed.
    pub fn flood_with(&mut self, mut make: impl FnMut(&mut Sealer) -> Vec<u8>) -> io::Result<()> {
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            let mut bytes = Vec::new();
            while bytes.len() < FLOOD_PARCEL {
                bytes.extend(make(self.sealer()));
            }
            self.raw(&bytes)?;
        }
        Ok(())
    }

    /// Sends a record in the clear.
    pub fn plain(&mut self, kind: u8, content: &[u8]) -> io::Result<()> {
        self.raw(&records::plain(kind, content))
    }

    pub fn sealer(&mut self) -> &mut Sealer {
        self.sealer.as_mut().expect("there are keys")
    }

    pub fn seal(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        self.sealer().seal(kind, content)
    }

    /// Sends a sealed record.
    pub fn sealed(&mut self, kind: u8, content: &[u8]) -> io::Result<()> {
        let record = self.seal(kind, content);
        self.raw(&record)
    }

    pub fn alert(&mut self, level: u8, description: u8) -> io::Result<()> {
        self.sealed(ALERT, &[level, description])
    }

    pub fn fatal(&mut self, description: u8) -> io::Result<()> {
        self.alert(FATAL, description)
    }

    pub fn close_notify(&mut self) -> io::Result<()> {
        self.alert(WARNING, CLOSE_NOTIFY)
    }

    /// Counts `len` more bytes of data, and returns their position in the stream.
    pub fn count(&self, len: usize) -> u64 {
        self.sent.fetch_add(len as u64, Ordering::SeqCst)
    }

    /// Returns a record with the next `len` bytes of the stream.
    pub fn data_record(&mut self, len: usize) -> Vec<u8> {
        let begin = self.count(len);
        self.seal(DATA, &pattern::bytes(begin, len))
    }

    pub fn data(&mut self, len: usize) -> io::Result<()> {
        let record = self.data_record(len);
        self.raw(&record)
    }

    // ---------------------------------------------------------------- ends

    pub fn fin(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    pub fn reset(&mut self) -> io::Result<()> {
        // Lets the bytes before the reset arrive.
        thread::sleep(Duration::from_millis(20));
        // SO_LINGER has no effect while the discarding thread holds a copy of the descriptor. Dissolving the
        // association sends a reset at once.
        rustix::net::connect_unspec(&self.stream).map_err(Into::into)
    }
}
