//! Shows what the Windows below a program lacks, with `std` alone. Each control has a name and prints `works` or `lacks`.
//! `ci/systems` leaves out the tests that `tests/wine/lacks.txt` lists for a control that lacks something, and runs them
//! where it works.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

/// A time in which the network of one machine delivers everything.
const DELIVERY: Duration = Duration::from_millis(300);

/// A control, which returns whether the system behaves as Windows is documented to.
type Control = fn() -> io::Result<bool>;

const CONTROLS: [(&str, Control); 7] = [
    ("reset-on-close", reset_on_close),
    ("reset-to-every-call", reset_to_every_call),
    ("reset-to-both-sides", reset_to_both_sides),
    ("reset-behind-data", reset_behind_data),
    ("accept-after-reset", accept_after_reset),
    ("send-is-bounded", send_is_bounded),
    ("foreign-address", foreign_address),
];

fn main() {
    for (name, control) in CONTROLS {
        match control() {
            Ok(true) => println!("{name} works"),
            Ok(false) => println!("{name} lacks"),
            Err(error) => println!("{name} lacks: {error}"),
        }
    }
}

fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    near.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok((near, listener.accept()?.0))
}

fn reset(stream: TcpStream) -> io::Result<()> {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    drop(stream);
    thread::sleep(DELIVERY);
    Ok(())
}

fn is_reset<T>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

/// A close with `SO_LINGER` and a time of 0 resets the connection, whatever the other side is doing.
fn reset_on_close() -> io::Result<bool> {
    for _ in 0..50 {
        let (mut near, far) = pair()?;
        let reading = thread::spawn(move || near.read(&mut [0]));
        thread::sleep(Duration::from_millis(5));
        SockRef::from(&far).set_linger(Some(Duration::ZERO))?;
        drop(far);
        if !is_reset(reading.join().expect("it only reads")) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Every call after a reset reports it, not only the first.
fn reset_to_every_call() -> io::Result<bool> {
    let (mut near, far) = pair()?;
    reset(far)?;
    let first = near.write(&[0]);
    Ok(is_reset(first) && is_reset(near.read(&mut [0])) && is_reset(near.read(&mut [0])))
}

/// A reset that comes during a receive and a send fails both.
fn reset_to_both_sides() -> io::Result<bool> {
    for _ in 0..2_000 {
        let (near, far) = pair()?;
        let (mut reader, mut writer) = (near.try_clone()?, near.try_clone()?);
        let reading = thread::spawn(move || {
            let mut buf = [0; 16];
            loop {
                match reader.read(&mut buf) {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) => return Err(error),
                }
            }
        });
        let writing = thread::spawn(move || while writer.write(&[0; 1024]).is_ok() {});
        let _ = (&far).write(b"some");
        let _ = (&far).read(&mut [0; 64]);
        SockRef::from(&far).set_linger(Some(Duration::ZERO))?;
        drop(far);
        let read = reading.join().expect("it only reads");
        writing.join().expect("it only writes");
        if !is_reset(read) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A reset discards the data before it, so that the next receive reports it.
fn reset_behind_data() -> io::Result<bool> {
    let (near, mut far) = pair()?;
    far.write_all(b"data")?;
    reset(far)?;
    Ok(is_reset(near.peek(&mut [0])))
}

/// A connection that was reset before it was accepted is accepted, or passed over.
fn accept_after_reset() -> io::Result<bool> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    reset(TcpStream::connect(listener.local_addr()?)?)?;
    let _second = TcpStream::connect(listener.local_addr()?)?;
    Ok(listener.accept().is_ok())
}

/// A send that does not block takes no more than the buffers hold.
fn send_is_bounded() -> io::Result<bool> {
    const LARGE: usize = 64 << 20;
    let (mut near, _far) = pair()?;
    near.set_nonblocking(true)?;
    Ok(near.write(&vec![0; LARGE])? < LARGE)
}

/// Only an address of this machine can be bound.
fn foreign_address() -> io::Result<bool> {
    let foreign: SocketAddr = ([255, 255, 255, 255], 0).into();
    Ok(UdpSocket::bind(foreign).is_err())
}
