//! The sink of a job's topics: takes whole ticks of all of them together, and says by its frontier
//! up to where they are committed. Four topics every job has; further ones are written by name, from
//! streams of [`Message`]s that others have encoded.
//!
//! A record's key is its browser's ID, its partition its shard's; the header `tick` carries its tick
//! as decimal digits. Where they go, [`Destination`] says: a log beside the program, or Kafka.

use std::collections::HashMap;
use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Stream, StreamVec};
use timely::progress::frontier::MutableAntichain;
use timely::scheduling::SyncActivator;
use visitflow_dataflows::batch::{Batch, Record, worker_of};
use visitflow_dataflows::cut::{Cut, Cuts};
use visitflow_dataflows::message::Message;
use visitflow_dataflows::profiles::Loaded;
use visitflow_dataflows::step::Steps;
use visitflow_dataflows::visit::{Tick, bytes_of_words};
use visitflow_dataflows::visits::Lifecycle;
use visitflow_schemas::encode;
use visitflow_schemas::message;
use visitflow_schemas::records;
use visitflow_schemas::schema::{Schema, SchemaError};
use visitflow_schemas::store::SchemaStore;
use visitflow_schemas::tag::{self, Tag};

use super::naming::{encode_named, tick_of};
use super::{Position, SinkError};
use crate::job::Job;
use crate::run::Failure;

/// The topics that every job has, as [`Destination::push`] numbers them; [`names`] has the others.
pub const TOPICS: [&str; 4] = ["tagged", "lifecycle", "late", "rejected"];
const TAGGED: usize = 0;
const LIFECYCLE: usize = 1;
const LATE: usize = 2;
const REJECTED: usize = 3;

/// The topic of orders and what led to them, of jobs that tell of open visits.
pub const ATTRIBUTION: &str = "attribution";

/// All topics of a job, as [`Destination::push`] numbers them: those that every job has, then those
/// of [`Streams::further`], in their order.
pub fn names(job: &Job) -> Vec<String> {
    let mut names: Vec<String> = TOPICS.map(String::from).into();
    names.extend(job.watched().then(|| ATTRIBUTION.to_owned()));
    names.extend(job.outputs.further.iter().cloned());
    names
}

/// Where topics are written. What it is given twice, after a start, it takes once.
pub trait Destination {
    /// Takes a message, in parts, for the partition of its shard.
    ///
    /// # Errors
    /// What it meets.
    fn push(
        &mut self,
        topic: usize,
        tick: Tick,
        shard: u8,
        key: &[u8],
        parts: &[&[u8]],
    ) -> Result<(), SinkError>;
    /// All messages of ticks before `until` have been pushed: they may be committed. `last` is the
    /// last tick of them. With `always`, progress is noted even if nothing was pushed.
    ///
    /// # Errors
    /// What it meets.
    fn commit(&mut self, until: Tick, last: Tick, always: bool) -> Result<(), SinkError>;
    /// Up to where all is committed.
    ///
    /// # Errors
    /// What it has met since.
    fn committed(&mut self) -> Result<Tick, SinkError>;
    /// How far each partition has come with what was pushed, for a snapshot of that tick.
    ///
    /// # Errors
    /// What it meets.
    fn positions(&mut self, at: Tick) -> Result<Vec<Position>, SinkError>;
    /// Is given what wakes the operator when more is committed.
    fn wake(&mut self, activator: SyncActivator);
    /// Nothing more will come, and everything is committed.
    ///
    /// # Errors
    /// What it meets.
    fn close(&mut self) -> Result<(), SinkError>;
}

impl Destination for Box<dyn Destination> {
    #[inline]
    fn push(
        &mut self,
        topic: usize,
        tick: Tick,
        shard: u8,
        key: &[u8],
        parts: &[&[u8]],
    ) -> Result<(), SinkError> {
        (**self).push(topic, tick, shard, key, parts)
    }
    fn commit(&mut self, until: Tick, last: Tick, always: bool) -> Result<(), SinkError> {
        (**self).commit(until, last, always)
    }
    fn committed(&mut self) -> Result<Tick, SinkError> {
        (**self).committed()
    }
    fn positions(&mut self, at: Tick) -> Result<Vec<Position>, SinkError> {
        (**self).positions(at)
    }
    fn wake(&mut self, activator: SyncActivator) {
        (**self).wake(activator);
    }
    fn close(&mut self) -> Result<(), SinkError> {
        (**self).close()
    }
}

