//! The calls of the system.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::path::{BoundPath, file_of, remove_stale};
use super::{UnixListening, credentials};
use crate::driver::sys::bind_options::BindOptions;
use crate::driver::sys::connecting::{ALWAYS_PENDING, apply_buffer_sizes};
use crate::driver::sys::errno::{
    AcceptFailure, classify_accept, fault_from_connect, fault_from_setup, is_in_progress,
    is_resource_exhaustion, os_code,
};
use crate::driver::sys::socket::{
    describe_other, forbid_signals, is_listening, nonblocking_socket,
};
use crate::driver::sys::sync::mio::net::{TcpListener, TcpStream};
use crate::driver::sys::wire::Wire;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::options::TcpOptions;
use crate::unix::{UnixAddress, UnixPeer};

pub(crate) type StdStream = std::os::unix::net::UnixStream;
pub(crate) type StdListener = std::os::unix::net::UnixListener;

/// Creates a socket and connects it. Returns whether the attempt is still in progress.
pub(crate) fn start_connect(
    address: &UnixAddress,
    options: &TcpOptions,
) -> std::result::Result<(Wire, bool), Fault> {
    let failed = |error: io::Error| fault_from_connect(&error);
    let socket = nonblocking_socket(Domain::UNIX, None).map_err(failed)?;
    apply_buffer_sizes(&socket, options).map_err(failed)?;
    let pending = match socket.connect(&sock_addr(address).map_err(failed)?) {
        Ok(()) => ALWAYS_PENDING,
        // The queue is full, and poll(2) does not report when it has room.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(Fault::Busy),
        Err(error) if is_in_progress(&error) => true,
        Err(error) => return Err(failed(error)),
    };
    let mut peer = peer_of(&socket);
    // It may have closed already.
    peer.address.get_or_insert_with(|| address.clone());
    Ok((Wire::unix(stream_from(socket), peer), pending))
}

/// Binds an address and listens. The permissions of a path are set before the socket listens, so no client can
/// connect without them.
pub(crate) fn bind(address: &UnixAddress, options: &BindOptions) -> io::Result<UnixListening> {
    let mut socket = nonblocking_socket(Domain::UNIX, None)?;
    let path = address.path_bytes().map(|bytes| Path::new(std::ffi::OsStr::from_bytes(bytes)));
    if let (Some(mode), Some(_)) = (options.path.mode, path) {
        socket = restrict_before_bind(socket, mode)?;
    }
    // Before bind(2): a failure after it would leave the path behind.
    let absolute = path.map(std::path::absolute).transpose()?;
    let name = sock_addr(address)?;
    if let Err(error) = socket.bind(&name) {
        let is_taken = error.kind() == io::ErrorKind::AddrInUse;
        let replaced = match path {
            Some(path) if is_taken && options.path.replace_stale => remove_stale(path, &name),
            Some(_) | None => false,
        };
        if !replaced {
            return Err(error);
        }
        socket.bind(&name)?;
    }
    let bound = absolute.map(BoundPath::new).transpose()?;
    let begin = || {
        if let (Some(mode), Some(bound)) = (options.path.mode, &bound) {
            bound.set_mode(mode)?;
        }
        socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))
    };
    if let Err(error) = begin() {
        if let Some(bound) = &bound {
            bound.remove();
        }
        return Err(error);
    }
    let listener = TcpListener::from_std(socket.into());
    let file = bound.as_ref().map(BoundPath::file);
    Ok(UnixListening { listener, address: Some(address.clone()), bound, file })
}

/// Gives the socket the permissions that its file will have. The umask still removes some of them. Only Linux uses
/// them, and there even the file never has more.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn restrict_before_bind(socket: Socket, mode: u32) -> io::Result<Socket> {
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::PermissionsExt;
    // fchmod(2) needs no open file, only a descriptor.
    let file = std::fs::File::from(OwnedFd::from(socket));
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    Ok(Socket::from(OwnedFd::from(file)))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[expect(clippy::unnecessary_wraps, reason = "the same signature as on Linux")]
fn restrict_before_bind(socket: Socket, _: u32) -> io::Result<Socket> {
    Ok(socket)
}

