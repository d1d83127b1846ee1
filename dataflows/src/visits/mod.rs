//! Assigns each measurement to its visit, at once, and says when visits begin, end and are revised.
//!
//! [`visits`] is the fragment; [`state`] is what it keeps. The rule itself stands in
//! [`crate::visit`].

mod browsers;
mod index;
pub mod saved;
pub mod state;
mod tail;
mod timers;

use std::cell::Cell;
use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Stream, StreamVec};
use timely::progress::frontier::MutableAntichain;

use crate::batch::Batch;
use crate::cut::{Cut, Cuts};
use crate::step::Steps;
use crate::visit::Tick;
use saved::Copied;
pub use state::{Change, Lifecycle, Open, Said};

/// So much is copied for a snapshot before others have the thread again: memory that is new to the
/// process costs some 2 µs a kilobyte, and a tag may have to wait for a dozen such parts on its way.
const PART: usize = 256 << 10;

/// What [`visits`] says.
pub struct Visits<'s> {
    /// Each accepted measurement once, tagged with its visit, in order of ticks.
    pub tagged: Stream<'s, u64, Batch>,
    /// Measurements that were there already.
    pub repeated: Stream<'s, u64, Batch>,
    /// Beginnings, revisions and ends of visits.
    pub lifecycle: StreamVec<'s, u64, Lifecycle>,
    /// How many visits this worker has open, for whoever shows it.
    pub open: Rc<Cell<usize>>,
}

/// Assigns accepted measurements to visits. `accepted` must be sharded: all of a browser's on one
/// worker. Timestamps are steps: every record's tick lies at or after its message's timestamp, and
/// before the frontier which completes it; what is said does not depend on how coarse they are.
///
/// It begins with the visits that are `open`. Of each of `cuts` that wants a snapshot, `save` is
/// given a copy of the state as of that tick, in the order of cuts. The copy is made in parts while
/// ticks go on, so that no tag waits for it: the frontier may have passed the tick by then, but it
/// does not end before, and a copy is whole before the next is begun.
///
/// Costs some 100 to 200 ns a measurement; see [`state`] for what it keeps.
///
/// ```
/// use timely::dataflow::operators::generic::operator::empty;
/// use timely::dataflow::operators::{Capture, Input, capture::Extract};
/// use visitflow_dataflows::batch::{Batch, BatchBuilder, Head};
/// use visitflow_dataflows::visit::{Position, Rules, browser_key};
/// use visitflow_dataflows::visits::{Open, visits};
///
/// let ended = timely::example(|scope| {
///     let mut batch = BatchBuilder::default();
///     for time in [0, 60_000, 3_600_000] {
///         let at = Position { time, event: [0, time as u64] };
///         let head = Head { browser: browser_key(b"b"), at, tick: time as u64 + 5_000, ..Head::default() };
///         batch.push(head, b"b", b"", |_| ());
///     }
///     let (mut input, stream) = scope.new_input::<Batch>();
///     let open = Open::new(Rules::default());
///     let said = visits(stream, empty(scope), open, |_, _| ()).lifecycle.capture();
///     input.send_batch(&mut batch.take()); // Not before somebody listens: timely would wait for it forever.
///     said
/// });
/// // The first visit began, the second began, the first ended, the second ended.
/// assert_eq!(ended.extract().into_iter().map(|(_, said)| said.len()).sum::<usize>(), 4);
/// ```
pub fn visits<'s>(
    accepted: Stream<'s, u64, Batch>,
    cuts: StreamVec<'s, u64, Cut>,
    open: Open,
    mut save: impl FnMut(Tick, Copied) + 'static,
) -> Visits<'s> {
    let scope = accepted.scope();
    let mut builder = OperatorBuilder::new("Visits".to_owned(), scope);
    let mut input = builder.new_input(accepted, Pipeline);
    let mut heard = builder.new_input(cuts, Pipeline);
    let (tagged, tagged_stream) = builder.new_output();
    let (repeated, repeated_stream) = builder.new_output();
    let (lifecycle, lifecycle_stream) = builder.new_output();
    let mut tagged = OutputBuilder::<_, CapacityContainerBuilder<Batch>>::from(tagged);
    let mut repeated = OutputBuilder::<_, CapacityContainerBuilder<Batch>>::from(repeated);
    let mut lifecycle =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Lifecycle>>>::from(lifecycle);
    let activator = scope.activator_for(builder.operator_info().address);
    let gauge = Rc::new(Cell::new(open.visits()));
    let shown = gauge.clone();
    builder.build(move |mut caps| {
        let mut state = open;
        let mut steps = Steps::default();
        let mut said = Said::default();
        let mut cuts = Cuts::default();
        move |frontiers| {
            input.for_each(|_, batch| steps.push(std::mem::take(batch)));
            heard.for_each(|_, heard| heard.drain(..).for_each(|cut| cuts.add(cut)));
            let Some(now) = caps.first().map(|cap| *cap.time()) else {
                return;
            };
            let until = complete_until(frontiers);
            let mut copy = |bytes: usize, state: &mut Open| {
                if let Some((at, copied)) = state.copy_some(bytes) {
                    save(at, copied);
                }
                if state.is_copying() {
                    activator.activate();
                }
            };
            if until <= now {
                copy(PART, &mut state);
                return;
            }
            let mut advance = |to: Tick, state: &mut Open| {
                let mut step = steps.complete(to);
                state.advance(&mut step, &mut said);
                let mut lifecycle = lifecycle.activate();
                loop {
                    let more = state.seal_before(to, &mut said);
                    if !said.lifecycle.is_empty() {
                        lifecycle
                            .session(&caps[2])
                            .give_container(&mut said.lifecycle);
                        said.lifecycle.clear();
                    }
                    if !more {
                        break;
                    }
                }
                let (mut batches, mut again) = step.into_batches(&mut said.repeated);
                said.repeated.clear();
                for (port, batches, output) in [
                    (0, &mut batches, &mut tagged),
                    (1, &mut again, &mut repeated),
                ] {
                    let mut output = output.activate();
                    for batch in batches {
                        output.session(&caps[port]).give_container(batch);
                    }
                }
            };
            while let Some(cut) = cuts.next(until) {
                if cut.snapshot {
                    advance(cut.tick, &mut state);
                    // Nobody waits for the last snapshot so long but in a replay.
                    while state.is_copying() {
                        copy(usize::MAX, &mut state);
                    }
                    state.begin_copy(cut.tick);
                }
            }
            advance(until, &mut state);
            gauge.set(state.visits());
            // At the end nothing is left that might have to wait.
            let part = if until == u64::MAX { usize::MAX } else { PART };
            copy(part, &mut state);
            if until == u64::MAX {
                caps.clear();
            } else {
                caps.iter_mut().for_each(|cap| cap.downgrade(&until));
            }
        }
    });
    Visits {
        tagged: tagged_stream,
        repeated: repeated_stream,
        lifecycle: lifecycle_stream,
        open: shown,
    }
}

/// Up to where all of an operator's inputs are complete; `u64::MAX` at their end.
pub(crate) fn complete_until(frontiers: &[MutableAntichain<u64>]) -> Tick {
    let first = |frontier: &MutableAntichain<u64>| frontier.frontier().first().copied();
    frontiers.iter().filter_map(first).min().unwrap_or(u64::MAX)
}