/// What is written to topics.
pub struct Streams<'s> {
    /// Tagged measurements: the visit's ID and beginning, the context, the measurement's own bytes.
    pub tagged: Stream<'s, u64, Batch>,
    /// Beginnings, revisions and ends of visits.
    pub lifecycle: StreamVec<'s, u64, Lifecycle>,
    /// Customers who are named in visits, and what is known of them: for the same topic, of each tick
    /// behind what else it says.
    pub loaded: StreamVec<'s, u64, Loaded>,
    /// Late measurements: how late, the context, the measurement's own bytes.
    pub late: Stream<'s, u64, Batch>,
    /// Rejected records, whose bodies the intake has written.
    pub rejected: Stream<'s, u64, Batch>,
    /// Further topics, by name: messages that are written as they are.
    pub further: Vec<(String, StreamVec<'s, u64, Message>)>,
    /// All cuts, on every worker.
    pub cuts: StreamVec<'s, u64, Cut>,
}

/// What surrounds the sink.
pub struct Settings<D> {
    /// Where topics are written.
    pub destination: D,
    /// The partitions of each, by which shards are dealt to workers.
    pub partitions: u32,
    /// The schemas of measurements.
    pub source: Arc<dyn SchemaStore>,
    /// Where the schemas of messages are put.
    pub outputs: Arc<dyn SchemaStore>,
    /// Is shown each tagged measurement that is written.
    pub sample: Box<dyn FnMut(&Record<'_>)>,
    /// Is told how far partitions have come at a snapshot's tick.
    pub save: Box<dyn FnMut(Tick, Vec<Position>)>,
    /// Where what goes wrong is left.
    pub failure: Failure,
}

/// What is not complete yet.
#[derive(Default)]
struct Held {
    tagged: Steps,
    lifecycle: Vec<Lifecycle>,
    loaded: Vec<Loaded>,
    late: Steps,
    rejected: Steps,
    /// By further topic.
    further: Vec<Vec<Message>>,
}

/// Turns what is held into messages.
struct Messages<D> {
    settings: Settings<D>,
    tagged: Derived,
    late: Derived,
    rejected: Vec<u8>,
    scratch: Vec<u8>,
}

impl<D: Destination> Messages<D> {
    fn new(settings: Settings<D>) -> Messages<D> {
        let derived =
            |derive| Derived::new(settings.source.clone(), settings.outputs.clone(), derive);
        let mut rejected = Vec::new();
        message::write_header(records::REJECTED.fingerprint(), &mut rejected);
        Messages {
            tagged: derived(tag::tagged),
            late: derived(tag::late),
            rejected,
            settings,
            scratch: Vec::new(),
        }
    }

