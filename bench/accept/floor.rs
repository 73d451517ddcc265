//! A loop of `std::net` with the system calls that `sockeye` makes.

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvFlags, recv};

/// The number of closed connections that linger before the oldest is looked at.
const LINGERING: usize = 32;

/// Starts a thread that sleeps. With a second thread, the kernel counts references to descriptors atomically.
pub fn start_thread() {
    thread::spawn(|| {
        loop {
            thread::park();
        }
    });
}

pub fn serve(listener: &TcpListener) -> io::Result<()> {
    let mut lingering = VecDeque::new();
    listener.set_nonblocking(true)?;
    loop {
        poll(&mut [PollFd::new(listener, PollFlags::IN)], None)?;
        // Another thread may have taken the client.
        let Ok((mut stream, _)) = listener.accept() else { continue };
        stream.set_nodelay(true)?;
        // A client that fails ends its own connection only.
        let _ = super::echo(&mut stream);
        let _ = stream.shutdown(Shutdown::Write);
        drain(&stream);
        lingering.push_back(stream);
        if lingering.len() > LINGERING {
            if let Some(oldest) = lingering.pop_front() {
                drain(&oldest);
            }
        }
    }
}

/// Makes one receive that does not wait.
fn drain(stream: &TcpStream) {
    let _ = recv(stream, &mut [0; 256], RecvFlags::DONTWAIT);
}
