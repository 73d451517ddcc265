//! What a session leaves when it is over.

use super::Session;
use crate::info::Negotiated;
use crate::tls::{Failure, TlsSetup};

/// The remains of a session that is over.
#[derive(Debug, Default)]
pub(in super::super) struct Summary {
    pub(in super::super) negotiated: Option<Negotiated>,
    pub(in super::super) failure: Option<Failure>,
    /// The records to send last, such as an alert.
    pub(in super::super) final_records: Vec<u8>,
    /// Whether it is TLS with a proxy that failed.
    pub(in super::super) failed_with_proxy: bool,
    /// Whether nothing came in answer to a long ClientHello.
    pub(in super::super) is_unanswered: bool,
    /// Objects that may run the program's code when they are dropped.
    pub(in super::super) discarded: Option<Discarded>,
}

impl Summary {
    /// Creates the summary of a session that could not begin.
    pub(in super::super) fn of(failure: Failure) -> Self {
        Summary { failure: Some(failure), ..Summary::default() }
    }

    /// Keeps an unused setup, if dropping it may run the program's code.
    pub(in super::super) fn discard_setup(&mut self, setup: Option<TlsSetup>) {
        if let Some(setup) = setup.filter(TlsSetup::runs_foreign_code) {
            self.discarded.get_or_insert_default().setup = Some(setup);
        }
    }
}

/// A session or setup that is not needed any more. Dropping it may run the program's code.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "the fields exist only to be dropped")]
pub struct Discarded {
    session: Option<Box<Session>>,
    setup: Option<TlsSetup>,
}

impl Discarded {
    pub(in super::super) fn session(session: Box<Session>) -> Self {
        Discarded { session: Some(session), setup: None }
    }
}
