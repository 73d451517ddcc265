//! The client of all servers: one thread with epoll(7).

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustls::{ClientConfig, ClientConnection};

use crate::{Failure, SIZE, identity};

/// The length of one turn.
const TURN: Duration = Duration::from_millis(400);
/// The time after which a turn without answers has failed.
const WATCHDOG: Duration = Duration::from_secs(20);

/// The dialogues with one server.
pub struct Dialogues {
    epoll: OwnedFd,
    all: Vec<Dialogue>,
}

struct Dialogue {
    stream: TcpStream,
    tls: Option<ClientConnection>,
    /// The bytes of the answer that have come.
    received: usize,
}

impl Dialogues {
    /// Connects, and waits for the handshakes.
    pub fn connect(
        address: SocketAddr,
        count: usize,
        config: Option<&Arc<ClientConfig>>,
    ) -> Result<Self, Failure> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut all = Vec::with_capacity(count);
        for index in 0..count {
            let mut stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            // No port stays in TIME_WAIT.
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
            let tls = match config {
                Some(config) => {
                    let mut tls = identity::client_connection(config)?;
                    tls.complete_io(&mut stream)?;
                    Some(tls)
                }
                None => None,
            };
            stream.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, &stream, data, epoll::EventFlags::IN)?;
            all.push(Dialogue { stream, tls, received: 0 });
        }
        Ok(Dialogues { epoll, all })
    }

    /// Keeps a message of each of the first `active` dialogues on its way, and waits for the last answers. Returns the
    /// number of round trips per second.
    pub fn turn(&mut self, active: usize) -> Result<f64, Failure> {
        let begun = Instant::now();
        for dialogue in &mut self.all[..active] {
            dialogue.ask()?;
        }
        let (mut count, mut open) = (0_u64, active);
        let mut events = Vec::with_capacity(256);
        while open > 0 {
            if begun.elapsed() > WATCHDOG {
                return Err(format!("{open} of {active} dialogues have no answer").into());
            }
            let limit = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
            events.clear();
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&limit))?;
            let is_over = begun.elapsed() >= TURN;
            for event in &events {
                let index = usize::try_from(event.data.u64())?;
                let dialogue = &mut self.all[index];
                if !dialogue.is_answered()? {
                    continue;
                }
                count += 1;
                match is_over {
                    true => open -= 1,
                    false => dialogue.ask()?,
                }
            }
        }
        Ok(count as f64 / begun.elapsed().as_secs_f64())
    }
}

impl Dialogue {
    fn ask(&mut self) -> io::Result<()> {
        self.received = 0;
        let message = [7; SIZE];
        match &mut self.tls {
            None => self.stream.write_all(&message),
            Some(tls) => {
                tls.writer().write_all(&message)?;
                while tls.wants_write() {
                    tls.write_tls(&mut self.stream)?;
                }
                Ok(())
            }
        }
    }

    /// Receives what is there. Returns whether the answer is complete.
    fn is_answered(&mut self) -> io::Result<bool> {
        let mut buf = [0; SIZE];
        self.received += match &mut self.tls {
            None => match self.stream.read(&mut buf[self.received..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            },
            Some(tls) => {
                match tls.read_tls(&mut self.stream) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                    Err(error) => return Err(error),
                }
                tls.process_new_packets().map_err(io::Error::other)?;
                match tls.reader().read(&mut buf) {
                    Ok(bytes) => bytes,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                    Err(error) => return Err(error),
                }
            }
        };
        Ok(self.received == SIZE)
    }
}
