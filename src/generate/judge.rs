//! The right answer to a made shop's traffic, by plain sequential code: a list of measurements a
//! browser, sorted and walked once. It shares nothing with the dataflow that it is held against.
//!
//! A browser's list is walked and let go once nothing that may still come can touch it, so memory
//! follows from who was there of late (56 bytes a measurement), plus 64 bytes a visit.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use sha2::{Digest, Sha256};

use super::plain::{self, Form, Said, partition};
use super::settings::Limits;
use super::truth::{EndReason, Order, Outputs, Reason, Truth, Verdict, Visit};
use super::{GenerateError, schemas};

/// What causes in a made shop never reach over, in ms: a browser that was silent for so long is
/// walked. Carts are remembered beyond it.
const MEMORY: i64 = 40 * 60_000;
const NONE: u32 = u32::MAX;

/// An accepted measurement.
#[derive(Clone, Copy)]
struct Entry {
    time: i64,
    id: [u8; 16],
    /// All zero if it has none.
    cause: [u8; 16],
    customer: u32,
    reason: u32,
    /// Place in `copies` if the event came, or may come, more than once.
    copy: u32,
    /// Place in `orders` if it is an order.
    order: u32,
    cart: bool,
}

struct OrderNote {
    id: Box<str>,
    value: Option<i64>,
}

/// The chain that led to a measurement, from it to its root.
#[derive(Clone)]
struct Chain {
    ids: Vec<[u8; 16]>,
    reason: u32,
    whole: bool,
}

struct Browser {
    id: Box<str>,
    entries: Vec<Entry>,
    last: i64,
    carts: BTreeMap<[u8; 16], Chain>,
}

struct Partition {
    clock: i64,
    /// When a browser's list is to be looked at again, and the browser.
    due: BinaryHeap<Reverse<(i64, u32)>>,
}

