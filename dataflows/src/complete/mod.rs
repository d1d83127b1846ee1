//! Whole visits: keeps the measurements of open visits, and gives each visit's out, whole and in
//! order, when it is sealed. [`complete`] is the fragment, [`Measurements`] what it keeps.

mod by_browser;
mod kept;
pub mod saved;
mod watch;
mod whole;

use std::collections::{BTreeMap, VecDeque};

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::batch::{Batch, Head, Record};
use crate::cut::{Cut, Cuts};
use crate::visit::Tick;
use crate::visits::{Change, Lifecycle, Visits, complete_until};
pub use by_browser::Key;
pub(crate) use by_browser::{ByBrowser, PARTS, Slot};
pub use kept::{Chunks, Measurements, NoStore, Payloads, Saving};
use saved::Collected;
pub use watch::{Nobody, Watch};
pub use whole::{Complete, Kept, Looked};

/// So many bytes of visits are given out at once.
const ENOUGH: usize = 32 << 20;
/// So many bytes are collected for a snapshot before others have the thread again.
const PART: usize = 512 << 10;
/// So many entries of what the watch keeps go into a snapshot at once: some ten milliseconds.
const ENTRIES: usize = 8_192;
/// So many visits are looked for in the store at once.
const TOGETHER: usize = 4_096;

/// What surrounds [`complete`].
pub trait Surroundings<P: Payloads> {
    /// The bytes kept have grown, or shrunk, by so many.
    fn kept(&mut self, change: i64);
    /// The store has met an error; nothing more is given out.
    fn failed(&mut self, error: P::Error);
    /// The state as of a snapshot's tick, all of it in the store.
    fn save(&mut self, at: Tick, rows: Collected, store: &mut P);
    /// The last tick whose sealed visits tables hold for sure.
    fn committed(&self) -> Tick;
}

