//! The sink of a topic of the embedded log: writes records in the order of their ticks, and
//! commits whole ticks.
//!
//! A record's key is its browser's ID, its partition its shard's, its log time its tick, which the
//! header `tick` carries too, as decimal digits. What a commit holds is seen at once or not at all.

use std::collections::HashMap;
use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::{Stream, StreamVec};
use visitflow_dataflows::batch::{Batch, Record};
use visitflow_dataflows::step::Steps;
use visitflow_dataflows::visit::{Tick, bytes_of_words};
use visitflow_dataflows::visits::Lifecycle;
use visitflow_schemas::encode;
use visitflow_schemas::message;
use visitflow_schemas::schema::{Schema, SchemaError};
use visitflow_schemas::shard::Shard;
use visitflow_schemas::store::SchemaStore;
use visitflow_schemas::tag::Tag;

use super::SinkError;
use crate::log::{LogError, Topic, Writer, WriterOptions};
use crate::run::Failure;

/// The partitions of an output topic that a worker writes: those whose number is its own, modulo
/// the number of workers.
pub struct Partitions {
    name: &'static str,
    writers: Vec<Option<Writer>>,
}

impl Partitions {
    /// Opens them.
    pub fn open(
        topic: &Topic,
        name: &'static str,
        worker: usize,
        workers: usize,
    ) -> Result<Partitions, LogError> {
        let open = |partition: u32| {
            let own = partition as usize % workers == worker;
            own.then(|| Writer::open(topic, partition, WriterOptions::default()))
                .transpose()
        };
        Ok(Partitions {
            name,
            writers: (0..topic.partitions())
                .map(open)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Appends a message, given in parts, to the partition of its shard.
    #[inline]
    pub fn push(
        &mut self,
        tick: Tick,
        shard: u8,
        key: &[u8],
        parts: &[&[u8]],
    ) -> Result<(), SinkError> {
        let partition = Shard(shard).partition(self.writers.len() as u32) as usize;
        let writer = self.writers[partition]
            .as_mut()
            .expect("shards are dealt to workers by partition");
        let mut digits = [0; 20];
        let headers = [("tick", decimal(tick, &mut digits))];
        let pushed = writer.push_parts(tick as i64, key, &headers, parts);
        pushed.map(drop).map_err(|source| SinkError::Topic {
            topic: self.name,
            source,
        })
    }

    fn commit(&mut self, tick: Tick) -> Result<(), SinkError> {
        let commit = |writer: &mut Writer| writer.commit(tick);
        let done = self.writers.iter_mut().flatten().try_for_each(commit);
        done.map_err(|source| SinkError::Topic {
            topic: self.name,
            source,
        })
    }

    fn close(self) -> Result<(), SinkError> {
        let done = self
            .writers
            .into_iter()
            .flatten()
            .try_for_each(Writer::close);
        done.map_err(|source| SinkError::Topic {
            topic: self.name,
            source,
        })
    }
}

fn decimal(mut value: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &digits[at..];
        }
    }
}

/// What a topic's records are made of: something that is held until its ticks are complete.
pub trait Outgoing: timely::Container {
    /// What is not complete yet.
    type Held: Default;
    /// Holds a container.
    fn hold(self, held: &mut Self::Held);
    /// Gives out what lies before `until`, in the order of ticks; returns the last tick given.
    fn release(
        held: &mut Self::Held,
        until: Tick,
        each: &mut dyn FnMut(Item<'_>) -> Result<(), SinkError>,
    ) -> Result<Option<Tick>, SinkError>;
}

/// Something to be written.
pub enum Item<'a> {
    /// A record of a batch.
    Record(Record<'a>),
    /// Something that became known of a visit.
    Lifecycle(&'a Lifecycle),
}

impl Outgoing for Batch {
    type Held = Steps;

    fn hold(self, held: &mut Steps) {
        held.push(self);
    }

    fn release(
        held: &mut Steps,
        until: Tick,
        each: &mut dyn FnMut(Item<'_>) -> Result<(), SinkError>,
    ) -> Result<Option<Tick>, SinkError> {
        let step = held.complete(until);
        let mut last = None;
        for record in step.in_order() {
            last = Some(record.head.tick);
            each(Item::Record(record))?;
        }
        Ok(last)
    }
}

impl Outgoing for Vec<Lifecycle> {
    type Held = Vec<Lifecycle>;

    fn hold(self, held: &mut Vec<Lifecycle>) {
        held.extend(self);
    }

    fn release(
        held: &mut Vec<Lifecycle>,
        until: Tick,
        each: &mut dyn FnMut(Item<'_>) -> Result<(), SinkError>,
    ) -> Result<Option<Tick>, SinkError> {
        let ready = held.partition_point(|said| said.tick < until);
        let mut last = None;
        for said in held.drain(..ready) {
            last = Some(said.tick);
            each(Item::Lifecycle(&said))?;
        }
        Ok(last)
    }
}

/// Writes a stream to a topic. `write` turns an item into a message. The stream that comes back
/// carries nothing but its frontier: the ticks before it are committed.
pub fn topic<'s, C: Outgoing>(
    stream: Stream<'s, u64, C>,
    partitions: Partitions,
    failure: Failure,
    mut write: impl FnMut(Item<'_>, &mut Partitions) -> Result<(), SinkError> + 'static,
) -> StreamVec<'s, u64, ()> {
    let name = partitions.name;
    stream.unary_frontier::<CapacityContainerBuilder<Vec<()>>, _, _, _>(
        Pipeline,
        name,
        move |cap, _| {
            let mut cap = Some(cap);
            let mut partitions = Some(partitions);
            let mut held = C::Held::default();
            move |(input, frontier), _| {
                input.for_each(|_, container| std::mem::take(container).hold(&mut held));
                let (Some(own), Some(to)) = (cap.as_mut(), partitions.as_mut()) else {
                    return;
                };
                let until = frontier.frontier().first().copied().unwrap_or(u64::MAX);
                if until <= *own.time() || failure.is_set() {
                    return;
                }
                let mut done = || {
                    let last = C::release(&mut held, until, &mut |item| write(item, to))?;
                    last.map_or(Ok(()), |last| {
                        to.commit(if until == u64::MAX { last } else { until - 1 })
                    })
                };
                if let Err(error) = done() {
                    failure.set(error);
                    return;
                }
                if until < u64::MAX {
                    own.downgrade(&until);
                    return;
                }
                if let Err(error) = partitions.take().map_or(Ok(()), Partitions::close) {
                    failure.set(error);
                }
                cap = None;
            }
        },
    )
}

/// Derives the schemas of outgoing messages from those of their writers, and registers them.
pub struct Derived {
    source: Arc<dyn SchemaStore>,
    outputs: Arc<dyn SchemaStore>,
    derive: fn(&Schema) -> Result<Schema, SchemaError>,
    /// By the writer's fingerprint: the header of the message.
    headers: HashMap<u64, Vec<u8>>,
}

impl Derived {
    /// Derives by `derive`; writers' schemas are in `source`, derived ones go to `outputs`.
    pub fn new(
        source: Arc<dyn SchemaStore>,
        outputs: Arc<dyn SchemaStore>,
        derive: fn(&Schema) -> Result<Schema, SchemaError>,
    ) -> Derived {
        Derived {
            source,
            outputs,
            derive,
            headers: HashMap::new(),
        }
    }

    /// The header of a message that is derived from one of this writer.
    #[inline]
    pub fn header(&mut self, writer: u64) -> Result<&[u8], SinkError> {
        if !self.headers.contains_key(&writer) {
            let Some(schema) = self.source.get(writer)? else {
                let detail = "its schema has left the schema store".to_owned();
                return Err(SinkError::Unreadable {
                    schema: writer,
                    detail,
                });
            };
            let derived = (self.derive)(&schema).map_err(|e| SinkError::Unreadable {
                schema: writer,
                detail: e.to_string(),
            })?;
            self.outputs.put(&derived)?;
            let mut header = Vec::new();
            message::write_header(derived.fingerprint(), &mut header);
            self.headers.insert(writer, header);
        }
        Ok(&self.headers[&writer])
    }
}

/// Tagged measurements: the visit's ID and beginning, the context, the measurement's own bytes.
pub fn tagged<'s>(
    stream: Stream<'s, u64, Batch>,
    partitions: Partitions,
    mut schemas: Derived,
    failure: Failure,
    mut written: impl FnMut(&Record<'_>) + 'static,
) -> StreamVec<'s, u64, ()> {
    let mut scratch = Vec::new();
    topic(stream, partitions, failure, move |item, to| {
        let Item::Record(record) = item else {
            return Ok(());
        };
        let header = schemas.header(record.head.schema)?;
        scratch.clear();
        scratch.extend_from_slice(header);
        let tag = Tag {
            visit_id: bytes_of_words(record.head.visit),
            visit_started: record.head.extra,
        };
        tag.write_body(&[], &[], &mut scratch);
        written(&record);
        let parts = [&scratch[..], record.context, record.body];
        to.push(
            record.head.tick,
            record.head.shard,
            record.browser_id,
            &parts,
        )
    })
}

/// Late measurements: how late, the context, the measurement's own bytes.
pub fn late<'s>(
    stream: Stream<'s, u64, Batch>,
    partitions: Partitions,
    mut schemas: Derived,
    failure: Failure,
) -> StreamVec<'s, u64, ()> {
    let mut scratch = Vec::new();
    topic(stream, partitions, failure, move |item, to| {
        let Item::Record(record) = item else {
            return Ok(());
        };
        scratch.clear();
        scratch.extend_from_slice(schemas.header(record.head.schema)?);
        encode::long(record.head.extra, &mut scratch);
        let parts = [&scratch[..], record.context, record.body];
        to.push(
            record.head.tick,
            record.head.shard,
            record.browser_id,
            &parts,
        )
    })
}

/// Rejected records, whose bodies the intake has written.
pub fn rejected<'s>(
    stream: Stream<'s, u64, Batch>,
    partitions: Partitions,
    schema: &Schema,
    failure: Failure,
) -> StreamVec<'s, u64, ()> {
    let mut header = Vec::new();
    message::write_header(schema.fingerprint(), &mut header);
    topic(stream, partitions, failure, move |item, to| {
        let Item::Record(record) = item else {
            return Ok(());
        };
        to.push(
            record.head.tick,
            record.head.shard,
            b"",
            &[&header, record.body],
        )
    })
}

/// Beginnings, revisions and ends of visits.
pub fn lifecycle<'s>(
    stream: StreamVec<'s, u64, Lifecycle>,
    partitions: Partitions,
    failure: Failure,
) -> StreamVec<'s, u64, ()> {
    let mut scratch = Vec::new();
    topic(stream, partitions, failure, move |item, to| {
        let Item::Lifecycle(said) = item else {
            return Ok(());
        };
        scratch.clear();
        super::encode_lifecycle(said, &mut scratch);
        to.push(said.tick, said.shard, &said.browser_id, &[&scratch])
    })
}
