//! A sealed visit with all of its measurements, and the form in which measurements are kept until
//! then.

use std::borrow::Cow;
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};

use crate::batch::Record;
use crate::near;
use crate::visit::{EndReason, Position, Tick};

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
    pub(super) measurements: Vec<Place>,
    pub(super) bytes: Arc<Vec<u8>>,
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

    /// Those of them that lie at these places, in the order of these.
    pub fn among(&self, those: &[Position]) -> impl Iterator<Item = Kept<'_>> {
        let find = |at: &Position| {
            let own = self
                .measurements
                .binary_search_by_key(at, |place| place.entry.at);
            own.ok().map(|n| self.measurements[n].kept(&self.bytes))
        };
        those.iter().filter_map(find)
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// What is kept of a browser's open visits: their measurements, in order.
#[derive(Debug)]
pub struct Looked<'a> {
    places: Vec<Place>,
    bytes: Cow<'a, [u8]>,
}

impl Looked<'static> {
    /// What was [copied](super::Measurements::copy).
    #[must_use]
    pub fn of(bytes: Vec<u8>) -> Looked<'static> {
        Looked::new(bytes.into())
    }
}

impl<'a> Looked<'a> {
    pub(super) fn new(bytes: Cow<'a, [u8]>) -> Looked<'a> {
        Looked {
            places: in_order(&bytes),
            bytes,
        }
    }

    /// Those at these places, which are in order.
    pub(super) fn among(bytes: Cow<'a, [u8]>, those: &[Position]) -> Looked<'a> {
        let is_one = |place: &Place| those.binary_search(&place.entry.at).is_ok();
        let mut places = entries(&bytes).filter(is_one).collect();
        bring_in_order(&mut places, &bytes);
        Looked { places, bytes }
    }

    /// Of those of one identity, the one that stays.
    pub(super) fn one(bytes: Cow<'a, [u8]>, at: Position) -> Looked<'a> {
        let key = |place: &Place| (place.kept(&bytes).body, place.entry.schema);
        let found = entries(&bytes).filter(|place| place.entry.at == at);
        let least = found.min_by(|a, b| key(a).cmp(&key(b)));
        Looked {
            places: least.into_iter().collect(),
            bytes,
        }
    }

    /// The measurements.
    pub fn measurements(&self) -> impl Iterator<Item = Kept<'_>> {
        self.places.iter().map(|place| place.kept(&self.bytes))
    }
}

/// What is written before each measurement's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Entry {
    pub at: Position,
    pub schema: u64,
    context: u32,
    body: u32,
}

/// An entry, and where its bytes begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub entry: Entry,
    start: usize,
}

impl Place {
    pub fn kept<'a>(&self, bytes: &'a [u8]) -> Kept<'a> {
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

/// Appends a measurement.
pub(super) fn append(record: Record<'_>, bytes: &mut Vec<u8>) {
    let entry = Entry {
        at: record.head.at,
        schema: record.head.schema,
        context: record.context.len() as u32,
        body: record.body.len() as u32,
    };
    bytes.extend_from_slice(bytemuck::bytes_of(&entry));
    bytes.extend_from_slice(record.context);
    bytes.extend_from_slice(record.body);
}

/// Where the measurements in these bytes are, one by one.
///
/// # Panics
/// If the bytes are none that [`append`] has made; checksums have told damage before.
pub(super) fn entries(bytes: &[u8]) -> impl Iterator<Item = Place> {
    let mut at = 0;
    let mut ahead = near::Ahead::of(bytes);
    std::iter::from_fn(move || {
        if at >= bytes.len() {
            return None;
        }
        // Only an entry says where the next one begins, so that each would be waited for.
        ahead.bring(at);
        let start = at + size_of::<Entry>();
        let entry: Entry = bytemuck::pod_read_unaligned(&bytes[at..start]);
        at = start + (entry.context + entry.body) as usize;
        Some(Place { entry, start })
    })
}

/// The same in order, and of those of one identity the one with the least bytes.
pub(super) fn in_order(bytes: &[u8]) -> Vec<Place> {
    let mut places = entries(bytes).collect();
    bring_in_order(&mut places, bytes);
    places
}

fn bring_in_order(places: &mut Vec<Place>, bytes: &[u8]) {
    if !places.is_sorted_by(|a, b| a.entry.at < b.entry.at) {
        places.sort_by(|a, b| {
            let key = |place: &Place| (place.entry.at, place.kept(bytes).body, place.entry.schema);
            key(a).cmp(&key(b))
        });
        places.dedup_by_key(|place| place.entry.at);
    }
}

/// The entries at these places, one behind the other, where the places then point.
pub(super) fn copied(places: &mut [Place], bytes: &[u8]) -> Vec<u8> {
    let length = |place: &Place| (place.entry.context + place.entry.body) as usize;
    let all = places
        .iter()
        .map(|place| size_of::<Entry>() + length(place));
    let mut kept = Vec::with_capacity(all.sum());
    for place in places {
        let entry = place.start - size_of::<Entry>()..place.start + length(place);
        place.start = kept.len() + size_of::<Entry>();
        kept.extend_from_slice(&bytes[entry]);
    }
    kept
}
