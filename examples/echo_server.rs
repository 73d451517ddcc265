//! An echo server: every client gets back what it sends, until either side ends.
//!
//! ```text
//! cargo run --example echo_server                      serves one client of its own on loopback, and ends
//! cargo run --example echo_server -- 127.0.0.1:7007    serves until its standard input ends
//! ```
//!
//! At most 100 clients are served at once, each by a thread of its own; further ones wait. A client that is silent for
//! a minute is dropped. When the standard input ends, clients that are connected by then are still served.

use std::error::Error;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use sockeye::{IngressRules, ListenOptions, Listener, Socket, SocketOptions, listen_with};

/// The maximum number of clients that are served at once.
const MAX_CLIENTS: usize = 100;
/// The time that a client may be silent.
const SILENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let result = match std::env::args().nth(1) {
        Some(address) => serve_until_end_of_input(&address),
        None => demonstrate(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo_server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> ListenOptions {
    let silence = SocketOptions::new().read_timeout(SILENCE).write_timeout(SILENCE);
    // No single client may use up all places.
    ListenOptions::new().socket(silence).ingress(IngressRules::allow_all().max_per_client(20))
}

fn serve_until_end_of_input(address: &str) -> Result<(), Box<dyn Error>> {
    let listener = listen_with(address, options())?;
    if let Some(address) = listener.local_address() {
        eprintln!("echo_server: listening on {address}");
    }
    let closer = listener.clone();
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        closer.close();
    });
    serve(&listener)?;
    Ok(())
}

/// Serves until the listener is closed and every client is done.
fn serve(listener: &Listener) -> sockeye::Result<()> {
    listener.serve(MAX_CLIENTS, |socket| {
        // The socket is closed when this returns.
        if let Err(error) = echo(&socket) {
            eprintln!("echo_server: {error}");
        }
    })
}

fn echo(socket: &Socket) -> io::Result<u64> {
    io::copy(&mut socket.reader(), &mut socket.writer())
}

/// Serves one client of its own.
fn demonstrate() -> Result<(), Box<dyn Error>> {
    let listener = listen_with("127.0.0.1:0", options())?;
    let address = listener.local_address().ok_or("the listener has no address")?;
    thread::scope(|scope| {
        let serving = scope.spawn(|| serve(&listener));
        let client = sockeye::connect(address)?;
        client.writer().write_all(b"hello, echo")?;
        // The server reads to this end, and its answer still comes: accepted sockets are half-open.
        client.writer().close()?;
        let mut answer = String::new();
        client.reader().read_to_string(&mut answer)?;
        println!("the server on {address} answers: {answer}");
        listener.close();
        serving.join().map_err(|_| "the server panicked")??;
        Ok(())
    })
}
