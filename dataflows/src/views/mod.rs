//! Views: sums by key over a window that moves on, which stay right while the past is corrected.
//!
//! A [`View`] says what is summed. What adds to it, a measurement or a visit, does so by
//! [`Contribution`]s, for which [`Present`] knows whose browsers are counted already; [`window`] keeps
//! those that count now; [`views`] makes rows of their sums and chooses the best. Work follows from what
//! changes, memory from the keys and browsers in the window: neither grows with what is measured.

mod best;
mod contribution;
mod numbers;
mod presence;
mod row;
mod spec;
mod window;

use std::rc::Rc;

use differential_dataflow::VecCollection;
use differential_dataflow::difference::IsZero;
use differential_dataflow::operators::CountTotal;
use differential_dataflow::operators::arrange::arrangement::arrange_core;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::implementations::{KeyBatcher, KeySpine};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;

use crate::cut::Cut;
use crate::durable::Durable;
pub use best::{Best, Changed, best};
pub use contribution::{Contribution, hour, minute};
pub use numbers::{Renumbered, identities};
pub use presence::{Change, Entering, Present, Span};
pub use row::{Key, Row, SUMS, Sums};
pub use spec::{Field, Of, PREFIX, Step, Value, View};
pub use window::{Counted, STEP, Window, shard_of, step_end, window};

/// The rows of all views and how they change, at the ticks at which they do: a row as of a tick is
/// over the view's window before it. `partitions` are those by which shards are dealt to workers.
///
/// Costs a few look-ups for each row that changes in a step; keeps each row three times (what counts,
/// differential's arrangement of it, and the best).
///
/// ```
/// use std::rc::Rc;
/// use timely::dataflow::operators::generic::operator::empty;
/// use timely::dataflow::operators::{Capture, Input, capture::Extract};
/// use visitflow_dataflows::durable::{Durable, Keeps, Nothing};
/// use visitflow_dataflows::fact::{Fact, Id};
/// use visitflow_dataflows::views::{Changed, Contribution, Field, View, views};
/// use visitflow_dataflows::visit::Position;
///
/// let said = timely::example(|scope| {
///     // How often each thing was measured in the last two seconds, as of each second.
///     let key = vec![Field::EntityId];
///     let view = View { key, window: 2_000, step: 1_000, ..View::default() };
///     let nothing: Rc<dyn Keeps> = Rc::new(Nothing);
///     let durable = Durable::open("views", &nothing);
///     let (mut input, stream) = scope.new_input::<Vec<Contribution>>();
///     let rows = views([view.clone()].into(), stream, empty(scope), 8, durable).capture();
///     for (time, id) in [(100, "tv"), (900, "tv"), (1_500, "radio"), (3_200, "tv")] {
///         let at = Position { time, event: [0; 2] };
///         let fact = Fact { at, entity_id: Some(Id::Text(id)), ..Fact::default() };
///         view.of_fact(&fact, |key, sums, _| {
///             let at = (time as u64 / 1_000 + 1) * 1_000; // Found at the end of its second.
///             let span = view.counts(view.window, at, time).unwrap();
///             input.send(Contribution { at, view: 0, key, sums: [(span, sums)].into() });
///         });
///     }
///     rows
/// });
/// let mut rows: Vec<_> = said.extract().into_iter().flat_map(|(_, rows)| rows).collect();
/// rows.sort();
/// let row = |c: &Changed| format!("{} {} {} {:+}", c.tick, c.row.0, c.row.1.0[0], c.diff);
/// assert_eq!(rows.iter().map(row).collect::<Vec<_>>(), [
///     "1000 tv 2 +1",
///     "2000 radio 1 +1",
///     "3000 tv 2 -1", // Both of the first second are gone.
///     "4000 radio 1 -1",
///     "4000 tv 1 +1",
/// ]);
/// ```
pub fn views<'s>(
    views: Rc<[View]>,
    contributions: StreamVec<'s, u64, Contribution>,
    cuts: StreamVec<'s, u64, Cut>,
    partitions: u32,
    durable: Durable,
) -> StreamVec<'s, u64, Changed> {
    let counted = window(views.clone(), contributions, cuts, partitions, durable);
    let rows = rows(views.clone(), counted);
    best(views, rows, partitions)
}

/// Rows of sums, which go and come as their sums change.
fn rows<'s>(
    views: Rc<[View]>,
    counted: VecCollection<'s, u64, Counted, Sums>,
) -> VecCollection<'s, u64, (u16, Row), isize> {
    // All that is said of a row comes from the worker that has its window, and stays there.
    type Batcher = KeyBatcher<Counted, u64, Sums>;
    let changes = counted.map(|row| (row, ())).inner;
    let sums: Arranged<'s, TraceAgent<KeySpine<Counted, u64, Sums>>> =
        arrange_core(changes, Pipeline, "Sums", Batcher::new);
    // A row of nothing but zeros is none: of a usual that comes to less than one, for example.
    sums.count_total_core()
        .flat_map(move |((view, key), sums)| {
            let sums = views[usize::from(view)].shown(sums);
            (!sums.is_zero()).then_some((view, (key, sums)))
        })
}
