//! A panic leaves handles and options usable.
//!
//! A panic in the crate ends one socket: its connection says so to every handle. A panic of the program cannot interrupt
//! a change of shared state, because its code runs neither under a lock nor during a change. Options and information are
//! values. So these types are unwind-safe, although some of them own objects of the program that may not be.

use std::panic::{RefUnwindSafe, UnwindSafe};

use super::{Connector, ListenOptions, Listener, Reader, Socket, Writer};
use crate::info::SocketInfo;
use crate::options::SocketOptions;
use crate::tls::{ServerTlsOptions, TlsInfo, TlsOptions};

macro_rules! unwind_safe {
    ($($handle:ty),*) => {
        $(
            impl UnwindSafe for $handle {}
            impl RefUnwindSafe for $handle {}
        )*
    };
}

unwind_safe!(Socket, Reader, Writer, Listener, Connector);
unwind_safe!(SocketOptions, ListenOptions, TlsOptions, ServerTlsOptions, SocketInfo, TlsInfo);
