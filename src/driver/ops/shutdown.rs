//! Closes all sockets of a scope or of a connector.

use std::sync::Arc;
use std::time::Duration;

use crate::driver::connection::call_timer::WaitLimit;
use crate::driver::connection::{Connection, SocketRegistry};
use crate::driver::event_loop;
use crate::driver::registry::ScopeId;

impl SocketRegistry {
    /// Closes all sockets of a scope at once and waits until they are closed. Each socket has its own close timeout.
    pub(crate) fn end_scope(&self, id: ScopeId) {
        let mut again = false;
        while let Some(sockets) = self.closing_members(id) {
            if std::mem::replace(&mut again, true) {
                self.wait_slot_freed();
            }
            close_all(&sockets);
            if event_loop::is_loop_thread() {
                // The sockets finish closing without a waiting caller.
                return;
            }
            for socket in sockets {
                socket.fail_on_panic(|| socket.wait_closed_and_flushed(None));
            }
        }
    }

    /// Closes the listeners, refuses new sockets, closes all existing ones for at most `limit`, and aborts the rest.
    /// Returns how many sockets had to be reset before their accepted data was handed to the kernel.
    pub(crate) fn shutdown(&self, limit: Duration) -> usize {
        self.shutdown_until(WaitLimit::after(limit))
    }

    pub(crate) fn shutdown_until(&self, until: WaitLimit) -> usize {
        for listener in self.take_listeners() {
            listener.abort(until);
        }
        let (mut reset, mut again) = (0, false);
        while let Some(sockets) = self.remaining() {
            if std::mem::replace(&mut again, true) {
                self.wait_slot_freed();
            }
            close_all(&sockets);
            if event_loop::is_loop_thread() {
                return 0;
            }
            for socket in sockets {
                let was_reset =
                    socket.fail_on_panic(|| match socket.wait_closed_and_flushed(Some(until)) {
                        true => socket.close_timed_out(),
                        false => socket.abort_reporting_loss(),
                    });
                reset += usize::from(was_reset);
            }
        }
        reset
    }
}

/// Starts to close the sockets, without waiting.
fn close_all(sockets: &[Arc<Connection>]) {
    for socket in sockets {
        socket.fail_on_panic(|| socket.begin_close());
    }
}
