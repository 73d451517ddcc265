//! Round trips of 64 bytes over a Unix-domain socket, with `sockeye` and with `UnixStream`, in turns. Client and server
//! share one CPU. The server is a process of its own, with `std`.
//!
//! ```text
//! cargo bench -p sockeye-bench --bench unix                 31 rounds
//! cargo bench -p sockeye-bench --bench unix -- 101          another number of rounds
//! ```

#[cfg(unix)]
mod ping_pong;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[cfg(unix)]
    return ping_pong::run(std::env::args().skip(1).filter(|arg| arg != "--bench"));
    #[cfg(not(unix))]
    return Err("this system has no Unix-domain sockets".into());
}