/// Keeps what is tagged until its visit is sealed; gives out sealed visits, whole, in the order of
/// their seals, and what `watch` says of visits while they are open. It begins with what is kept in
/// `measurements`, and first gives out again what was sealed before and is not in a table.
///
/// Costs a look-up and a copy of its bytes a measurement; what is in a store is read again once.
pub fn complete<'s, P: Payloads + 'static, W: Watch<P> + 'static>(
    visits: &Visits<'s>,
    cuts: StreamVec<'s, u64, Cut>,
    questions: StreamVec<'s, u64, W::Question>,
    measurements: Measurements<P>,
    mut watch: W,
    mut around: impl Surroundings<P> + 'static,
) -> (StreamVec<'s, u64, Complete>, StreamVec<'s, u64, W::Said>) {
    let mut builder = OperatorBuilder::new("Complete".to_owned(), visits.tagged.scope());
    let mut tagged = builder.new_input(visits.tagged.clone(), Pipeline);
    let mut repeated = builder.new_input(visits.repeated.clone(), Pipeline);
    let mut lifecycle = builder.new_input(visits.lifecycle.clone(), Pipeline);
    let mut heard = builder.new_input(cuts, Pipeline);
    let mut asked = builder.new_input(questions, Pipeline);
    let (output, stream) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Complete>>>::from(output);
    let (says, says_stream) = builder.new_output();
    let mut says = OutputBuilder::<_, CapacityContainerBuilder<Vec<W::Said>>>::from(says);
    let activator = visits
        .tagged
        .scope()
        .activator_for(builder.operator_info().address);
    builder.build(move |caps| {
        let mut caps = caps;
        let mut kept = measurements;
        let mut ends: VecDeque<Lifecycle> = VecDeque::new();
        let mut revised: VecDeque<(Tick, Key)> = VecDeque::new();
        let mut cuts = Cuts::default();
        // What is tagged behind a cut that is not passed waits: the cut's snapshot must not hold it.
        let mut waiting = Waiting::default();
        let mut questions: BTreeMap<Tick, Vec<W::Question>> = BTreeMap::new();
        let mut said = Vec::new();
        let mut again = Some(0);
        let mut heard_bytes = 0;
        // A snapshot that is being collected, a part each time, so that tags go on in between: they do
        // not come by here. What is said of open visits, and their ends, waits until it is whole.
        let mut saving = None;
        // What the watch has of it comes first.
        let mut saved_at: Option<(Tick, bool)> = None;
        move |frontiers| {
            tagged.for_each(|_, batch| waiting.add(std::mem::take(batch), true, &watch));
            repeated.for_each(|_, batch| waiting.add(std::mem::take(batch), false, &watch));
            asked.for_each(|_, asked| {
                for question in asked.drain(..) {
                    questions
                        .entry(W::at(&question))
                        .or_default()
                        .push(question);
                }
            });
            lifecycle.for_each(|_, said| {
                for said in said.drain(..) {
                    match said.change {
                        Change::Ended { .. } => ends.push_back(said),
                        Change::Revised { .. } => revised.push_back((said.tick, said.browser)),
                        Change::Started { .. } => {}
                    }
                }
            });
            heard.for_each(|_, heard| heard.drain(..).for_each(|cut| cuts.add(cut)));
            let [held, saying] = &mut caps[..] else {
                return;
            };
            let until = complete_until(frontiers);
            let mut step = || -> Result<Tick, P::Error> {
                let mut give = |visits: &mut Vec<Complete>| {
                    if !visits.is_empty() {
                        output.activate().session(&*held).give_container(visits);
                    }
                };
                if again.is_none_or(|n| n == 0) && saved_at.is_none() {
                    kept.committed(around.committed())?;
                }
                // What was sealed before the snapshot comes first, a part at a time.
                if let Some(n) = again {
                    let (seen, mut visits) = kept.again(n, ENOUGH)?;
                    again = (seen > 0).then_some(n + seen);
                    give(&mut visits);
                    if again.is_some() {
                        activator.activate();
                        return Ok(*held.time());
                    }
                }
                loop {
                    if let Some((tick, watched)) = &mut saved_at {
                        let tick = *tick;
                        if !*watched {
                            *watched = watch.save_some(tick, ENTRIES);
                            activator.activate();
                            return Ok(*held.time());
                        }
                        let Some(rows) = kept.save_some(&mut saving, PART)? else {
                            activator.activate();
                            return Ok(*held.time());
                        };
                        if let Some(store) = kept.store() {
                            around.save(tick, rows, store);
                        }
                        saved_at = None;
                    }
                    // Of a cut or a question that is to come nothing is known before the frontier is
                    // there.
                    let cut = cuts.first().filter(|cut| *cut <= until);
                    let question = questions.keys().next().copied().unwrap_or(u64::MAX);
                    let end = ends
                        .front()
                        .map_or(u64::MAX, |end| watch.boundary(end.tick));
                    let boundary = end.min(waiting.first()).min(watch.due());
                    let limit = cut.unwrap_or(until).min(question).min(boundary);
                    let mut met = Ok(());
                    waiting.give_before(limit, |records, first| {
                        if first {
                            watch.measured(records);
                        }
                        for record in records {
                            if !first && met.is_ok() {
                                met = watch.repeated(*record, &mut kept);
                            }
                            kept.add(*record);
                        }
                    });
                    met?;
                    // What revises a visit was tagged in the same tick.
                    let ready = revised.partition_point(|(tick, _)| *tick < limit);
                    revised
                        .drain(..ready)
                        .for_each(|(_, browser)| watch.revised(browser));
                    let mut given = 0;
                    while ends.front().is_some_and(|end| end.tick < limit) {
                        if given > ENOUGH {
                            activator.activate();
                            return Ok(ends[0].tick.max(*held.time()).min(until));
                        }
                        let ready = ends.partition_point(|end| end.tick < limit).min(TOGETHER);
                        let ready: Vec<Lifecycle> = ends.drain(..ready).collect();
                        // Their step ends, even if nothing else happens in it.
                        ready.iter().for_each(|end| waiting.begin(end.tick, &watch));
                        let mut visits = kept.complete(&ready)?;
                        given += visits.iter().map(Complete::bytes).sum::<usize>();
                        visits.iter().for_each(|visit| watch.sealed(visit));
                        give(&mut visits);
                    }
                    if boundary == limit && limit != u64::MAX {
                        watch.stepped(limit, &mut kept, &mut said)?;
                        waiting.stepped(limit);
                        if !said.is_empty() {
                            says.activate()
                                .session(&*saying)
                                .give_iterator(said.drain(..));
                        }
                        continue;
                    }
                    if question == limit
                        && let Some(asked) = questions.remove(&question)
                    {
                        for question in asked {
                            watch.asked(question, &mut kept, &mut said)?;
                        }
                        if !said.is_empty() {
                            says.activate()
                                .session(&*saying)
                                .give_iterator(said.drain(..));
                        }
                        continue;
                    }
                    match cut.and_then(|cut| cuts.next(cut)) {
                        Some(cut) if cut.snapshot => saved_at = Some((cut.tick, false)),
                        Some(_) => {}
                        None => break,
                    }
                }
                if until == u64::MAX {
                    watch.ended(&mut kept, &mut said)?;
                    if !said.is_empty() {
                        says.activate()
                            .session(&*saying)
                            .give_iterator(said.drain(..));
                    }
                }
                kept.spill()?;
                Ok(until)
            };
            let to = match step() {
                Ok(to) => to,
                Err(error) => {
                    around.failed(error);
                    return;
                }
            };
            around.kept(kept.bytes() as i64 - heard_bytes);
            heard_bytes = kept.bytes() as i64;
            if to == u64::MAX {
                caps.clear();
            } else if to > *held.time() {
                held.downgrade(&to);
                saying.downgrade(&to);
            }
        }
    });
    (stream, says_stream)
}

/// So many measurements are given together: enough to wait for memory once and not for each, and few
/// enough that what was loaded is still there.
const SOME: usize = 32;

/// What is tagged and not kept yet, by the boundary of its step.
#[derive(Default)]
struct Waiting(BTreeMap<Tick, Vec<(Batch, bool)>>);

