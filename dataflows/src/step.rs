//! Steps: what stateful fragments hold until the frontier has passed it, and then take tick by
//! tick. Timely's timestamps are as coarse as speed asks; each record carries its tick, so what a
//! fragment says follows from the ticks alone.

use crate::batch::Batch;
use crate::visit::Tick;

/// Records that are not complete yet.
#[derive(Debug, Default)]
pub struct Steps {
    pending: Vec<Batch>,
}

/// Records of complete ticks, in the order of ticks; within a tick, in the order of arrival.
#[derive(Debug, Default)]
pub struct Step {
    batch: Batch,
    order: Vec<u32>,
}

impl Steps {
    /// Holds a batch.
    pub fn push(&mut self, batch: Batch) {
        self.pending.push(batch);
    }

    /// All records whose tick lies before `until`, where every tick before is complete. What lies
    /// at or after it is held on. Linear where batches come in order of ticks.
    pub fn complete(&mut self, until: Tick) -> Step {
        let mut batch = Batch::default();
        for pending in std::mem::take(&mut self.pending) {
            if pending.heads().iter().all(|head| head.tick < until) {
                batch.append(pending);
                continue;
            }
            let (mut now, mut later) = (pending.sharing(), pending.sharing());
            for head in pending.heads() {
                if head.tick < until {
                    now.push_head(*head)
                } else {
                    later.push_head(*head)
                }
            }
            if !now.is_empty() {
                batch.append(now);
            }
            self.pending.push(later);
        }
        let mut order: Vec<u32> = (0..batch.heads().len() as u32).collect();
        if !batch.heads().is_sorted_by_key(|head| head.tick) {
            order.sort_by_key(|i| batch.heads()[*i as usize].tick);
        }
        Step { batch, order }
    }
}

impl Step {
    /// The records; [`Step::ticks`] says which belong to which tick.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Each tick that has records, with the indexes of their heads.
    pub fn ticks(&self) -> impl Iterator<Item = (Tick, &[u32])> {
        let tick = |i: &u32| self.batch.heads()[*i as usize].tick;
        self.order
            .chunk_by(move |a, b| tick(a) == tick(b))
            .map(move |order| (tick(&order[0]), order))
    }
}
