//! Each browser by itself: the operator for fragments that follow browsers through their ticks, keep a
//! little of each, and are woken later. For authors of fragments: they write a plain struct that
//! knows no dataflow, and this does what all of them need: it waits for the frontier, goes tick by
//! tick in order, reads facts, keeps timers and keeps state across restarts.
//!
//! It is not for what needs more than one browser at a time: that is a collection's work, behind it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Stream, StreamVec};

use crate::batch::Batch;
use crate::cut::{Cut, Cuts};
use crate::durable::Durable;
use crate::fact::{Fact, Reading};
use crate::step::{Run, Steps};
use crate::visit::Tick;
use crate::visits::{Change, Lifecycle, complete_until};

/// What a fragment does with one browser. What it says and keeps must follow from what it is told,
/// and from nothing else; then it is the same in every run, and after every restart.
///
/// At a tick it is first woken, if that is due, then told of what the browser measured, in order of
/// event time, then of its visits that were sealed.
pub trait EachBrowser: 'static {
    /// What is kept of a browser, while it is `Some`. With `None` its timer goes too.
    type State: Serialize + DeserializeOwned + 'static;
    /// What is said.
    type Said: Clone + 'static;
    /// The form in which the state is kept; to be raised when [`State`](Self::State) changes, which
    /// then wants another name.
    const FORMAT: u32 = 1;

    /// A measurement of the browser.
    fn measured(&self, state: &mut Option<Self::State>, fact: &Fact<'_>, now: &mut Now<Self::Said>);
    /// It is the tick that was asked for by [`Now::wake_at`].
    fn woken(&self, state: &mut Option<Self::State>, now: &mut Now<Self::Said>);
    /// A visit of the browser is sealed; all its measurements lie at or before `last_seen`, and later
    /// ones are another visit's.
    fn sealed(&self, state: &mut Option<Self::State>, last_seen: i64, now: &mut Now<Self::Said>);
}

/// The tick at hand, and what a fragment may do at it.
#[derive(Debug)]
pub struct Now<D> {
    tick: Tick,
    wake: Option<Tick>,
    said: Vec<D>,
}

impl<D> Now<D> {
    /// The tick.
    #[must_use]
    pub fn tick(&self) -> Tick {
        self.tick
    }

    /// Asks to be woken at a later tick, once, in place of what was asked before.
    pub fn wake_at(&mut self, tick: Tick) {
        self.wake = Some(tick.max(self.tick + 1));
    }

    /// Says something, as of this tick.
    pub fn say(&mut self, said: D) {
        self.said.push(said);
    }
}

/// What was said of a browser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told<D> {
    /// As of when.
    pub tick: Tick,
    /// The browser's shard.
    pub shard: u8,
    /// Its ID.
    pub browser_id: Box<[u8]>,
    /// What.
    pub what: D,
}

/// What is kept of a browser.
#[derive(Serialize, Deserialize)]
struct Kept<S> {
    key: [u64; 2],
    shard: u8,
    id: Box<[u8]>,
    wake: Option<Tick>,
    state: Option<S>,
}

/// All browsers of a worker.
struct Browsers<E: EachBrowser> {
    fragment: E,
    kept: HashMap<[u64; 2], Kept<E::State>>,
    timers: BTreeSet<(Tick, [u64; 2])>,
}

impl<E: EachBrowser> Browsers<E> {
    fn restore(fragment: E, durable: &mut Durable) -> Browsers<E> {
        let restored: Vec<Vec<Kept<E::State>>> = durable.restore(E::FORMAT);
        let kept = restored.into_iter().flatten();
        let kept: HashMap<_, _> = kept.map(|browser| (browser.key, browser)).collect();
        let timers = kept.values().filter_map(|own| Some((own.wake?, own.key)));
        Browsers {
            fragment,
            timers: timers.collect(),
            kept,
        }
    }

    fn save(&self, at: Tick, durable: &Durable) {
        let mut shards: BTreeMap<u8, Vec<&Kept<E::State>>> = BTreeMap::new();
        for browser in self.kept.values() {
            shards.entry(browser.shard).or_default().push(browser);
        }
        durable.save(at, E::FORMAT, shards);
    }

    /// Lets the fragment do something with a browser, and keeps what it leaves.
    fn with(
        &mut self,
        (tick, key): (Tick, [u64; 2]),
        whose: impl FnOnce() -> (u8, Box<[u8]>),
        told: &mut Vec<Told<E::Said>>,
        act: impl FnOnce(&E, &mut Option<E::State>, &mut Now<E::Said>),
    ) {
        let mut browser = self.kept.remove(&key).unwrap_or_else(|| {
            let (shard, id) = whose();
            Kept {
                key,
                shard,
                id,
                wake: None,
                state: None,
            }
        });
        let mut now = Now {
            tick,
            wake: browser.wake,
            said: Vec::new(),
        };
        act(&self.fragment, &mut browser.state, &mut now);
        told.extend(now.said.into_iter().map(|what| Told {
            tick,
            shard: browser.shard,
            browser_id: browser.id.clone(),
            what,
        }));
        let wake = now.wake.filter(|_| browser.state.is_some());
        if wake != browser.wake {
            if let Some(before) = std::mem::replace(&mut browser.wake, wake) {
                self.timers.remove(&(before, key));
            }
            self.timers.extend(wake.map(|wake| (wake, key)));
        }
        if browser.state.is_some() {
            self.kept.insert(key, browser);
        }
    }

