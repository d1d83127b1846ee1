//! Keeps profiles: adds to each customer's what sealed visits say of the customer, tick by tick, loads
//! those of customers who are named in open visits, and answers what is asked of them.

use std::collections::BTreeMap;

use thiserror::Error;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::named::{Loaded, Named};
use super::part::{Part, group_of};
use super::profile::{Profile, ProfileError};
use super::shelf::Shelf;
use crate::cut::{Cut, Cuts};
use crate::stories::{Answer, Ask, Question};
use crate::visit::Tick;
use crate::visits::complete_until;

/// Profiles could not be kept.
#[derive(Debug, Error)]
pub enum KeepingError<E> {
    /// The shelf has met this.
    #[error(transparent)]
    Shelf(E),
    /// What lies there is none.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

/// What [`profiles`] says.
pub struct Kept<'s> {
    /// Answers to [`Ask::Profile`].
    pub answers: StreamVec<'s, u64, Answer>,
    /// What is known of each customer who is named, on the worker that has the customer. What is said of
    /// one tick is in no order.
    pub loaded: StreamVec<'s, u64, Loaded>,
}

/// Brings parts of visits to the workers that have their customers' groups, and adds them to
/// profiles there; loads the profiles of those who are `named`, and answers [`Ask::Profile`], each
/// worker for the customers that it has. A customer who was not seen for `retention` ms is forgotten:
/// what comes later begins anew.
///
/// The parts of one tick are added in the order of their visits' IDs, and put on the shelf at that
/// tick. So profiles are the same on any number of workers, and it needs no state of its own. What is
/// loaded is as of the end of the step in which the customer was named: of all visits that were sealed
/// before. Costs a look at the shelf, and a write, for each customer of a tick; a look for each who is
/// named, and for each question.
pub fn profiles<'s, S: Shelf + 'static>(
    parts: StreamVec<'s, u64, Part>,
    named: StreamVec<'s, u64, Named>,
    questions: StreamVec<'s, u64, Question>,
    cuts: StreamVec<'s, u64, Cut>,
    retention: i64,
    shelf: S,
    mut failed: impl FnMut(KeepingError<S::Error>) + 'static,
) -> Kept<'s> {
    let scope = parts.scope();
    let (index, peers) = (scope.index(), scope.peers());
    let to = Exchange::new(|part: &Part| group_of(&part.customer) as u64);
    let mut builder = OperatorBuilder::new("Profiles".to_owned(), scope);
    let mut input = builder.new_input(parts, to);
    let to = Exchange::new(|named: &Named| group_of(&named.customer) as u64);
    let mut named = builder.new_input(named, to);
    let mut asked = builder.new_input(questions, Pipeline);
    let mut heard = builder.new_input(cuts, Pipeline);
    let (output, answers) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Answer>>>::from(output);
    let (loads, loaded) = builder.new_output();
    let mut loads = OutputBuilder::<_, CapacityContainerBuilder<Vec<Loaded>>>::from(loads);
    builder.build(move |mut caps| {
        let mut keeping = Keeping { shelf, retention };
        let mut cuts = Cuts::default();
        let mut found: BTreeMap<Tick, Vec<Part>> = BTreeMap::new();
        let mut waiting: BTreeMap<Tick, Vec<Named>> = BTreeMap::new();
        let mut questions: BTreeMap<Tick, Vec<Question>> = BTreeMap::new();
        let mut ended = false;
        move |frontiers| {
            input.for_each(|_, parts| {
                for part in parts.drain(..) {
                    found.entry(part.at).or_default().push(part);
                }
            });
            named.for_each(|_, named| {
                for named in named.drain(..) {
                    waiting.entry(named.tick).or_default().push(named);
                }
            });
            asked.for_each(|_, asked| {
                for question in asked.drain(..) {
                    if matches!(question.ask, Ask::Profile(_)) {
                        questions.entry(question.at).or_default().push(question);
                    }
                }
            });
            heard.for_each(|_, heard| heard.drain(..).for_each(|cut| cuts.add(cut)));
            let [held, loading] = &mut caps[..] else {
                return;
            };
            let until = complete_until(frontiers);
            let mut step = || -> Result<(), KeepingError<S::Error>> {
                loop {
                    let cut = cuts.first().filter(|cut| *cut <= until);
                    let question = questions.keys().next().copied().unwrap_or(u64::MAX);
                    let named = waiting.keys().next().copied().unwrap_or(u64::MAX);
                    let limit = cut.unwrap_or(until).min(question).min(named);
                    // What was found in the step that ends at a tick is an effect before it.
                    while found.first_key_value().is_some_and(|(at, _)| *at <= limit) {
                        keeping.add(found.pop_first().unwrap_or_default().1)?;
                    }
                    if named == limit
                        && let Some(named) = waiting.remove(&named)
                    {
                        let mut loaded = Vec::with_capacity(named.len());
                        for named in named {
                            let profile = keeping.profile(&named.customer, named.tick)?;
                            loaded.push(Loaded { named, profile });
                        }
                        let mut loads = loads.activate();
                        loads.session(&*loading).give_container(&mut loaded);
                        continue;
                    }
                    if question == limit
                        && let Some(asked) = questions.remove(&question)
                    {
                        let mut answers = Vec::new();
                        for question in asked {
                            let Ask::Profile(customer) = &question.ask else {
                                continue;
                            };
                            let own = group_of(customer) % peers == index;
                            let profile = match own {
                                true => keeping.shown(customer, question.at)?,
                                false => None,
                            };
                            answers.push(Answer::of_profile(&question, profile));
                        }
                        let mut output = output.activate();
                        output.session(&*held).give_container(&mut answers);
                        continue;
                    }
                    match cut.and_then(|cut| cuts.next(cut)) {
                        Some(cut) if cut.snapshot => keeping.shelf.save(cut.tick),
                        Some(_) => {}
                        None => break,
                    }
                }
                if until == u64::MAX && !std::mem::replace(&mut ended, true) {
                    keeping.shelf.end().map_err(KeepingError::Shelf)?;
                }
                Ok(())
            };
            if let Err(error) = step() {
                // Time stands still, so that nothing counts that is not kept.
                failed(error);
                return;
            }
            if until == u64::MAX {
                caps.clear();
            } else if until > *held.time() {
                held.downgrade(&until);
                loading.downgrade(&until);
            }
        }
    });
    Kept { answers, loaded }
}

