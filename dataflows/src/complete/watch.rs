//! Watching: what is said of visits while they are open, by whoever may look at the measurements that
//! are kept of them.

use std::convert::Infallible;

use super::by_browser::Key;
use super::kept::{Measurements, Payloads};
use super::whole::Complete;
use crate::batch::Record;
use crate::visit::Tick;

/// Looks on while visits grow, step by step: a step ends at each [`boundary`](Watch::boundary), when
/// all that was tagged before it is kept and nothing that was tagged at or behind it.
///
/// What it says must follow from what it was told before the boundary, in whatever order; then it is
/// the same in every run. Cuts lie on boundaries.
pub trait Watch<P: Payloads> {
    /// What it says.
    type Said: 'static;
    /// What it can be asked.
    type Question: Clone + 'static;

    /// The end of the step that has this tick, behind it.
    fn boundary(&self, tick: Tick) -> Tick;
    /// The boundary at which it has something to say, though nothing more may happen before that;
    /// `u64::MAX` if there is none.
    fn due(&self) -> Tick;
    /// Some measurements of the step at hand, which are to be kept; said of each identity once.
    fn measured(&mut self, records: &[Record<'_>]);
    /// A measurement that is there already, and is to be kept beside the other: of the two the one
    /// with the least bytes stays.
    ///
    /// # Errors
    /// What the store meets.
    fn repeated(&mut self, record: Record<'_>, kept: &mut Measurements<P>) -> Result<(), P::Error>;
    /// Measurements of this browser belong to another visit than they did, since the step at hand.
    fn revised(&mut self, browser: Key);
    /// A visit that was sealed in the step at hand, and is not kept any more.
    fn sealed(&mut self, visit: &Complete);
    /// The step ends.
    ///
    /// # Errors
    /// What the store meets.
    fn stepped(
        &mut self,
        at: Tick,
        kept: &mut Measurements<P>,
        said: &mut Vec<Self::Said>,
    ) -> Result<(), P::Error>;
    /// There is nothing more; all visits have been sealed.
    ///
    /// # Errors
    /// What the store meets.
    fn ended(
        &mut self,
        kept: &mut Measurements<P>,
        said: &mut Vec<Self::Said>,
    ) -> Result<(), P::Error>;
    /// The tick as of which a question is asked.
    fn at(question: &Self::Question) -> Tick;
    /// A question, when all that was tagged before its tick is kept. Changes nothing.
    ///
    /// # Errors
    /// What the store meets.
    fn asked(
        &mut self,
        question: Self::Question,
        kept: &mut Measurements<P>,
        said: &mut Vec<Self::Said>,
    ) -> Result<(), P::Error>;
    /// Goes on with a snapshot as of this tick, by about so many entries; whether those were the last.
    /// Nothing else happens in between.
    fn save_some(&mut self, at: Tick, entries: usize) -> bool;
}

/// Nobody looks.
#[derive(Clone, Copy, Debug)]
pub struct Nobody;

impl<P: Payloads> Watch<P> for Nobody {
    type Said = Infallible;
    type Question = Infallible;

    fn boundary(&self, _: Tick) -> Tick {
        u64::MAX
    }
    fn due(&self) -> Tick {
        u64::MAX
    }
    fn measured(&mut self, _: &[Record<'_>]) {}
    fn revised(&mut self, _: Key) {}
    fn repeated(&mut self, _: Record<'_>, _: &mut Measurements<P>) -> Result<(), P::Error> {
        Ok(())
    }
    fn sealed(&mut self, _: &Complete) {}
    fn stepped(
        &mut self,
        _: Tick,
        _: &mut Measurements<P>,
        _: &mut Vec<Infallible>,
    ) -> Result<(), P::Error> {
        Ok(())
    }
    fn ended(&mut self, _: &mut Measurements<P>, _: &mut Vec<Infallible>) -> Result<(), P::Error> {
        Ok(())
    }
    fn at(question: &Infallible) -> Tick {
        match *question {}
    }
    fn asked(
        &mut self,
        question: Infallible,
        _: &mut Measurements<P>,
        _: &mut Vec<Infallible>,
    ) -> Result<(), P::Error> {
        match question {}
    }
    fn save_some(&mut self, _: Tick, _: usize) -> bool {
        true
    }
}
