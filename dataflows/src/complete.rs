//! Whole visits: keeps the measurements of open visits, and gives each visit's out, whole and in
//! order, when it is sealed.
//!
//! Measurements are only ever added, by browser; since a browser's visits are sealed in order, a
//! visit's are the first of what its browser has. So revisions need not be followed. Of those with
//! one identity the one with the least bytes is kept.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use bytemuck::{Pod, Zeroable};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use crate::batch::{Batch, Record};
use crate::visit::{EndReason, Position, Tick, bytes_of_words};
use crate::visits::{Change, Lifecycle, Visits};

/// A sealed visit with all of its measurements.
#[derive(Clone, Debug, PartialEq)]
pub struct Complete {
    /// The tick of its seal.
    pub tick: Tick,
    /// The browser's shard.
    pub shard: u8,
    /// The visit's ID.
    pub visit: [u8; 16],
    /// The browser's ID.
    pub browser_id: Box<[u8]>,
    /// The event time of its first measurement.
    pub started: i64,
    /// The event time of its last.
    pub last_seen: i64,
    /// Why it ended.
    pub reason: EndReason,
    measurements: Vec<Place>,
    bytes: Vec<u8>,
}

/// A measurement of a complete visit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kept<'a> {
    /// When it happened, and its ID.
    pub at: Position,
    /// The fingerprint of its writer's schema.
    pub schema: u64,
    /// What enrichment has found, as Avro bytes.
    pub context: &'a [u8],
    /// The Avro body.
    pub body: &'a [u8],
}

impl Complete {
    /// How many measurements it has.
    pub fn len(&self) -> usize {
        self.measurements.len()
    }

    /// Never: a visit has a first measurement.
    pub fn is_empty(&self) -> bool {
        self.measurements.is_empty()
    }

    /// The measurements, in order.
    pub fn measurements(&self) -> impl Iterator<Item = Kept<'_>> {
        self.measurements
            .iter()
            .map(|place| place.kept(&self.bytes))
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// What is written before each measurement's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Entry {
    at: Position,
    schema: u64,
    context: u32,
    body: u32,
}

/// An entry, and where its bytes begin.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    entry: Entry,
    start: usize,
}

impl Place {
    fn kept<'a>(&self, bytes: &'a [u8]) -> Kept<'a> {
        let (context, body) = bytes[self.start..].split_at(self.entry.context as usize);
        let body = &body[..self.entry.body as usize];
        Kept {
            at: self.entry.at,
            schema: self.entry.schema,
            context,
            body,
        }
    }
}

/// The measurements of open visits, by browser: 40 bytes and their own, each.
#[derive(Debug, Default)]
pub struct Measurements {
    browsers: HashMap<[u64; 2], Vec<u8>, BuildHasherDefault<KeyHasher>>,
    bytes: usize,
}

/// Browser keys are hashes already.
#[derive(Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        let word = bytes
            .first_chunk()
            .map_or(0, |word| u64::from_ne_bytes(*word));
        self.0 = self.0.rotate_left(32) ^ word;
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = self.0.rotate_left(32) ^ word;
    }
    fn write_usize(&mut self, _: usize) {}
}

impl Measurements {
    /// Keeps a measurement.
    pub fn add(&mut self, record: Record<'_>) {
        let entry = Entry {
            at: record.head.at,
            schema: record.head.schema,
            context: record.context.len() as u32,
            body: record.body.len() as u32,
        };
        let bytes = self.browsers.entry(record.head.browser).or_default();
        let before = bytes.len();
        bytes.extend_from_slice(bytemuck::bytes_of(&entry));
        bytes.extend_from_slice(record.context);
        bytes.extend_from_slice(record.body);
        self.bytes += bytes.len() - before;
    }

    /// Bytes kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives out the visits that these ends have sealed, in their order: of each browser the first
    /// of its measurements. What is no end of a visit is passed over. A browser's bytes are walked
    /// once, however many of its visits have ended.
    ///
    /// # Panics
    /// If there are fewer than an end says: then a measurement was tagged and not kept.
    pub fn complete(&mut self, ends: &[Lifecycle]) -> Vec<Complete> {
        let ended = |end: &&Lifecycle| matches!(end.change, Change::Ended { .. });
        let mut ends: Vec<_> = ends.iter().filter(ended).enumerate().collect();
        let mut whole: Vec<Option<Complete>> = ends.iter().map(|_| None).collect();
        ends.sort_by_key(|(_, end)| end.browser);
        for ends in ends.chunk_by(|(_, a), (_, b)| a.browser == b.browser) {
            self.of_browser(ends, &mut whole);
        }
        whole.into_iter().flatten().collect()
    }

