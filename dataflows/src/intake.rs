//! The intake: what a source does with each record, once and for good. It finds the message's
//! schema, walks the body, asks the partition's clock, and so decides the record's [`Fate`]; what
//! it found goes into the record's [`Head`], what enrichment knows of the sender into its context.
//!
//! A decision follows from the record, its partition's prefix and the schemas that are known;
//! nothing downstream decides again.

use std::collections::HashMap;
use std::sync::Arc;

use visitflow_schemas::key::{Digits, EventKey, id};
use visitflow_schemas::message;
use visitflow_schemas::records::{RejectReason, Rejected};
use visitflow_schemas::resolve::resolve;
use visitflow_schemas::role::Role;
use visitflow_schemas::roles::{Overrides, Roles};
use visitflow_schemas::schema::Schema;
use visitflow_schemas::shard::Shard;
use visitflow_schemas::store::{Missing, SchemaStore, StoreError};
use visitflow_schemas::walk::{Found, Walk};

use crate::batch::{Batch, BatchBuilder, Fate, Head, worker_of};
use crate::clock::{PartitionClock, Verdict};
use crate::enrich::Enrichment;
use crate::visit::{Position, browser_key, words_of_bytes};

/// The longest browser ID that is taken, in bytes: it is a key in logs and in memory.
pub const MAX_BROWSER_ID: usize = 1_024;

/// How many fingerprints are remembered to be unknown.
const MISSING: usize = 4_096;

/// A record as a source reads it.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: u32,
    /// Its offset there.
    pub offset: u64,
    /// When the log took it, in ms.
    pub log_time: i64,
    /// The message.
    pub value: &'a [u8],
}

/// Where an intake puts records: a batch for each worker.
#[derive(Debug)]
pub struct Outboxes {
    partitions: u32,
    builders: Vec<BatchBuilder>,
}

impl Outboxes {
    /// Empty ones. `partitions` are those of the outputs, by which shards are dealt to workers.
    pub fn new(partitions: u32, workers: usize) -> Outboxes {
        Outboxes {
            partitions,
            builders: (0..workers).map(|_| BatchBuilder::default()).collect(),
        }
    }

    /// Empty ones, dealt alike.
    #[must_use]
    pub fn like(&self) -> Outboxes {
        Outboxes::new(self.partitions, self.builders.len())
    }

    fn of(&mut self, shard: u8) -> &mut BatchBuilder {
        let worker = worker_of(shard, self.partitions, self.builders.len());
        &mut self.builders[worker]
    }

    /// The batches that are full; with `all`, every one that is not empty.
    pub fn ready(&mut self, all: bool) -> impl Iterator<Item = Batch> + '_ {
        let ready = move |builder: &&mut BatchBuilder| {
            if all {
                !builder.is_empty()
            } else {
                builder.is_full()
            }
        };
        self.builders
            .iter_mut()
            .filter(ready)
            .map(BatchBuilder::take)
    }
}

/// What is known of a writer's schema.
enum Writer {
    /// How to walk its bodies.
    Known(Box<Walk>),
    /// Why they cannot be taken.
    Unfit(String),
}

/// Why a record is no measurement of now.
struct Refusal {
    reason: RejectReason,
    detail: String,
}

fn refusal(reason: RejectReason, detail: impl Into<String>) -> Refusal {
    Refusal {
        reason,
        detail: detail.into(),
    }
}

/// The intake of one worker. Keeps a compiled walk for each writer's schema that it has met.
pub struct Intake {
    store: Arc<dyn SchemaStore>,
    reader: Schema,
    overrides: Overrides,
    max_record: usize,
    enrichment: Enrichment,
    writers: HashMap<u64, Writer>,
    missing: Missing,
    found: Found,
    scratch: Vec<u8>,
}

impl Intake {
    /// An intake that takes what `reader` can read. `overrides` say roles where schemas do not;
    /// `max_record` is in bytes.
    pub fn new(
        store: Arc<dyn SchemaStore>,
        reader: Schema,
        overrides: Overrides,
        max_record: usize,
        enrichment: Enrichment,
    ) -> Intake {
        Intake {
            store,
            reader,
            overrides,
            max_record,
            enrichment,
            writers: HashMap::new(),
            missing: Missing::of(MISSING),
            found: Found::default(),
            scratch: Vec::new(),
        }
    }

