//! The transport of ureq's own tests, over loopback instead of memory. `ci/suites` puts this file and the adapter
//! (`src/ureq.rs`) into a copy of ureq, and replaces the adapter by ureq's own transport in another.

use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use crate::Error;
use crate::sockeye_adapter::UreqConnector;
use crate::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// Connects to a server on loopback that runs `serve` for one connection. The connector dials it in place of the
/// request's own server and proxy.
pub(super) fn connect(
    details: &ConnectionDetails<'_>,
    serve: impl FnOnce(TcpStream) + Send + 'static,
) -> Result<Loopback, Error> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let uri = format!("http://{address}/").parse().expect("it is a URI");
    let mut addrs = details.resolver.empty();
    addrs.push(address);
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the connector dials");
        serve(stream.try_clone().expect("a descriptor is left"));
        let _ = stream.shutdown(Shutdown::Write);
        // A close with unread data would reset the connection.
        let _ = io::copy(&mut stream, &mut io::sink());
    });
    let details = ConnectionDetails {
        uri: &uri,
        addrs,
        config: details.config,
        request_level: details.request_level,
        resolver: details.resolver,
        now: details.now,
        timeout: details.timeout,
        current_time: details.current_time.clone(),
        run_connector: details.run_connector.clone(),
        register_shutdown: details.register_shutdown.clone(),
    };
    let connector = UreqConnector::new(sockeye::Connector::global().clone());
    let transport = Connector::<()>::connect(&connector, &details, None)?;
    Ok(Loopback(Box::new(transport.expect("it always connects"))))
}

/// The transport counts as TLS, so that ureq adds none.
#[derive(Debug)]
pub(crate) struct Loopback(Box<dyn Transport>);

impl Transport for Loopback {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.0.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// Ends the connection at the text that the handlers write for that.
pub(super) struct HangupWriter(pub(super) TcpStream);

impl Write for HangupWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match data.windows(super::HANGUP.len()).position(|part| part == super::HANGUP) {
            Some(at) => {
                self.0.write_all(&data[..at])?;
                self.0.shutdown(Shutdown::Write)?;
                Ok(data.len())
            }
            None => self.0.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
