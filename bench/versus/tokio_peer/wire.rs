//! tokio's connections, in plaintext and over TLS.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tls::{SERVER_NAME, client};

/// A connection as the workloads use it.
pub trait AsyncWire: AsyncRead + AsyncWrite + Unpin + Sized + Send + 'static {
    /// Returns an established connection with `TCP_NODELAY`, like the other contenders.
    fn open(address: SocketAddr) -> impl Future<Output = io::Result<Self>> + Send;

    /// Connects and closes, without extra options.
    fn connect_and_close(address: SocketAddr) -> impl Future<Output = io::Result<()>> + Send;
}

impl AsyncWire for TcpStream {
    async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn connect_and_close(address: SocketAddr) -> io::Result<()> {
        drop(TcpStream::connect(address).await?);
        Ok(())
    }
}

pub type Secure = TlsStream<TcpStream>;

impl AsyncWire for Secure {
    async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = <TcpStream as AsyncWire>::open(address).await?;
        let name = ServerName::try_from(SERVER_NAME).expect("the constant is a DNS name");
        // The settings of the blocking reference, in one configuration for all connections.
        TlsConnector::from(Arc::clone(&client::config()?)).connect(name, stream).await
    }

    async fn connect_and_close(address: SocketAddr) -> io::Result<()> {
        let mut stream = Self::open(address).await?;
        stream.shutdown().await
    }
}
