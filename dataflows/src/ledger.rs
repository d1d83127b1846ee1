//! The ledger: at every tick, as many records go out as have come in.
//! `in = tagged + late + rejected + repeated`, counted where each leaves, held against each other
//! on the first worker.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Concatenate;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::{Scope, Stream, StreamVec};

use crate::batch::Batch;
use crate::visit::Tick;

/// A column of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The words of the equation.
pub enum Entry {
    In,
    Tagged,
    Late,
    Rejected,
    Repeated,
}

impl Entry {
    /// All of them, in the order of the equation.
    pub const ALL: [Entry; 5] = [
        Entry::In,
        Entry::Tagged,
        Entry::Late,
        Entry::Rejected,
        Entry::Repeated,
    ];
}

/// What the ledger has come to, on the first worker; the others' stay empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Records of complete ticks, in the order of [`Entry::ALL`].
    pub sums: [u64; 5],
    /// Ticks at which the equation did not hold. Anything but zero is a fault of the program.
    pub wrong_ticks: u64,
}

impl Ledger {
    /// The sum of an entry.
    pub fn of(&self, entry: Entry) -> u64 {
        self.sums[entry as usize]
    }

    /// Whether it holds for each tick and in all.
    pub fn holds(&self) -> bool {
        self.wrong_ticks == 0 && self.sums[0] == self.sums[1..].iter().sum::<u64>()
    }
}

/// A tick, the number of an [`Entry`], and how many records that makes.
pub type Count = (Tick, u8, u64);

/// The ledger's counts, whose frontier says which ticks were checked, and what it has come to.
pub type Kept<'s> = (StreamVec<'s, u64, Count>, Rc<RefCell<Ledger>>);

/// Keeps the ledger of these streams; each tick is checked once it is complete.
/// Costs a pass over the heads; a few bytes a tick go to the first worker.
pub fn ledger<'s>(
    scope: Scope<'s, u64>,
    streams: Vec<(Entry, Stream<'s, u64, Batch>)>,
) -> Kept<'s> {
    let counts = streams.into_iter().map(|(entry, stream)| {
        stream.unary::<CapacityContainerBuilder<Vec<Count>>, _, _, _>(
            Pipeline,
            "Count",
            move |_, _| {
                move |input, output| {
                    input.for_each(|cap, batch| {
                        let mut session = output.session(&cap);
                        for group in batch.heads().chunk_by(|a, b| a.tick == b.tick) {
                            session.give((group[0].tick, entry as u8, group.len() as u64));
                        }
                    });
                }
            },
        )
    });
    let counts = scope.concatenate(counts.collect::<Vec<_>>());
    let ledger = Rc::new(RefCell::new(Ledger::default()));
    let kept = ledger.clone();
    let done = counts.unary_frontier::<CapacityContainerBuilder<Vec<Count>>, _, _, _>(
        Exchange::new(|_: &Count| 0),
        "Ledger",
        move |cap, _| {
            drop(cap);
            let mut ticks: BTreeMap<Tick, [u64; 5]> = BTreeMap::new();
            move |(input, frontier), _| {
                input.for_each(|_, counts| {
                    for (tick, entry, count) in counts.drain(..) {
                        ticks.entry(tick).or_default()[usize::from(entry)] += count;
                    }
                });
                let until = frontier.frontier().first().copied().unwrap_or(u64::MAX);
                let mut ledger = kept.borrow_mut();
                while let Some(first) = ticks.first_entry().filter(|first| *first.key() < until) {
                    let sums = first.remove();
                    ledger.wrong_ticks += u64::from(sums[0] != sums[1..].iter().sum::<u64>());
                    for (all, sum) in ledger.sums.iter_mut().zip(sums) {
                        *all += sum;
                    }
                }
            }
        },
    );
    (done, ledger)
}
