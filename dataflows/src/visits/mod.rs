//! Assigns each measurement to its visit, at once, and says when visits begin, end and are revised.
//!
//! [`visits`] is the fragment; [`state`] is what it keeps. The rule itself stands in
//! [`crate::visit`].

mod browsers;
mod index;
mod near;
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

use crate::batch::Batch;
use crate::step::Steps;
use crate::visit::Rules;
pub use state::{Change, Lifecycle, Open, Said};

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
/// Costs some 100 to 200 ns a measurement; see [`state`] for what it keeps.
///
/// ```
/// use timely::dataflow::operators::{Capture, Input, capture::Extract};
/// use visitflow_dataflows::batch::{Batch, BatchBuilder, Head};
/// use visitflow_dataflows::visit::{Position, Rules, browser_key};
/// use visitflow_dataflows::visits::visits;
///
/// let ended = timely::example(|scope| {
///     let mut batch = BatchBuilder::default();
///     for time in [0, 60_000, 3_600_000] {
///         let at = Position { time, event: [0, time as u64] };
///         let head = Head { browser: browser_key(b"b"), at, tick: time as u64 + 5_000, ..Head::default() };
///         batch.push(head, b"b", b"", |_| ());
///     }
///     let (mut input, stream) = scope.new_input::<Batch>();
///     let said = visits(stream, Rules::default()).lifecycle.capture();
///     input.send_batch(&mut batch.take()); // Not before somebody listens: timely would wait for it forever.
///     said
/// });
/// // The first visit began, the second began, the first ended, the second ended.
/// assert_eq!(ended.extract().into_iter().map(|(_, said)| said.len()).sum::<usize>(), 4);
/// ```
pub fn visits<'s>(accepted: Stream<'s, u64, Batch>, rules: Rules) -> Visits<'s> {
    let mut builder = OperatorBuilder::new("Visits".to_owned(), accepted.scope());
    let mut input = builder.new_input(accepted, Pipeline);
    let (tagged, tagged_stream) = builder.new_output();
    let (repeated, repeated_stream) = builder.new_output();
    let (lifecycle, lifecycle_stream) = builder.new_output();
    let mut tagged = OutputBuilder::<_, CapacityContainerBuilder<Batch>>::from(tagged);
    let mut repeated = OutputBuilder::<_, CapacityContainerBuilder<Batch>>::from(repeated);
    let mut lifecycle =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<Lifecycle>>>::from(lifecycle);
    let open = Rc::new(Cell::new(0));
    let gauge = open.clone();
    builder.build(move |mut caps| {
        let mut state = Open::new(rules);
        let mut steps = Steps::default();
        let mut said = Said::default();
        move |frontiers| {
            input.for_each(|_, batch| steps.push(std::mem::take(batch)));
            let Some(now) = caps.first().map(|cap| *cap.time()) else {
                return;
            };
            let until = frontiers[0].frontier().first().copied().unwrap_or(u64::MAX);
            if until <= now {
                return;
            }
            let mut step = steps.complete(until);
            state.advance(&mut step, &mut said);
            let mut lifecycle = lifecycle.activate();
            loop {
                let more = state.seal_before(until, &mut said);
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
            drop(lifecycle);
            gauge.set(state.visits());

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
            if frontiers[0].is_empty() {
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
        open,
    }
}