    /// Gives what lies before `until` to the destination; the last tick that was.
    fn release(&mut self, held: &mut Held, until: Tick) -> Result<Tick, SinkError> {
        let Messages {
            settings, scratch, ..
        } = self;
        let to = &mut settings.destination;
        let mut last = 0;
        for record in held.tagged.complete(until).in_order() {
            last = last.max(record.head.tick);
            scratch.clear();
            scratch.extend_from_slice(self.tagged.header(record.head.schema)?);
            let tag = Tag {
                visit_id: bytes_of_words(record.head.visit),
                visit_started: record.head.extra,
            };
            tag.write_body(&[], &[], scratch);
            (settings.sample)(&record);
            push(to, TAGGED, &record, &[scratch, record.context, record.body])?;
        }
        // They come from all workers, in any order.
        held.loaded.sort_unstable_by(|a, b| place(a).cmp(&place(b)));
        let ready = held.loaded.partition_point(|said| tick_of(said) < until);
        let mut loaded = held.loaded.drain(..ready).peekable();
        let ready = held.lifecycle.partition_point(|said| said.tick < until);
        for said in held.lifecycle.drain(..ready) {
            while let Some(before) = loaded.next_if(|before| tick_of(before) < said.tick) {
                last = last.max(push_loaded(to, &before, scratch)?);
            }
            last = last.max(said.tick);
            scratch.clear();
            super::encode_lifecycle(&said, scratch);
            to.push(
                LIFECYCLE,
                said.tick,
                said.shard,
                &said.browser_id,
                &[scratch],
            )?;
        }
        for said in loaded {
            last = last.max(push_loaded(to, &said, scratch)?);
        }
        for record in held.late.complete(until).in_order() {
            last = last.max(record.head.tick);
            scratch.clear();
            scratch.extend_from_slice(self.late.header(record.head.schema)?);
            encode::long(record.head.extra, scratch);
            push(to, LATE, &record, &[scratch, record.context, record.body])?;
        }
        for record in held.rejected.complete(until).in_order() {
            last = last.max(record.head.tick);
            push(to, REJECTED, &record, &[&self.rejected, record.body])?;
        }
        for (n, messages) in held.further.iter_mut().enumerate() {
            // Stable: those of one tick stay as they were said.
            messages.sort_by_key(|message| message.tick);
            let ready = messages.partition_point(|message| message.tick < until);
            for message in messages.drain(..ready) {
                let Message {
                    tick,
                    shard,
                    key,
                    value,
                } = &message;
                last = last.max(*tick);
                to.push(TOPICS.len() + n, *tick, *shard, key, &[value])?;
            }
        }
        Ok(last)
    }
}

fn push(
    to: &mut impl Destination,
    topic: usize,
    record: &Record<'_>,
    parts: &[&[u8]],
) -> Result<(), SinkError> {
    let head = record.head;
    to.push(topic, head.tick, head.shard, record.browser_id, parts)
}

/// Where it stands in the topic: by tick, then each browser's by event time.
fn place(said: &Loaded) -> impl Ord + use<'_> {
    let named = &said.named;
    let of = (&named.browser_id, named.time, &named.visit, &named.customer);
    (named.tick, of)
}

fn push_loaded(
    to: &mut impl Destination,
    said: &Loaded,
    scratch: &mut Vec<u8>,
) -> Result<Tick, SinkError> {
    let (tick, named) = (tick_of(said), &said.named);
    scratch.clear();
    encode_named(said, scratch);
    to.push(LIFECYCLE, tick, named.shard, &named.browser_id, &[scratch])?;
    Ok(tick)
}