    /// Forgets which schemas are missing: to be called when the store may know more.
    pub fn look_again(&mut self) {
        self.missing.clear();
    }

    /// Whether a schema is known, and loads it if it is.
    ///
    /// # Errors
    /// Only if the schema store fails.
    pub fn learn(&mut self, fingerprint: u64) -> Result<bool, StoreError> {
        if self.knows(fingerprint) {
            return Ok(true);
        }
        let writer = self.writer(fingerprint)?;
        let known = writer.is_some();
        self.writers
            .extend(writer.map(|writer| (fingerprint, writer)));
        Ok(known)
    }

    /// Whether a schema has been met and was known.
    #[inline]
    pub fn knows(&self, fingerprint: u64) -> bool {
        self.writers.contains_key(&fingerprint)
    }

    /// Decides over a record whose schema was not known when it was read for the first time, as it
    /// was decided then: by [`take`](Intake::take), whatever is known by now.
    pub fn take_unknown(
        &mut self,
        arrived: Arrived<'_>,
        clock: &mut PartitionClock,
        outboxes: &mut Outboxes,
    ) -> Result<Fate, StoreError> {
        let Ok((schema, _)) = message::split(arrived.value) else {
            return self.take(arrived, clock, outboxes);
        };
        let known = self.writers.remove(&schema);
        // Remembered as missing for this one record.
        let missing = std::mem::replace(&mut self.missing, Missing::of(MISSING));
        self.missing.add(schema);
        let fate = self.take(arrived, clock, outboxes);
        self.missing = missing;
        self.writers.extend(known.map(|writer| (schema, writer)));
        fate
    }

    /// Decides over a record at the tick of its partition's `clock`, and puts it into the outbox
    /// of the worker that has its shard.
    ///
    /// # Errors
    /// Only if the schema store fails; then nothing was decided.
    pub fn take(
        &mut self,
        arrived: Arrived<'_>,
        clock: &mut PartitionClock,
        outboxes: &mut Outboxes,
    ) -> Result<Fate, StoreError> {
        clock.log_time(arrived.log_time);
        let head = Head {
            tick: clock.tick(),
            lag: u32::try_from(clock.tick() as i64 - arrived.log_time).unwrap_or(0),
            ..Head::default()
        };
        match self.measurement(arrived, head, clock, outboxes)? {
            Ok(fate) => Ok(fate),
            Err(refusal) => {
                self.reject(arrived, head, &refusal, outboxes);
                Ok(Fate::Rejected)
            }
        }
    }