/// Judges arrivals, in the order in which the log took them.
pub struct Judge {
    limits: Limits,
    partitions: Vec<Partition>,
    forms: Vec<(u64, Vec<(&'static str, Form)>)>,
    places: HashMap<Box<str>, u32>,
    browsers: Vec<Browser>,
    words: Words,
    copies: Slots<Box<[u8]>>,
    order_notes: Slots<OrderNote>,
    truth: Truth,
    outputs: Outputs,
}

impl Judge {
    /// A judge by these limits, for a log of so many partitions (at least 1).
    pub fn new(limits: Limits, partitions: u32) -> Judge {
        Judge::writing(limits, partitions, Outputs::default())
    }

    pub(super) fn writing(limits: Limits, partitions: u32, outputs: Outputs) -> Judge {
        let partition = |_| Partition {
            clock: i64::MIN,
            due: BinaryHeap::new(),
        };
        Judge {
            limits,
            partitions: (0..partitions.max(1)).map(partition).collect(),
            forms: schemas()
                .map(|(_, schema)| schema.fingerprint())
                .zip(plain::fields())
                .collect(),
            places: HashMap::new(),
            browsers: Vec::new(),
            words: Words::default(),
            copies: Slots::default(),
            order_notes: Slots::default(),
            truth: Truth {
                limits,
                partitions: partitions.max(1),
                ..Truth::default()
            },
            outputs,
        }
    }

    /// Judges one arrival. `copied` must be true if the same event comes more than once: only for
    /// those are bytes kept, to tell which stays. An error if that was not so, or if an output
    /// cannot be written.
    pub fn take(
        &mut self,
        log_time: i64,
        key: &[u8],
        value: &[u8],
        copied: bool,
    ) -> Result<Verdict, GenerateError> {
        let at = partition(key, self.partitions.len() as u32) as usize;
        let clock = self.partitions[at].clock.max(log_time);
        self.partitions[at].clock = clock;
        self.truth.taken += 1;
        let verdict = self.judge(at, clock, value, copied)?;
        match verdict {
            Verdict::Accepted => {}
            Verdict::Late => self.truth.late += 1,
            Verdict::Rejected(reason) => self.truth.rejected[reason as usize] += 1,
        }
        self.settle(at)?;
        Ok(verdict)
    }

    fn judge(
        &mut self,
        at: usize,
        clock: i64,
        value: &[u8],
        copied: bool,
    ) -> Result<Verdict, GenerateError> {
        if value.len() > self.limits.max_record {
            return Ok(Verdict::Rejected(Reason::Oversize));
        }
        if value.len() < 10 || value[..2] != [0xc3, 0x01] {
            return Ok(Verdict::Rejected(Reason::NotAMessage));
        }
        let fingerprint = value[2..10]
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let Some((_, fields)) = self.forms.iter().find(|(of, _)| *of == fingerprint) else {
            return Ok(Verdict::Rejected(Reason::UnknownSchema));
        };
        let Some(said) = plain::read(fields, &value[10..]) else {
            return Ok(Verdict::Rejected(Reason::Undecodable));
        };
        if said.browser_id.is_empty() {
            return Ok(Verdict::Rejected(Reason::WithoutBrowser));
        }
        if said.event_time > clock.saturating_add(self.limits.max_ahead) {
            return Ok(Verdict::Rejected(Reason::Future));
        }
        if said.event_time < clock.saturating_sub(self.limits.max_delay) {
            self.outputs.late(&said, clock, self.limits.max_delay)?;
            return Ok(Verdict::Late);
        }
        self.accept(at, &said, value, copied);
        Ok(Verdict::Accepted)
    }

    fn accept(&mut self, at: usize, said: &Said, value: &[u8], copied: bool) {
        let place = match self.places.get(said.browser_id) {
            Some(place) => *place,
            None => {
                let place = self.browsers.len() as u32;
                let id: Box<str> = said.browser_id.into();
                self.places.insert(id.clone(), place);
                let (entries, carts) = (Vec::new(), BTreeMap::new());
                self.browsers.push(Browser {
                    id,
                    entries,
                    last: i64::MIN,
                    carts,
                });
                place
            }
        };
        let customer = self.words.number(said.customer_id);
        let reason = self.words.number(said.reason);
        let copy = if copied {
            self.copies.put(value.into())
        } else {
            NONE
        };
        let order = match (said.effect, said.entity) {
            ("ordered", "order") => self.order_notes.put(OrderNote {
                id: said.entity_id.unwrap_or("").into(),
                value: said.value,
            }),
            _ => NONE,
        };
        let browser = &mut self.browsers[place as usize];
        browser.last = browser.last.max(said.event_time);
        if browser.entries.is_empty() {
            let due = said
                .event_time
                .saturating_add(MEMORY.max(self.limits.inactivity));
            self.partitions[at].due.push(Reverse((due, place)));
        }
        browser.entries.push(Entry {
            time: said.event_time,
            id: said.event_id,
            cause: said.cause.unwrap_or([0; 16]),
            customer,
            reason,
            copy,
            order,
            cart: said.effect == "added_to_cart",
        });
    }

    /// Walks the browsers of a partition that nothing accepted can touch any more: what is to come
    /// lies at `clock - max_delay` or later.
    fn settle(&mut self, at: usize) -> Result<(), GenerateError> {
        let horizon = self.partitions[at]
            .clock
            .saturating_sub(self.limits.max_delay);
        while let Some(Reverse((due, place))) = self.partitions[at].due.peek().copied() {
            if due >= horizon {
                break;
            }
            self.partitions[at].due.pop();
            let last = self.browsers[place as usize].last;
            let due = last.saturating_add(MEMORY.max(self.limits.inactivity));
            if due < horizon {
                self.walk(place)?;
            } else {
                self.partitions[at].due.push(Reverse((due, place)));
            }
        }
        Ok(())
    }

    /// The walk of the definition of a visit over all that is there of one browser.
    fn walk(&mut self, place: u32) -> Result<(), GenerateError> {
        let browser = &mut self.browsers[place as usize];
        let mut entries = std::mem::take(&mut browser.entries);
        browser.last = i64::MIN;
        entries.sort_by_key(|entry| (entry.time, entry.id));
        let entries = self.without_repeats(entries)?;

        let Limits {
            inactivity,
            max_length,
            max_size,
            ..
        } = self.limits;
        let mut visits: Vec<Visit> = Vec::new();
        let mut of = Vec::with_capacity(entries.len());
        for entry in &entries {
            let browser = &self.browsers[place as usize];
            let fresh = match visits.last() {
                None => true,
                Some(visit) => {
                    entry.time.saturating_sub(visit.last_seen) > inactivity
                        || entry.time.saturating_sub(visit.started) >= max_length
                        || visit.measurements == max_size
                }
            };
            if fresh {
                visits.push(Visit {
                    visit_id: visit_id(&browser.id, entry.time, &entry.id),
                    browser_id: browser.id.clone(),
                    started: entry.time,
                    last_seen: entry.time,
                    measurements: 0,
                    end_reason: EndReason::Inactivity,
                    customer_id: None,
                });
            }
            if let Some(visit) = visits.last_mut() {
                visit.last_seen = entry.time;
                visit.measurements += 1;
                if visit.customer_id.is_none() {
                    visit.customer_id = self.words.get(entry.customer).map(Into::into);
                }
                self.truth.add_tag(&entry.id, entry.time, &visit.visit_id);
                self.outputs
                    .tag(&entry.id, entry.time, &browser.id, &visit.visit_id)?;
            }
            of.push(visits.len() - 1);
        }
        for visit in &mut visits {
            visit.end_reason = if visit.measurements == max_size {
                EndReason::Size
            } else if visit.started.saturating_add(max_length)
                <= visit.last_seen.saturating_add(inactivity)
            {
                EndReason::Length
            } else {
                EndReason::Inactivity
            };
        }
        self.orders(place, &entries, &of, &visits)?;
        self.truth.visits.append(&mut visits);
        Ok(())
    }

    /// Of each identity the one with the least body, then the least fingerprint, stays.
    fn without_repeats(&mut self, entries: Vec<Entry>) -> Result<Vec<Entry>, GenerateError> {
        let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
        for entry in entries {
            let Some(last) = kept
                .last_mut()
                .filter(|l| (l.time, l.id) == (entry.time, entry.id))
            else {
                kept.push(entry);
                continue;
            };
            let (a, b) = match (self.copies.get(last.copy), self.copies.get(entry.copy)) {
                (Some(a), Some(b)) => (a, b),
                _ => {
                    return Err(GenerateError::NotMarked {
                        id: super::truth::hex(&entry.id),
                    });
                }
            };
            let order = |message: &[u8]| {
                let mut fingerprint = [0; 8];
                fingerprint.copy_from_slice(&message[2..10]);
                u64::from_le_bytes(fingerprint)
            };
            let less = (&b[10..], order(b)) < (&a[10..], order(a));
            let goes = if less {
                std::mem::replace(last, entry)
            } else {
                entry
            };
            self.copies.take(goes.copy);
            self.order_notes.take(goes.order);
            self.truth.repeated += 1;
        }
        for entry in &kept {
            self.copies.take(entry.copy);
        }
        Ok(kept)
    }

    /// The orders among these entries, each with the chain that led to it.
    fn orders(
        &mut self,
        place: u32,
        entries: &[Entry],
        of: &[usize],
        visits: &[Visit],
    ) -> Result<(), GenerateError> {
        if !entries
            .iter()
            .any(|entry| entry.cart || entry.order != NONE)
        {
            return Ok(());
        }
        let mut by_id = HashMap::new();
        for (at, entry) in entries.iter().enumerate() {
            by_id.entry(entry.id).or_insert(at);
        }
        // Carts are remembered: the order may come on another day.
        for entry in entries.iter().filter(|entry| entry.cart) {
            let browser = &mut self.browsers[place as usize];
            let chain = chain(entry, entries, &by_id, &browser.carts);
            browser.carts.insert(entry.id, chain);
        }
        for (entry, visit) in entries.iter().zip(of) {
            let Some(note) = self.order_notes.take(entry.order) else {
                continue;
            };
            let browser = &self.browsers[place as usize];
            let chain = chain(entry, entries, &by_id, &browser.carts);
            let order = Order {
                order_id: note.id,
                event_id: entry.id,
                event_time: entry.time,
                browser_id: browser.id.clone(),
                visit_id: visits[*visit].visit_id,
                customer_id: self.words.get(entry.customer).map(Into::into),
                value: note.value,
                root_reason: self.words.get(chain.reason).map(Into::into),
                whole: chain.whole,
                chain: chain.ids,
            };
            self.truth.orders.push(order);
        }
        Ok(())
    }

    /// Walks what is left, and writes what was asked for. Everything that was taken is in it.
    pub fn finish(mut self) -> Result<Truth, GenerateError> {
        for place in 0..self.browsers.len() as u32 {
            if !self.browsers[place as usize].entries.is_empty() {
                self.walk(place)?;
            }
        }
        // Stable: a browser's visits are in order already, even those that began in one ms.
        self.truth
            .visits
            .sort_by(|a, b| a.browser_id.cmp(&b.browser_id));
        self.truth.orders.sort_by(|a, b| {
            (&a.browser_id, a.event_time, a.event_id).cmp(&(
                &b.browser_id,
                b.event_time,
                b.event_id,
            ))
        });
        self.truth.digest_visits();
        self.outputs.finish(&self.truth)?;
        Ok(self.truth)
    }
}

/// From a measurement to its root: its cause, that one's cause, as far as they were accepted, by
/// ID and whatever their times. A chain that comes back to itself ends there.
fn chain(
    from: &Entry,
    entries: &[Entry],
    by_id: &HashMap<[u8; 16], usize>,
    carts: &BTreeMap<[u8; 16], Chain>,
) -> Chain {
    let mut ids = vec![from.id];
    let mut at = from;
    loop {
        if at.cause == [0; 16] {
            return Chain {
                ids,
                reason: at.reason,
                whole: true,
            };
        }
        match by_id.get(&at.cause) {
            Some(next) if ids.len() <= entries.len() => {
                at = &entries[*next];
                ids.push(at.id);
            }
            None if carts.contains_key(&at.cause) => {
                let rest = &carts[&at.cause];
                ids.extend_from_slice(&rest.ids);
                return Chain {
                    ids,
                    reason: rest.reason,
                    whole: rest.whole,
                };
            }
            _ => {
                return Chain {
                    ids,
                    reason: at.reason,
                    whole: false,
                };
            }
        }
    }
}

/// The first 16 bytes of SHA-256 over the browser's ID (its length as 4 bytes, least first, and
/// itself), the time (8 bytes, least first) and the ID of the visit's first measurement.
fn visit_id(browser: &str, time: i64, event: &[u8; 16]) -> [u8; 16] {
    let digest = Sha256::new()
        .chain_update((browser.len() as u32).to_le_bytes())
        .chain_update(browser)
        .chain_update(time.to_le_bytes())
        .chain_update(event)
        .finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    id
}

/// Words by number. Never iterated by hash.
#[derive(Default)]
struct Words {
    numbers: HashMap<Box<str>, u32>,
    words: Vec<Box<str>>,
}

impl Words {
    fn number(&mut self, word: Option<&str>) -> u32 {
        let Some(word) = word else { return NONE };
        if let Some(number) = self.numbers.get(word) {
            return *number;
        }
        let number = self.words.len() as u32;
        self.words.push(word.into());
        self.numbers.insert(word.into(), number);
        number
    }

    fn get(&self, number: u32) -> Option<&str> {
        self.words.get(number as usize).map(|word| &**word)
    }
}

/// Things by number, whose numbers are used again.
struct Slots<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slots<T> {
    fn put(&mut self, thing: T) -> u32 {
        match self.free.pop() {
            Some(place) => {
                self.slots[place as usize] = Some(thing);
                place
            }
            None => {
                self.slots.push(Some(thing));
                (self.slots.len() - 1) as u32
            }
        }
    }

    fn get(&self, place: u32) -> Option<&T> {
        self.slots.get(place as usize)?.as_ref()
    }

    fn take(&mut self, place: u32) -> Option<T> {
        let thing = self.slots.get_mut(place as usize)?.take()?;
        self.free.push(place);
        Some(thing)
    }
}