/// What is kept on one worker.
struct Keeping<S> {
    shelf: S,
    retention: i64,
}

impl<S: Shelf> Keeping<S> {
    /// A customer's profile as of a tick, unless it has expired.
    fn profile(&self, customer: &str, at: Tick) -> Result<Option<Profile>, KeepingError<S::Error>> {
        let kept = self.shelf.get(customer, at).map_err(KeepingError::Shelf)?;
        let Some(kept) = kept else { return Ok(None) };
        let profile = Profile::from_bytes(&kept)?;
        Ok((!profile.is_expired(at, self.retention)).then_some(profile))
    }

    /// Adds what was found in a step.
    fn add(&mut self, mut parts: Vec<Part>) -> Result<(), KeepingError<S::Error>> {
        parts.sort_unstable_by(|a, b| {
            (a.tick, &a.customer, a.visit).cmp(&(b.tick, &b.customer, b.visit))
        });
        let mut parts = parts.into_iter().peekable();
        while let Some(Part { tick, .. }) = parts.peek() {
            let tick = *tick;
            let mut puts: Vec<(Box<str>, Vec<u8>)> = Vec::new();
            while let Some(first) = parts.next_if(|part| part.tick == tick) {
                let mut profile = self.profile(&first.customer, tick)?.unwrap_or_default();
                profile.add(first.profile);
                let same = |part: &Part| part.tick == tick && part.customer == first.customer;
                while let Some(part) = parts.next_if(same) {
                    profile.add(part.profile);
                }
                puts.push((first.customer, profile.to_bytes()));
            }
            self.shelf.put(tick, puts).map_err(KeepingError::Shelf)?;
        }
        Ok(())
    }

    /// A profile as readers see it, as JSON.
    fn shown(&self, customer: &str, at: Tick) -> Result<Option<String>, KeepingError<S::Error>> {
        let profile = self.profile(customer, at)?;
        let now = i64::try_from(at).unwrap_or(i64::MAX);
        let text = |profile: Profile| {
            let text = serde_json::to_string(&profile.shown(now));
            text.expect("a profile can be written to memory")
        };
        Ok(profile.map(text))
    }
}