/// Writes streams to topics. The stream that comes back carries nothing but its frontier: the ticks
/// before it are committed.
pub fn topics<'s, D: Destination + 'static>(
    streams: Streams<'s>,
    settings: Settings<D>,
) -> StreamVec<'s, u64, ()> {
    let scope = streams.tagged.scope();
    let mut builder = OperatorBuilder::new("Topics".to_owned(), scope);
    let mut tagged = builder.new_input(streams.tagged, Pipeline);
    let mut lifecycle = builder.new_input(streams.lifecycle, Pipeline);
    let mut late = builder.new_input(streams.late, Pipeline);
    let mut rejected = builder.new_input(streams.rejected, Pipeline);
    let mut heard = builder.new_input(streams.cuts, Pipeline);
    let (partitions, peers) = (settings.partitions, scope.peers());
    // Those who have a customer's profile need not be those who write the browser's partition.
    let to = move |said: &Loaded| worker_of(said.named.shard, partitions, peers) as u64;
    let mut loaded = builder.new_input(streams.loaded, Exchange::new(to));
    let (further_names, mut further): (Vec<String>, Vec<_>) = streams
        .further
        .into_iter()
        .map(|(name, messages)| {
            // Whoever says a message need not know who writes its partition.
            let to = move |message: &Message| worker_of(message.shard, partitions, peers) as u64;
            (name, builder.new_input(messages, Exchange::new(to)))
        })
        .unzip();
    let (output, stream) = builder.new_output();
    // It carries nothing; but an operator without an output has no frontier to show.
    let output = OutputBuilder::<_, CapacityContainerBuilder<Vec<()>>>::from(output);
    let address = builder.operator_info().address;
    let wake = scope.worker().sync_activator_for(address.to_vec());
    builder.build(move |caps| {
        let mut cap = caps.into_iter().next();
        let failure = settings.failure.clone();
        let mut messages = Messages::new(settings);
        messages.settings.destination.wake(wake);
        let mut held = Held::default();
        held.further.resize_with(further.len(), Vec::new);
        let mut cuts = Cuts::default();
        // Up to where everything has been given to the destination.
        let mut given = 0;
        move |frontiers| {
            let _output = &output;
            tagged.for_each(|_, batch| held.tagged.push(std::mem::take(batch)));
            lifecycle.for_each(|_, said| held.lifecycle.append(said));
            loaded.for_each(|_, said| held.loaded.append(said));
            late.for_each(|_, batch| held.late.push(std::mem::take(batch)));
            rejected.for_each(|_, batch| held.rejected.push(std::mem::take(batch)));
            for ((input, held), name) in further
                .iter_mut()
                .zip(&mut held.further)
                .zip(&further_names)
            {
                input.for_each(|_, messages| {
                    if let Some(behind) = messages.iter().find(|message| message.tick < given) {
                        failure.set(SinkError::Behind {
                            topic: name.clone(),
                            tick: behind.tick,
                            until: given,
                        });
                    }
                    held.append(messages);
                });
            }
            heard.for_each(|_, heard| heard.drain(..).for_each(|cut| cuts.add(cut)));
            let Some(own) = cap.as_mut().filter(|_| !failure.is_set()) else {
                return;
            };
            let until = complete_until(frontiers);
            let mut advance = || -> Result<Tick, SinkError> {
                while let Some(cut) = cuts.next(until) {
                    if cut.snapshot {
                        let last = messages.release(&mut held, cut.tick)?;
                        let Settings {
                            destination, save, ..
                        } = &mut messages.settings;
                        destination.commit(cut.tick, last, true)?;
                        save(cut.tick, destination.positions(cut.tick)?);
                    }
                }
                if until > given {
                    let last = messages.release(&mut held, until)?;
                    messages.settings.destination.commit(until, last, false)?;
                    given = until;
                }
                let committed = messages.settings.destination.committed()?;
                if committed == u64::MAX {
                    messages.settings.destination.close()?;
                }
                Ok(committed)
            };
            match advance() {
                Err(error) => failure.set(error),
                Ok(u64::MAX) => cap = None,
                Ok(committed) if committed > *own.time() => own.downgrade(&committed),
                Ok(_) => {}
            }
        }
    });
    stream
}

/// Up to where all of an operator's inputs are complete; `u64::MAX` at their end.
fn complete_until(frontiers: &[MutableAntichain<u64>]) -> Tick {
    let first = |frontier: &MutableAntichain<u64>| frontier.frontier().first().copied();
    frontiers.iter().filter_map(first).min().unwrap_or(u64::MAX)
}

/// Derives the schemas of outgoing messages from those of their writers, and registers them.
struct Derived {
    source: Arc<dyn SchemaStore>,
    outputs: Arc<dyn SchemaStore>,
    derive: fn(&Schema) -> Result<Schema, SchemaError>,
    /// By the writer's fingerprint: the header of the message.
    headers: HashMap<u64, Vec<u8>>,
}

impl Derived {
    /// Derives by `derive`; writers' schemas are in `source`, derived ones go to `outputs`.
    fn new(
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
    fn header(&mut self, writer: u64) -> Result<&[u8], SinkError> {
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

/// The digits of a tick, for the header of that name.
pub(super) fn decimal(mut value: u64, digits: &mut [u8; 20]) -> &[u8] {
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