    fn of_browser(&mut self, ends: &[(usize, &Lifecycle)], whole: &mut [Option<Complete>]) {
        let browser = ends[0].1.browser;
        let mut bytes = self.browsers.remove(&browser).unwrap_or_default();
        self.bytes -= bytes.len();
        let mut places = places(&bytes);
        let in_order = places.is_sorted_by(|a, b| a.entry.at < b.entry.at);
        if !in_order {
            places.sort_by(|a, b| {
                let key =
                    |place: &Place| (place.entry.at, place.kept(&bytes).body, place.entry.schema);
                key(a).cmp(&key(b))
            });
            places.dedup_by_key(|place| place.entry.at);
        }
        for (index, end) in ends {
            let Change::Ended {
                visit,
                started,
                last_seen,
                measurements: count,
                reason,
            } = end.change
            else {
                continue;
            };
            assert!(
                places.len() >= count as usize,
                "a visit of {count} measurements, of which {} were kept",
                places.len()
            );
            let rest = places.split_off(count as usize);
            let mut own = std::mem::replace(&mut places, rest);
            let own_bytes = if places.is_empty() && ends.len() == 1 {
                bytes.shrink_to_fit();
                std::mem::take(&mut bytes)
            } else {
                copied(&mut own, &bytes)
            };
            whole[*index] = Some(Complete {
                tick: end.tick,
                shard: end.shard,
                visit: bytes_of_words(visit),
                browser_id: end.browser_id.clone(),
                started,
                last_seen,
                reason,
                measurements: own,
                bytes: own_bytes,
            });
        }
        if !places.is_empty() {
            let kept = copied(&mut places, &bytes);
            self.bytes += kept.len();
            self.browsers.insert(browser, kept);
        }
    }
}

/// The entries at these places, one behind the other, where the places then point.
fn copied(places: &mut [Place], bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    for place in places {
        let end = place.start + (place.entry.context + place.entry.body) as usize;
        let entry = place.start - size_of::<Entry>()..end;
        place.start = kept.len() + size_of::<Entry>();
        kept.extend_from_slice(&bytes[entry]);
    }
    kept
}

fn places(bytes: &[u8]) -> Vec<Place> {
    let mut places = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at + size_of::<Entry>();
        let entry: Entry = bytemuck::pod_read_unaligned(&bytes[at..start]);
        places.push(Place { entry, start });
        at = start + (entry.context + entry.body) as usize;
    }
    places
}

/// Keeps what is tagged until its visit is sealed; gives out sealed visits, whole.
///
/// Costs a look-up and a copy of its bytes a measurement. `hear` is told by how much the bytes kept
/// have grown or shrunk.
pub fn complete<'s>(
    visits: &Visits<'s>,
    mut hear: impl FnMut(i64) + 'static,
) -> StreamVec<'s, u64, Complete> {
    let mut builder = OperatorBuilder::new("Complete".to_owned(), visits.tagged.scope());
    let mut tagged = builder.new_input(visits.tagged.clone(), Pipeline);
    let mut repeated = builder.new_input(visits.repeated.clone(), Pipeline);
    let mut lifecycle = builder.new_input(visits.lifecycle.clone(), Pipeline);
    let (output, stream) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Complete>>>::from(output);
    builder.build(move |caps| {
        let mut cap = caps.into_iter().next();
        let mut kept = Measurements::default();
        let mut ends: Vec<Lifecycle> = Vec::new();
        let add =
            |kept: &mut Measurements, batch: &Batch| batch.records().for_each(|r| kept.add(r));
        let mut heard = 0;
        move |frontiers| {
            // What is tagged may be kept at once: a visit takes no more than it counts.
            tagged.for_each(|_, batch| add(&mut kept, batch));
            repeated.for_each(|_, batch| add(&mut kept, batch));
            lifecycle.for_each(|_, said| {
                ends.extend(
                    said.drain(..)
                        .filter(|said| matches!(said.change, Change::Ended { .. })),
                );
            });
            let Some(held) = cap.as_mut() else { return };
            let frontier = |f: &timely::progress::frontier::MutableAntichain<u64>| {
                f.frontier().first().copied().unwrap_or(u64::MAX)
            };
            let until = frontiers.iter().map(frontier).min().unwrap_or(u64::MAX);
            if until <= *held.time() {
                return;
            }
            let ready = ends.partition_point(|end| end.tick < until);
            if ready > 0 {
                let mut whole = kept.complete(&ends[..ready]);
                ends.drain(..ready);
                output.activate().session(&*held).give_container(&mut whole);
            }
            hear(kept.bytes() as i64 - heard);
            heard = kept.bytes() as i64;
            if until == u64::MAX {
                cap = None
            } else {
                held.downgrade(&until)
            }
        }
    });
    stream
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, Head};

    fn keep(kept: &mut Measurements, records: &[(i64, u64, &str)]) {
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
        let mut kept = Measurements::default();
        keep(
            &mut kept,
            &[(5, 1, "e"), (1, 1, "a"), (3, 2, "c"), (3, 1, "b")],
        );
        let bodies = |c: &Complete| {
            c.measurements()
                .map(|m| String::from_utf8(m.body.to_vec()).unwrap())
                .collect::<String>()
        };
        assert_eq!(bodies(&kept.complete(&[ended(3)])[0]), "abc");
        keep(&mut kept, &[(4, 1, "d"), (6, 1, "f"), (7, 1, "g")]);
        let other = Lifecycle {
            browser: [1; 2],
            ..ended(0)
        };
        let whole = kept.complete(&[ended(2), other, ended(1)]);
        assert_eq!(
            whole.iter().map(bodies).collect::<Vec<_>>(),
            ["de", "", "f"]
        );
        assert_eq!(bodies(&kept.complete(&[ended(1)])[0]), "g");
        assert_eq!(kept.bytes(), 0);
    }

    #[test]
    fn of_one_identity_the_least_bytes_are_kept() {
        let mut kept = Measurements::default();
        keep(&mut kept, &[(1, 1, "b"), (1, 1, "a"), (1, 1, "ab")]);
        let whole = kept.complete(&[ended(1)]).remove(0);
        assert_eq!(whole.len(), 1);
        assert_eq!(whole.measurements().next().unwrap().body, b"a");
    }
}
