//! The runtime on which the tasks run.

use std::future::Future;
use std::io;

use tokio::runtime::Runtime;

use crate::api::Slice;

/// A runtime on which work runs.
pub struct ClientRuntime {
    pub runtime: Runtime,
}

impl ClientRuntime {
    pub fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = io::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        self.runtime.block_on(async {
            tokio::spawn(work).await.expect("a panic ends this process at once")
        })
    }

    /// Makes turns that pass `state` on from one to the next.
    pub fn turns<S: Send + 'static, F>(self, state: S, turn: impl Fn(S) -> F + 'static) -> Slice
    where
        F: Future<Output = io::Result<(S, Vec<f64>)>> + Send + 'static,
    {
        let mut handed_on = Some(state);
        Box::new(move || {
            let state = handed_on.take().expect("a client whose turn failed takes no other");
            let (state, figures) = self.run(turn(state))?;
            handed_on = Some(state);
            Ok(figures)
        })
    }
}
