//! Steps: what stateful fragments hold until the frontier has passed it, and then take tick by
//! tick. Timely's timestamps are as coarse as speed asks; each record carries its tick, so what a
//! fragment says follows from the ticks alone.
//!
//! Batches stay as they came; a step puts the *runs* of one tick in order, not the records.

use std::ops::Range;

use crate::batch::{Batch, Head, Record};
use crate::visit::Tick;

/// Records that are not complete yet.
#[derive(Debug, Default)]
pub struct Steps {
    /// Their runs are in the order of arrival.
    pending: Step,
}

/// Records of complete ticks.
#[derive(Debug, Default)]
pub struct Step {
    /// The records.
    pub records: Records,
    /// Their runs, in the order of ticks; those of one tick in the order of arrival.
    pub runs: Vec<Run>,
}

/// The records of a step, by place.
#[derive(Debug, Default)]
pub struct Records {
    batches: Vec<Batch>,
}

/// Records of one batch and one tick that follow one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Their tick.
    pub tick: Tick,
    batch: u32,
    heads: Range<u32>,
}

/// Where in a step a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    batch: u32,
    index: u32,
}

impl Steps {
    /// Holds a batch.
    pub fn push(&mut self, batch: Batch) {
        self.pending.push(batch);
    }

    /// All records whose tick lies before `until`, where every tick before is complete. What lies
    /// at or after it is held on. Costs something by the run, by the record only in batches that are
    /// held on in part or whole.
    pub fn complete(&mut self, until: Tick) -> Step {
        let mut step = std::mem::take(&mut self.pending);
        if step.runs.iter().any(|run| run.tick >= until) {
            let Step { records, runs } = std::mem::take(&mut step);
            let mut runs = runs.chunk_by(|a, b| a.batch == b.batch);
            for mut batch in records.batches {
                let runs = runs.next().unwrap_or_default();
                let ready = runs.iter().filter(|run| run.tick < until).count();
                if ready == 0 {
                    self.pending.push(batch);
                    continue;
                }
                if ready < runs.len() {
                    let mut later = batch.sharing();
                    batch.heads_mut().retain(|head| {
                        let now = head.tick < until;
                        if !now {
                            later.push_head(*head);
                        }
                        now
                    });
                    self.pending.push(later);
                }
                step.push(batch);
            }
        }
        if !step.runs.is_sorted_by_key(|run| run.tick) {
            step.runs.sort_by_key(|run| run.tick);
        }
        step
    }
}

impl Step {
    fn push(&mut self, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        let number = self.records.batches.len() as u32;
        let mut first = 0;
        for run in batch.heads().chunk_by(|a, b| a.tick == b.tick) {
            let end = first + run.len() as u32;
            self.runs.push(Run {
                tick: run[0].tick,
                batch: number,
                heads: first..end,
            });
            first = end;
        }
        self.records.batches.push(batch);
    }

    /// All records, in the order of ticks.
    pub fn in_order(&self) -> impl Iterator<Item = Record<'_>> {
        let places = self.runs.iter().flat_map(Run::places);
        places.map(|place| self.records.record(place))
    }

    /// The batches, without the records at `out`, which come apart.
    pub fn into_batches(self, out: &mut [Place]) -> (Vec<Batch>, Vec<Batch>) {
        let mut batches = self.records.batches;
        let mut apart = Vec::new();
        out.sort_unstable();
        for places in out.chunk_by(|a, b| a.batch == b.batch) {
            let batch = &mut batches[places[0].batch as usize];
            let mut own = batch.sharing();
            let heads = batch.heads_mut();
            let mut kept = places[0].index as usize;
            for (n, place) in places.iter().enumerate() {
                let gap = place.index as usize;
                let next = places.get(n + 1).map_or(heads.len(), |p| p.index as usize);
                own.push_head(heads[gap]);
                heads.copy_within(gap + 1..next, kept);
                kept += next - (gap + 1);
            }
            heads.truncate(kept);
            apart.push(own);
        }
        batches.retain(|batch| !batch.is_empty());
        (batches, apart)
    }
}

impl Run {
    /// Where its records are, in order.
    pub fn places(&self) -> impl Iterator<Item = Place> + use<> {
        let batch = self.batch;
        self.heads.clone().map(move |index| Place { batch, index })
    }
}

impl Records {
    /// The head at a place.
    #[inline]
    pub fn head(&self, place: Place) -> &Head {
        &self.batches[place.batch as usize].heads()[place.index as usize]
    }

    /// The same, to be changed. What it points to must stay.
    #[inline]
    pub fn head_mut(&mut self, place: Place) -> &mut Head {
        &mut self.batches[place.batch as usize].heads_mut()[place.index as usize]
    }

    /// The record at a place.
    #[inline]
    pub fn record(&self, place: Place) -> Record<'_> {
        let batch = &self.batches[place.batch as usize];
        batch.record(&batch.heads()[place.index as usize])
    }

    /// Puts the records at `from` to the places `to`, one by one; both name the same places.
    pub fn permute(&mut self, from: &[Place], to: &[Place]) {
        let heads: Vec<_> = from
            .iter()
            .map(|place| (*self.head(*place), place.batch))
            .collect();
        for ((mut head, batch), place) in heads.into_iter().zip(to) {
            if batch != place.batch {
                let heap = self.batches[batch as usize].heap(&head).clone();
                head.heap = self.batches[place.batch as usize].add_heap(heap);
            }
            *self.head_mut(*place) = head;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;

    fn batch(records: &[(Tick, &str)]) -> Batch {
        let mut builder = BatchBuilder::default();
        for (tick, body) in records {
            let head = Head {
                tick: *tick,
                ..Head::default()
            };
            builder.push(head, b"", body.as_bytes(), |_| ());
        }
        builder.take()
    }

    fn bodies<'a>(records: impl Iterator<Item = Record<'a>>) -> String {
        records
            .map(|r| String::from_utf8(r.body.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn a_step_is_in_order_of_ticks_then_of_arrival_and_holds_on_what_is_not_complete() {
        let mut steps = Steps::default();
        steps.push(batch(&[(1, "a"), (2, "d"), (2, "e"), (5, "x")]));
        steps.push(batch(&[(3, "g"), (1, "b"), (1, "c"), (2, "f")]));
        assert_eq!(bodies(steps.complete(4).in_order()), "abcdefg");
        assert_eq!(bodies(steps.complete(5).in_order()), "");
        assert_eq!(bodies(steps.complete(6).in_order()), "x");
    }

    #[test]
    fn records_change_places_with_their_bytes_and_leave_their_batches() {
        let mut steps = Steps::default();
        steps.push(batch(&[(1, "a"), (1, "b")]));
        steps.push(batch(&[(1, "c"), (1, "d")]));
        let mut step = steps.complete(2);
        let places: Vec<_> = step.runs.iter().flat_map(Run::places).collect();
        let turned: Vec<_> = places.iter().rev().copied().collect();
        step.records.permute(&turned, &places);
        assert_eq!(bodies(step.in_order()), "dcba");
        let (batches, apart) = step.into_batches(&mut [places[3], places[0]]);
        assert_eq!(bodies(batches.iter().flat_map(Batch::records)), "cb");
        assert_eq!(bodies(apart.iter().flat_map(Batch::records)), "da");
    }
}