    /// Wakes whoever asked for it at or before a tick, each at its own.
    fn wake(&mut self, until: Tick, told: &mut Vec<Told<E::Said>>) {
        while let Some(&(tick, key)) = self.timers.first().filter(|(tick, _)| *tick <= until) {
            self.timers.pop_first();
            if let Some(browser) = self.kept.get_mut(&key) {
                browser.wake = None;
                let (shard, id) = (browser.shard, browser.id.clone());
                self.with(
                    (tick, key),
                    || (shard, id),
                    told,
                    |fragment, state, now| {
                        fragment.woken(state, now);
                    },
                );
            }
        }
    }
}

/// Follows each browser with a fragment; what it says comes at the tick as of which it is said.
///
/// Costs a walk to the roles and two look-ups a measurement, some 300 ns; keeps what the fragment
/// keeps, and some 100 bytes beside it, of browsers of which it keeps anything. At the end of input
/// nobody is woken later than at the last tick at which something happened.
pub fn each_browser<'s, E: EachBrowser>(
    tagged: Stream<'s, u64, Batch>,
    lifecycle: StreamVec<'s, u64, Lifecycle>,
    cuts: StreamVec<'s, u64, Cut>,
    mut reading: Reading,
    mut durable: Durable,
    fragment: E,
) -> StreamVec<'s, u64, Told<E::Said>> {
    let mut builder = OperatorBuilder::new("EachBrowser".to_owned(), tagged.scope());
    let mut input = builder.new_input(tagged, Pipeline);
    let mut sealed = builder.new_input(lifecycle, Pipeline);
    let mut heard = builder.new_input(cuts, Pipeline);
    let (output, stream) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Told<E::Said>>>>::from(output);
    let mut browsers = Browsers::restore(fragment, &mut durable);
    builder.build(move |caps| {
        let mut cap = caps.into_iter().next();
        let mut steps = Steps::default();
        let mut ends: BTreeMap<Tick, Vec<Lifecycle>> = BTreeMap::new();
        let mut cuts = Cuts::default();
        move |frontiers| {
            input.for_each(|_, batch| steps.push(std::mem::take(batch)));
            sealed.for_each(|_, said| {
                for said in said.drain(..) {
                    if matches!(said.change, Change::Ended { .. }) {
                        ends.entry(said.tick).or_default().push(said);
                    }
                }
            });
            heard.for_each(|_, heard| heard.drain(..).for_each(|cut| cuts.add(cut)));
            let Some(own) = cap.as_mut() else { return };
            let until = complete_until(frontiers);
            let mut told = Vec::new();
            let mut advance = |to: Tick, browsers: &mut Browsers<E>| {
                let step = steps.complete(to);
                let mut runs = step.runs.chunk_by(|a, b| a.tick == b.tick).peekable();
                loop {
                    let next = runs.peek().map_or(u64::MAX, |runs| runs[0].tick);
                    let end = ends.keys().next().copied().unwrap_or(u64::MAX);
                    let tick = next.min(end);
                    if tick >= to {
                        break;
                    }
                    browsers.wake(tick, &mut told);
                    if next == tick {
                        let of_tick = runs.next().unwrap_or_default();
                        let places = of_tick.iter().flat_map(Run::places);
                        let records = places.map(|place| step.records.record(place));
                        let mut records: Vec<_> = records.collect();
                        records.sort_by_key(|record| (record.head.browser, record.head.at));
                        for record in records {
                            let head = record.head;
                            let (context, body) = (record.context, record.body);
                            let fact = reading.fact(head.at, head.schema, context, body);
                            let Some(fact) = fact else { continue };
                            let whose = || (head.shard, record.browser_id.into());
                            let at = (tick, head.browser);
                            browsers.with(at, whose, &mut told, |fragment, state, now| {
                                fragment.measured(state, &fact, now);
                            });
                        }
                    }
                    if end == tick {
                        let mut sealed = ends.remove(&tick).unwrap_or_default();
                        sealed.sort_by_key(|said| said.browser);
                        for said in sealed {
                            let Change::Ended { last_seen, .. } = said.change else {
                                continue;
                            };
                            let (at, shard) = ((tick, said.browser), said.shard);
                            let whose = || (shard, said.browser_id.clone());
                            browsers.with(at, whose, &mut told, |fragment, state, now| {
                                fragment.sealed(state, last_seen, now);
                            });
                        }
                    }
                }
                if to < u64::MAX && to > 0 {
                    browsers.wake(to - 1, &mut told);
                }
            };
            while let Some(cut) = cuts.next(until) {
                if cut.snapshot {
                    advance(cut.tick, &mut browsers);
                    browsers.save(cut.tick, &durable);
                }
            }
            advance(until, &mut browsers);
            if !told.is_empty() {
                output.activate().session(&*own).give_container(&mut told);
            }
            if until == u64::MAX {
                cap = None;
            } else if until > *own.time() {
                own.downgrade(&until);
            }
        }
    });
    stream
}
