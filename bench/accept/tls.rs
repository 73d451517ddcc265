//! The workload over TLS 1.3: the client, and `rustls::StreamOwned` as the reference.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use rustls::{Stream, StreamOwned};

use crate::identity::client_connection;

/// Serves one client, as a program without `sockeye` does.
pub fn echo(stream: TcpStream, config: &Arc<ServerConfig>) -> io::Result<()> {
    let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    super::echo(&mut stream)?;
    stream.conn.send_close_notify();
    while stream.conn.wants_write() {
        stream.conn.write_tls(&mut stream.sock)?;
    }
    Ok(())
}

/// Returns the client's stream. It shakes hands in its first write.
pub fn connect<'a>(
    stream: &'a TcpStream,
    config: &Arc<ClientConfig>,
) -> io::Result<ClientStream<'a>> {
    Ok(ClientStream { connection: client_connection(config)?, stream })
}

/// A client that borrows its stream, which the workload resets at the end.
pub struct ClientStream<'a> {
    connection: ClientConnection,
    stream: &'a TcpStream,
}

impl io::Read for ClientStream<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Stream::new(&mut self.connection, &mut self.stream).read(buf)
    }
}

impl io::Write for ClientStream<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Stream::new(&mut self.connection, &mut self.stream).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Stream::new(&mut self.connection, &mut self.stream).flush()
    }
}