impl Waiting {
    fn add<P: Payloads, W: Watch<P>>(&mut self, batch: Batch, first: bool, watch: &W) {
        let Some(head) = batch.heads().first() else {
            return;
        };
        // Live a batch is of one step, mostly; in a replay of several.
        let boundary = watch.boundary(head.tick);
        let same = |head: &Head| watch.boundary(head.tick) == boundary;
        if batch.heads().iter().all(same) {
            self.0.entry(boundary).or_default().push((batch, first));
            return;
        }
        let mut steps: BTreeMap<Tick, Batch> = BTreeMap::new();
        for head in batch.heads() {
            let step = steps.entry(watch.boundary(head.tick));
            step.or_insert_with(|| batch.sharing()).push_head(*head);
        }
        for (boundary, batch) in steps {
            self.0.entry(boundary).or_default().push((batch, first));
        }
    }

    /// The step that has this tick is to end.
    fn begin<P: Payloads, W: Watch<P>>(&mut self, tick: Tick, watch: &W) {
        let boundary = watch.boundary(tick);
        if boundary < u64::MAX {
            self.0.entry(boundary).or_default();
        }
    }

    /// The first boundary for which something waits.
    fn first(&self) -> Tick {
        self.0.keys().next().copied().unwrap_or(u64::MAX)
    }

    /// Gives what was tagged before `limit`, which does not lie behind the first boundary, some at a
    /// time: so who takes it can begin to load what it needs of all of them.
    fn give_before(&mut self, limit: Tick, mut give: impl FnMut(&[Record<'_>], bool)) {
        let Some(mut step) = self.0.first_entry() else {
            return;
        };
        // What is said of a repetition needs what was first.
        step.get_mut().sort_by_key(|(_, first)| !first);
        step.get_mut().retain_mut(|(batch, first)| {
            let mut later = 0;
            let mut some = Vec::with_capacity(SOME);
            for record in batch.records() {
                if record.head.tick >= limit {
                    later += 1;
                    continue;
                }
                some.push(record);
                if some.len() == SOME {
                    give(&some, *first);
                    some.clear();
                }
            }
            if !some.is_empty() {
                give(&some, *first);
            }
            if later > 0 {
                batch.heads_mut().retain(|head| head.tick >= limit);
            }
            later > 0
        });
        if step.get().is_empty() && *step.key() == u64::MAX {
            step.remove();
        }
    }

    /// A boundary is passed.
    fn stepped(&mut self, at: Tick) {
        self.0.remove(&at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, Head};
    use crate::visit::{EndReason, Position};

    fn keep(kept: &mut Measurements<NoStore>, records: &[(i64, u64, &str)]) {
        let mut builder = BatchBuilder::default();
        for (time, event, body) in records {
            let head = Head {
                at: Position {
                    time: *time,
                    event: [0, *event],
                },
                ..Head::default()
            };
            builder.push(head, b"b", body.as_bytes(), |out| out.push(b'c'));
        }
        builder.take().records().for_each(|record| kept.add(record));
    }

    fn ended(measurements: u32) -> Lifecycle {
        let change = Change::Ended {
            visit: [1, 2],
            started: 1,
            last_seen: 2,
            measurements,
            reason: EndReason::Size,
        };
        Lifecycle {
            tick: 9_000,
            shard: 0,
            browser: [0; 2],
            browser_id: (*b"b").into(),
            change,
        }
    }

    #[test]
    fn a_visit_is_the_first_of_its_browsers_measurements_in_order_and_the_rest_stays() {
        let mut kept = Measurements::<NoStore>::default();
        keep(
            &mut kept,
            &[(5, 1, "e"), (1, 1, "a"), (3, 2, "c"), (3, 1, "b")],
        );
        let bodies = |c: &Complete| {
            c.measurements()
                .map(|m| String::from_utf8(m.body.to_vec()).unwrap())
                .collect::<String>()
        };
        assert_eq!(bodies(&kept.complete(&[ended(3)]).unwrap()[0]), "abc");
        keep(&mut kept, &[(4, 1, "d"), (6, 1, "f"), (7, 1, "g")]);
        let other = Lifecycle {
            browser: [1; 2],
            ..ended(0)
        };
        let whole = kept.complete(&[ended(2), other, ended(1)]).unwrap();
        assert_eq!(
            whole.iter().map(bodies).collect::<Vec<_>>(),
            ["de", "", "f"]
        );
        assert_eq!(bodies(&kept.complete(&[ended(1)]).unwrap()[0]), "g");
        assert_eq!(kept.bytes(), 0);
    }

    #[test]
    fn of_one_identity_the_least_bytes_are_kept() {
        let mut kept = Measurements::<NoStore>::default();
        keep(&mut kept, &[(1, 1, "b"), (1, 1, "a"), (1, 1, "ab")]);
        let whole = kept.complete(&[ended(1)]).unwrap().remove(0);
        assert_eq!(whole.len(), 1);
        assert_eq!(whole.measurements().next().unwrap().body, b"a");
    }
}
