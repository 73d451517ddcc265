//! A small program that does everything once. It connects by name and by address, races, writes, reads, half-closes,
//! performs a TLS handshake, upgrades, closes and aborts.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use sockeye::{Connector, Error, Keepalive, SecureTransport, Socket, SocketOptions, TcpOptions};

use crate::server::Site;
use crate::support::tls::{ASK, GO};

/// The line that starts the tour.
pub const BEGINS: &str = "begin";
/// The exit code after an error of this crate.
pub const CLEAN_FAILURE: u8 = 10;
/// The exit code after a panic in any thread.
pub const PANICKED: u8 = 11;

/// The limit of each wait.
const LIMIT: Duration = Duration::from_millis(2500);

/// Runs the tour when its start line arrives. The program prints little, so that the system calls after the start are
/// the library's.
pub fn main(word: &str) -> ExitCode {
    std::panic::set_hook(Box::new(|info| {
        let _ = writeln!(io::stderr(), "{info}");
        std::process::exit(i32::from(PANICKED));
    }));
    let site = Site::parse(word).expect("the word of a server");
    // A failure here is ignored, because this is not a call of the library.
    let _ = io::stdin().read_line(&mut String::new());
    match whole(&site) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{:?}: {error}", error.kind());
            ExitCode::from(CLEAN_FAILURE)
        }
    }
}

/// Runs all parts up to the first failure.
pub fn whole(site: &Site) -> Result<(), Error> {
    plain(site)?;
    secured(site)?;
    upgraded(site)?;
    raced(site)?;
    asked_of_the_system(site)?;
    both_ways_at_once(site)?;
    closed_with_unread_data(site)
}

/// Connects by name, half-closes, and reads the peer's EOF.
pub fn plain(site: &Site) -> Result<(), Error> {
    let connector = Connector::builder()
        .resolver(|_: &str| Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]))
        .build()?;
    let options = limits(site.options(SecureTransport::Off));
    let socket = connector.connect_with(("name.test", site.plain), options)?;
    exchange(&socket, b"by name")?;
    to_the_end(&socket)?;
    by_address(site)
}

/// Connects by address; aborts one socket and closes the other.
pub fn by_address(site: &Site) -> Result<(), Error> {
    let address = Site::address(site.plain, 1);
    let options = limits(site.options(SecureTransport::Off));
    let socket = sockeye::connect_with(address, options.clone())?;
    exchange(&socket, b"by address")?;
    let other = sockeye::connect_with(address, options)?;
    other.opened()?;
    other.abort();
    socket.close()
}

pub fn secured(site: &Site) -> Result<(), Error> {
    let address = Site::address(site.secured, 2);
    let socket = sockeye::connect_with(address, limits(site.options(SecureTransport::On)))?;
    exchange(&socket, b"sealed")?;
    to_the_end(&socket)
}

pub fn upgraded(site: &Site) -> Result<(), Error> {
    let address = Site::address(site.upgraded, 3);
    let mode = SecureTransport::StartTls;
    let mut plain = sockeye::connect_with(address, limits(site.options(mode)))?;
    known(plain.write_all(ASK))?;
    let mut go = [0; GO.len()];
    known(plain.read_exact(&mut go))?;
    let socket = plain.start_tls()?;
    socket.opened()?;
    exchange(&socket, b"upgraded")?;
    socket.close()
}

/// Races three addresses with every TCP option. Nothing listens on the first two.
fn raced(site: &Site) -> Result<(), Error> {
    let addresses = [10, 9, 1].map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)));
    let resolver = move |_: &str| Ok(addresses.to_vec());
    let connector = Connector::builder().resolver(resolver).build()?;
    let second = Duration::from_secs(1);
    let tcp = TcpOptions::new()
        .keepalive(Keepalive { idle: second, interval: second, retries: 3 })
        .user_timeout(5 * second)
        .bind((Ipv4Addr::LOCALHOST, 0).into())
        .recv_buffer_size(16 * 1024)
        .send_buffer_size(16 * 1024);
    let options = limits(site.options(SecureTransport::Off)).tcp(tcp).allow_half_open(true);
    let socket = connector.connect_with(("name.test", site.plain), options)?;
    exchange(&socket, b"raced")?;
    socket.reader().cancel();
    socket.writer().close()?;
    socket.closed_timeout(LIMIT)
}

/// Connects with a name that every system resolves.
fn asked_of_the_system(site: &Site) -> Result<(), Error> {
    let options = limits(site.options(SecureTransport::Off));
    let socket = sockeye::connect_with(("localhost", site.plain), options)?;
    exchange(&socket, b"localhost")?;
    socket.writer().close()?;
    // Without a reader, the event loop detects the EOF.
    socket.closed_timeout(LIMIT)
}

/// Reads in one thread while this one writes more than the kernel buffers at once.
fn both_ways_at_once(site: &Site) -> Result<(), Error> {
    const LEN: usize = 256 * 1024;
    let address = Site::address(site.secured, 4);
    let small = TcpOptions::new().send_buffer_size(4096);
    let options = limits(site.options(SecureTransport::On)).tcp(small);
    let mut socket = sockeye::connect_with(address, options)?;
    socket.opened()?;
    let mut reader = socket.reader();
    let read = move || known(reader.read_exact(&mut vec![0; LEN]));
    // If std cannot spawn this thread, that is not the library's failure.
    let Ok(reading) = thread::Builder::new().spawn(read) else { return Ok(()) };
    let written = known(socket.write_all(&[b'b'; LEN]));
    let read = reading.join().expect("it does not panic");
    written.and(read)?;
    socket.close()
}

/// Closes with unread data, which the library drains.
fn closed_with_unread_data(site: &Site) -> Result<(), Error> {
    let options = limits(site.options(SecureTransport::Off));
    let mut socket = sockeye::connect_with(Site::address(site.plain, 5), options)?;
    known(socket.write_all(&[b'u'; 4096]))?;
    known(socket.read_exact(&mut [0]))?;
    socket.close()
}

fn exchange(mut socket: &Socket, bytes: &[u8]) -> Result<(), Error> {
    known(socket.write_all(bytes))?;
    known(socket.flush())?;
    let mut back = vec![0; bytes.len()];
    known(socket.read_exact(&mut back))?;
    assert_eq!(back, bytes, "the echo");
    Ok(())
}

fn to_the_end(mut socket: &Socket) -> Result<(), Error> {
    socket.writer().close()?;
    let mut rest = Vec::new();
    known(socket.read_to_end(&mut rest))?;
    assert!(rest.is_empty(), "the echo has no more bytes");
    socket.closed_timeout(LIMIT)
}

fn limits(options: SocketOptions) -> SocketOptions {
    options.connect_timeout(LIMIT).close_timeout(LIMIT).read_timeout(LIMIT).write_timeout(LIMIT)
}

/// Returns the crate's error, which every failed read or write must carry.
fn known<T>(result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|error| match Error::from_io(&error) {
        Some(inner) => inner.clone(),
        None => panic!("not an error of this crate: {error:?}"),
    })
}
