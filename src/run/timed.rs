//! A destination of topics whose commits are timed: from when ticks are given until they are
//! committed. Everything else it leaves to the one that it wraps.

use std::sync::Arc;
use std::time::Instant;

use timely::scheduling::SyncActivator;
use visitflow_dataflows::visit::Tick;

use super::metrics::Metrics;
use crate::sink::topics::Destination;
use crate::sink::{Position, SinkError};

/// Times the commits of a destination. Ticks in which nothing was pushed are none.
pub struct Timed<D> {
    inner: D,
    metrics: Arc<Metrics>,
    /// Whether anything was pushed since the last commit.
    pushed: bool,
    /// Up to where something was given.
    given: Tick,
    /// What is on its way, and since when.
    flying: Option<(Tick, Instant)>,
}

impl<D> Timed<D> {
    /// Around this destination.
    pub fn new(inner: D, metrics: Arc<Metrics>) -> Timed<D> {
        Timed {
            inner,
            metrics,
            pushed: false,
            given: 0,
            flying: None,
        }
    }
}

impl<D: Destination> Destination for Timed<D> {
    #[inline]
    fn push(
        &mut self,
        topic: usize,
        tick: Tick,
        shard: u8,
        key: &[u8],
        parts: &[&[u8]],
    ) -> Result<(), SinkError> {
        self.pushed = true;
        self.inner.push(topic, tick, shard, key, parts)
    }

    fn commit(&mut self, until: Tick, last: Tick, always: bool) -> Result<(), SinkError> {
        if std::mem::take(&mut self.pushed) {
            self.given = until;
            self.flying.get_or_insert_with(|| (until, Instant::now()));
        }
        self.inner.commit(until, last, always)
    }

    fn committed(&mut self) -> Result<Tick, SinkError> {
        let committed = self.inner.committed()?;
        if let Some((_, since)) = self.flying.take_if(|(until, _)| *until <= committed) {
            self.metrics.topics.took(since.elapsed());
            // What was given meanwhile is on its way from now on.
            self.flying = (self.given > committed).then(|| (self.given, Instant::now()));
        }
        Ok(committed)
    }

    fn positions(&mut self, at: Tick) -> Result<Vec<Position>, SinkError> {
        self.inner.positions(at)
    }

    fn wake(&mut self, activator: SyncActivator) {
        self.inner.wake(activator);
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.inner.close()
    }
}