    #[inline]
    fn measurement(
        &mut self,
        arrived: Arrived<'_>,
        head: Head,
        clock: &mut PartitionClock,
        outboxes: &mut Outboxes,
    ) -> Result<Result<Fate, Refusal>, StoreError> {
        if arrived.value.len() > self.max_record {
            let detail = format!(
                "{} bytes, expected at most {}",
                arrived.value.len(),
                self.max_record
            );
            return Ok(Err(refusal(RejectReason::Oversize, detail)));
        }
        let (schema, body) = match message::split(arrived.value) {
            Ok(split) => split,
            Err(error) => return Ok(Err(refusal(RejectReason::NotAMessage, error.to_string()))),
        };
        if !self.writers.contains_key(&schema) {
            let Some(writer) = self.writer(schema)? else {
                let detail = format!("no schema of fingerprint {schema:016x} is known");
                return Ok(Err(refusal(RejectReason::UnknownSchema, detail)));
            };
            self.writers.insert(schema, writer);
        }
        let walk = match &self.writers[&schema] {
            Writer::Known(walk) => walk,
            Writer::Unfit(why) => {
                return Ok(Err(refusal(RejectReason::UnusableSchema, why.clone())));
            }
        };
        let found = &mut self.found;
        if let Err(error) = walk.run(body, found) {
            return Ok(Err(refusal(RejectReason::Undecodable, walk.explain(error))));
        }
        let mut digits = Digits::default();
        let browser_id = match id(found, body, Role::BrowserId, &mut digits) {
            Some(id) if (1..=MAX_BROWSER_ID).contains(&id.len()) => id,
            Some([]) | None => {
                return Ok(Err(refusal(
                    RejectReason::NoBrowser,
                    "the browser's ID is empty",
                )));
            }
            Some(id) => {
                let detail = format!(
                    "a browser's ID of {} bytes, expected at most {MAX_BROWSER_ID}",
                    id.len()
                );
                return Ok(Err(refusal(RejectReason::NoBrowser, detail)));
            }
        };
        let Some(event) = EventKey::of(found, body) else {
            return Ok(Err(refusal(RejectReason::NoEventId, "its ID is null")));
        };
        let Some(time) = found.event_time_ms() else {
            return Ok(Err(refusal(RejectReason::NoEventTime, "its time is null")));
        };
        let browser = browser_key(browser_id);
        let (fate, extra) = match clock.judge(time, browser) {
            Verdict::Now => (Fate::Accepted, 0),
            Verdict::Late(by) => (Fate::Late, by),
            Verdict::Future(by) => {
                let detail = format!("{by} ms too far in front of the log's clock");
                return Ok(Err(refusal(RejectReason::Future, detail)));
            }
        };
        let shard = Shard::of(browser_id).0;
        let head = Head {
            browser,
            at: Position {
                time,
                event: words_of_bytes(&event.0),
            },
            extra,
            schema,
            shard,
            fate: fate as u8,
            ..head
        };
        let (ip, agent) = (
            found.text(body, Role::Ip),
            found.text(body, Role::UserAgent),
        );
        let enrichment = &mut self.enrichment;
        outboxes.of(shard).push(head, browser_id, body, |out| {
            enrichment.context(ip, agent, out);
        });
        Ok(Ok(fate))
    }

    /// Works out how to read a writer; `None` if no such schema is known.
    #[cold]
    fn writer(&mut self, fingerprint: u64) -> Result<Option<Writer>, StoreError> {
        if self.missing.has(fingerprint) {
            return Ok(None);
        }
        let Some(schema) = self.store.get(fingerprint)? else {
            self.missing.add(fingerprint);
            return Ok(None);
        };
        Ok(Some(
            self.compile(&schema)
                .map_or_else(Writer::Unfit, |walk| Writer::Known(Box::new(walk))),
        ))
    }

    fn compile(&self, schema: &Schema) -> Result<Walk, String> {
        let read = resolve(schema, &self.reader).map_err(|e| {
            format!(
                "the schema {} cannot be read as the job's: {e}",
                schema.record().name
            )
        })?;
        let overrides = self.overrides.in_writer(&self.reader, schema);
        let roles = Roles::find(schema, &overrides).map_err(|e| e.to_string())?;
        Walk::compile(schema, &roles, Some(&read)).map_err(|e| e.to_string())
    }

    #[cold]
    fn reject(
        &mut self,
        arrived: Arrived<'_>,
        head: Head,
        refusal: &Refusal,
        outboxes: &mut Outboxes,
    ) {
        // What is too large is only to be found where it lies: a part of it would be taken for all.
        let sent_on = refusal.reason != RejectReason::Oversize;
        self.scratch.clear();
        Rejected {
            reason: refusal.reason,
            detail: &refusal.detail,
            topic: arrived.topic,
            partition: arrived.partition as i32,
            offset: arrived.offset as i64,
            log_time: arrived.log_time,
            message: sent_on.then_some(arrived.value),
            size: arrived.value.len() as i64,
        }
        .encode_body(&mut self.scratch);
        // It has no browser to go by: the place where it was read decides.
        let place = format!("{}/{}", arrived.topic, arrived.partition);
        let shard = Shard::of(place.as_bytes()).0;
        let head = Head {
            shard,
            fate: Fate::Rejected as u8,
            ..head
        };
        outboxes.of(shard).push(head, b"", &self.scratch, |_| ());
    }
}
