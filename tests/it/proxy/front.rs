//! TLS in front of a proxy, as stunnel does it: an `https` proxy.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustls::{ServerConfig, ServerConnection};

use crate::support::peer::Server;
use crate::support::tls::ServerSetup;

/// Decrypts what a client sends, and passes it on to a server.
pub struct Front {
    server: Server,
    seen: Arc<Mutex<Seen>>,
}

/// What arrived from all clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub connections: usize,
    /// The clients that sent close_notify.
    pub ended: usize,
    /// The bytes of data.
    pub data: usize,
}

impl Front {
    pub fn start(setup: &ServerSetup, upstream: SocketAddr) -> Front {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (log, config) = (Arc::clone(&seen), setup.config());
        let server = Server::scripted(move |stream| {
            let (log, config) = (Arc::clone(&log), Arc::clone(&config));
            thread::spawn(move || {
                lock(&log).connections += 1;
                // A test may end a connection at any time.
                let _ = serve(&stream, config, upstream, &log);
                let _ = stream.shutdown(Shutdown::Both);
            });
        });
        Front { server, seen }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    pub fn seen(&self) -> Seen {
        *lock(&self.seen)
    }
}

/// A session, and the right to send what it has encrypted.
struct Session {
    connection: Mutex<ServerConnection>,
    sending: Mutex<()>,
}

impl Session {
    /// Changes the session, and sends what it then has to send, in order.
    fn send(
        &self,
        mut to: &TcpStream,
        change: impl FnOnce(&mut ServerConnection) -> io::Result<()>,
    ) -> io::Result<()> {
        let _turn = lock(&self.sending);
        let mut connection = lock(&self.connection);
        let changed = change(&mut connection);
        let mut bytes = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut bytes)?;
        }
        drop(connection);
        to.write_all(&bytes)?;
        changed
    }
}

fn serve(
    client: &TcpStream,
    config: Arc<ServerConfig>,
    upstream: SocketAddr,
    log: &Mutex<Seen>,
) -> io::Result<()> {
    let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
    connection.set_buffer_limit(None);
    let session = Session { connection: Mutex::new(connection), sending: Mutex::new(()) };
    let server = TcpStream::connect(upstream)?;
    thread::scope(|scope| {
        let down = scope.spawn(|| pass_down(&session, &server, client));
        let passed = pass_up(&session, client, &server, log);
        let how = if passed.is_ok() { Shutdown::Write } else { Shutdown::Both };
        let _ = server.shutdown(how);
        down.join().expect("forwarding does not panic")?;
        passed
    })
}

fn pass_up(
    session: &Session,
    mut client: &TcpStream,
    mut server: &TcpStream,
    log: &Mutex<Seen>,
) -> io::Result<()> {
    let mut buf = [0; 16 * 1024];
    loop {
        let count = client.read(&mut buf)?;
        let mut rest = &buf[..count];
        if count == 0 {
            return Ok(());
        }
        while !rest.is_empty() {
            let mut data = Vec::new();
            let mut is_over = false;
            let mut is_answered = false;
            let processed = {
                let mut connection = lock(&session.connection);
                connection.read_tls(&mut rest)?;
                let processed = connection.process_new_packets();
                is_answered |= connection.wants_write();
                if let Ok(state) = &processed {
                    is_over = state.peer_has_closed();
                    data.resize(state.plaintext_bytes_to_read(), 0);
                    connection.reader().read_exact(&mut data)?;
                }
                processed
            };
            if is_answered {
                session.send(client, |_| Ok(()))?;
            }
            processed.map_err(io::Error::other)?;
            lock(log).data += data.len();
            server.write_all(&data)?;
            if is_over {
                lock(log).ended += 1;
                return Ok(());
            }
        }
    }
}

fn pass_down(session: &Session, mut server: &TcpStream, client: &TcpStream) -> io::Result<()> {
    let mut buf = [0; 16 * 1024];
    loop {
        let count = server.read(&mut buf)?;
        if count == 0 {
            session.send(client, |connection| {
                connection.send_close_notify();
                Ok(())
            })?;
            return client.shutdown(Shutdown::Write);
        }
        session.send(client, |connection| connection.writer().write_all(&buf[..count]))?;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