/// Accepts a connection that is complete. No system lets it inherit buffer sizes.
pub(crate) fn accept(
    listener: &TcpListener,
    options: &TcpOptions,
) -> Result<(TcpStream, UnixPeer), AcceptFailure> {
    loop {
        let accepted = SockRef::from(listener).accept();
        match accepted.and_then(|(socket, _)| socket.set_nonblocking(true).map(|()| socket)) {
            Ok(socket) => {
                // A failure means that the connection is over, which its first read reports.
                let _ = forbid_signals(&SockRef::from(&socket));
                let _ = apply_buffer_sizes(&socket, options);
                let peer = peer_of(&socket);
                return Ok((stream_from(socket), peer));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(classify_accept(&error)),
        }
    }
}

/// Accepts and closes what is in the queue of a listener that was stopped. Over TCP the stop itself resets it; here it
/// would stay until the last descriptor is closed. Nothing enters the queue any more. Without a free descriptor, the
/// rest stays.
pub(crate) fn empty_queue(listener: &TcpListener) {
    // Only Linux can stop a listener.
    if !cfg!(target_os = "linux") {
        return;
    }
    loop {
        match SockRef::from(listener).accept() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Checks and configures a stream.
pub(crate) fn adopt_stream(
    stream: StdStream,
    options: &TcpOptions,
) -> Result<(TcpStream, UnixPeer)> {
    let failed = |error: io::Error| Error::from_fault(Fault::Io(os_code(&error)));
    let socket = SockRef::from(&stream);
    check(&socket, "connection", |socket| is_listening(socket) != Some(true))?;
    match socket.peer_addr() {
        Ok(_) => {}
        Err(error) if is_resource_exhaustion(os_code(&error)) => return Err(failed(error)),
        // Only Linux still knows a peer that has closed. Its data can be read everywhere.
        Err(_) if has_end_to_read(&socket) => {}
        Err(_) => {
            let message = "cannot adopt the stream: it is not connected";
            return Err(Error::with_message(ErrorKind::Connect, message));
        }
    }
    let set = || -> io::Result<()> {
        forbid_signals(&socket)?;
        socket.set_nonblocking(true)?;
        apply_buffer_sizes(&socket, options)
    };
    set().map_err(|error| Error::from_fault(fault_from_setup(&error)))?;
    let peer = peer_of(&socket);
    Ok((stream_from(Socket::from(stream)), peer))
}

/// Returns whether a receive would find data or an end. A socket that was never connected has none.
fn has_end_to_read(socket: &SockRef<'_>) -> bool {
    socket.set_nonblocking(true).is_ok() && socket.peek(&mut [MaybeUninit::uninit()]).is_ok()
}

/// Takes over a socket that listens already.
pub(crate) fn adopt_listener(listener: StdListener) -> Result<UnixListening> {
    let socket = SockRef::from(&listener);
    check(&socket, "listener", |socket| is_listening(socket) != Some(false))?;
    socket.set_nonblocking(true).map_err(|error| Error::from_fault(fault_from_setup(&error)))?;
    let address = socket.local_addr().ok().and_then(|address| unix_address(&address));
    let listener = TcpListener::from_std(Socket::from(listener).into());
    let file = address.as_ref().and_then(file_of);
    Ok(UnixListening { listener, address, bound: None, file })
}

/// Checks that a descriptor is a Unix-domain stream socket in the right state.
fn check(
    socket: &SockRef<'_>,
    wanted: &str,
    is_in_state: impl Fn(&SockRef<'_>) -> bool,
) -> Result<()> {
    let failed = |error: io::Error| Error::from_fault(Fault::Io(os_code(&error)));
    let is_unix = socket.local_addr().is_ok_and(|local| local.is_unix());
    let other = match describe_other(socket).map_err(failed)? {
        Some(other) if !is_unix => other,
        None => "a TCP socket".to_owned(),
        Some(_) if socket.r#type().map_err(failed)? != Type::STREAM => {
            "a Unix-domain socket of another type than a stream".to_owned()
        }
        Some(_) if is_in_state(socket) => return Ok(()),
        Some(_) if wanted == "listener" => "a socket that does not listen".to_owned(),
        Some(_) => "a listening socket".to_owned(),
    };
    let message = format!("cannot adopt the descriptor: it is {other}, not a Unix-domain {wanted}");
    Err(Error::with_message(ErrorKind::InvalidState, message))
}

/// Returns what the system knows of the other end.
fn peer_of(socket: &Socket) -> UnixPeer {
    UnixPeer {
        address: socket.peer_addr().ok().and_then(|address| unix_address(&address)),
        credentials: credentials::of(socket.as_fd()),
    }
}

fn unix_address(address: &SockAddr) -> Option<UnixAddress> {
    if let Some(path) = address.as_pathname() {
        return UnixAddress::from_pathname(path).ok();
    }
    UnixAddress::from_abstract_name(address.as_abstract_namespace()?).ok()
}

/// Returns the form for the system, in which NUL precedes an abstract name.
fn sock_addr(address: &UnixAddress) -> io::Result<SockAddr> {
    let path = |bytes| SockAddr::unix(Path::new(std::ffi::OsStr::from_bytes(bytes)));
    match (address.path_bytes(), address.abstract_bytes()) {
        (Some(bytes), _) => path(bytes),
        (None, Some(name)) => path(&[b"\0", name].concat()),
        (None, None) => unreachable!("an address is a path or a name"),
    }
}

/// Converts a stream. Its calls do not depend on the family.
fn stream_from(socket: Socket) -> TcpStream {
    TcpStream::from_std(socket.into())
}
