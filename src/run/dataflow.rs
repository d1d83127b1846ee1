//! The dataflow of a job on one worker: fragments wired together, sources in front, sinks behind.

use std::cell::{Cell, RefCell};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use timely::dataflow::operators::vec::Broadcast;
use timely::dataflow::operators::{Inspect, Probe, probe};
use timely::worker::Worker;
use visitflow_dataflows::clock::{ClockKind, PartitionClock};
use visitflow_dataflows::complete::complete;
use visitflow_dataflows::fates::fates;
use visitflow_dataflows::intake::{Intake, Outboxes};
use visitflow_dataflows::ledger::{Entry, Ledger, ledger};
use visitflow_dataflows::visits::visits;
use visitflow_schemas::records;
use visitflow_schemas::tag;

use super::metrics::Newest;
use super::outputs::identified;
use super::{RunError, Shared};
use crate::job::Clock;
use crate::log::{Reader, Topic, start_offset};
use crate::sink::{SinkError, table, topic};
use crate::source::{self, Cut, SourceState};
use crate::wall;

/// How long an idle worker parks at most.
const PARK: Duration = Duration::from_millis(5);
/// One tag in so many is shown and timed.
const SAMPLE: u64 = 64;

/// Works until the job is done; the ledger, on the first worker.
pub fn work(worker: &mut Worker, shared: &Shared) -> Option<Ledger> {
    let ledger = match build(worker, shared) {
        Ok(built) => built.run(worker, shared),
        Err(error) => {
            shared.failure.set(error);
            None
        }
    };
    // A worker that leaves in peace is waited for no longer, but what it owes the others is. So that
    // they do not wait for ever, its process must be seen to fail.
    if shared.shares && shared.failure.is_set() {
        resume_unwind(Box::new("the process has failed"));
    }
    ledger
}

/// A dataflow that stands.
struct Built {
    dataflow: usize,
    stop_at: Rc<Cell<Option<u64>>>,
    committed: probe::Handle<u64>,
    open: Rc<Cell<usize>>,
    ledger: Rc<RefCell<Ledger>>,
    versions: Rc<Cell<[(u64, u64); 2]>>,
}

impl Built {
    fn run(self, worker: &mut Worker, shared: &Shared) -> Option<Ledger> {
        let local = worker.index() % shared.job.workers;
        loop {
            let active = worker.step_or_park(Some(PARK));
            let metrics = &shared.metrics;
            metrics.open[local].store(self.open.get() as u64, Ordering::Relaxed);
            let committed = self
                .committed
                .with_frontier(|f| f.first().copied().unwrap_or(u64::MAX));
            if worker.index() == 0 {
                metrics.committed.store(committed, Ordering::Relaxed);
                for (to, (version, tick)) in metrics.versions.iter().zip(self.versions.get()) {
                    to[0].store(version, Ordering::Relaxed);
                    to[1].store(tick, Ordering::Relaxed);
                }
            }
            // Stopped: the frontier stands at the tick that was agreed on, and all before it is
            // committed. The dataflow is dropped whole, so that no visit ends by it.
            let stopped = self
                .stop_at
                .get()
                .is_some_and(|at| committed >= at && committed != u64::MAX);
            if stopped {
                shared.stopped.store(true, Ordering::Relaxed);
            }
            if stopped || shared.failure.is_set() || !active {
                break;
            }
        }
        let ledger = *self.ledger.borrow();
        worker.drop_dataflow(self.dataflow);
        while worker.step() {}
        (worker.index() == 0).then_some(ledger)
    }
}

fn build(worker: &mut Worker, shared: &Shared) -> Result<Built, RunError> {
    let Shared {
        job,
        rules,
        metrics,
        failure,
        ..
    } = shared;
    let (index, peers) = (worker.index(), worker.peers());
    let local = index % job.workers;

    let kind = match job.source.clock {
        Clock::LogTime => ClockKind::LogTime,
        Clock::EventTime => ClockKind::EventTime,
    };
    let mut partitions = Vec::new();
    for partition in (0..shared.topic.partitions()).filter(|p| *p as usize % peers == index) {
        let reader = Reader::open(
            &shared.topic,
            partition,
            start_offset(&shared.topic, partition)?,
        )?;
        let clock = PartitionClock::new(kind, *rules, job.time.max_ahead as i64, job.time.tick);
        partitions.push((partition, reader, clock));
    }
    let intake = Intake::new(
        shared.schemas.clone(),
        shared.reader.clone(),
        shared.overrides.clone(),
        job.limits.max_record as usize,
        shared.enrichment.clone(),
    );
    let mut sinks = Vec::new();
    if let Some(log) = &job.outputs.log {
        for name in super::outputs::TOPICS {
            let opened = Topic::open(log, name)
                .and_then(|t| topic::Partitions::open(&t, name, index, peers));
            sinks.push(Some(opened.map_err(|source| SinkError::Topic {
                topic: name,
                source,
            })?));
        }
    }
    let derived = |derive| {
        let outputs = shared
            .output_schemas
            .clone()
            .expect("a job with an output log has a store for its schemas");
        topic::Derived::new(shared.schemas.clone(), outputs, derive)
    };

    let stop_at = Rc::new(Cell::new(None));
    let committed = probe::Handle::new();
    let taken = probe::Handle::new();
    let versions = Rc::new(Cell::new([(0, 0); 2]));
    let dataflow = worker.next_dataflow_index();
    let (open, ledger) = worker.dataflow::<u64, _, _>(|scope| {
        let settings = source::Settings {
            topic: job.source.topic.clone(),
            partitions,
            intake,
            outboxes: Outboxes::new(job.outputs.partitions, peers),
            follow: job.source.follow,
            tick_length: job.time.tick,
            budget: shared.budget,
            step_records: shared.step_records,
            committed: taken.clone(),
            stop: shared.stop.clone(),
            stop_at: stop_at.clone(),
            cut_due: cut_due(shared, local),
            state: metrics.sources[local].clone(),
            failure: failure.clone(),
        };
        let (records, cuts) = source::source(scope, settings);
        let stop = stop_at.clone();
        let cuts = cuts.broadcast().inspect(move |cut: &Cut| {
            if cut.stop {
                stop.set(Some(
                    stop.get().map_or(cut.tick, |at: u64| at.min(cut.tick)),
                ));
            }
        });
        let fates = fates(records.clone(), job.outputs.partitions);
        let visits = visits(fates.accepted, *rules);

        let (counted, ledger) = ledger(
            scope,
            vec![
                (Entry::In, records),
                (Entry::Tagged, visits.tagged.clone()),
                (Entry::Late, fates.late.clone()),
                (Entry::Rejected, fates.rejected.clone()),
                (Entry::Repeated, visits.repeated.clone()),
            ],
        );
        counted.probe_with(&committed);
        cuts.clone().probe_with(&committed);

        let seen = metrics.clone();
        let tagged = visits.tagged.clone().inspect_core(move |event| {
            if let Ok((_, batch)) = event {
                seen.tagged
                    .fetch_add(batch.heads().len() as u64, Ordering::Relaxed);
            }
        });
        let seen = metrics.clone();
        let lifecycle = visits
            .lifecycle
            .clone()
            .inspect(move |said| seen.lifecycle(said));
        if sinks.is_empty() {
            tagged.probe_with(&committed);
            lifecycle.probe_with(&committed);
        } else {
            let mut sink = |topic: usize| sinks[topic].take().expect("each topic is opened once");
            let mut count = 0_u64;
            let seen = metrics.clone();
            let sample = move |record: &visitflow_dataflows::batch::Record<'_>| {
                count += 1;
                if count % SAMPLE == 1 {
                    let logged = record.head.tick as i64 - i64::from(record.head.lag);
                    let newest = Newest {
                        time: record.head.at.time,
                        visit: visitflow_dataflows::visit::bytes_of_words(record.head.visit),
                        context: record.context.to_vec(),
                        body: (record.head.schema, record.body.to_vec()),
                    };
                    seen.sample(
                        newest,
                        u32::try_from(wall::now() - logged).unwrap_or(u32::MAX),
                    );
                }
            };
            let written = [
                topic::tagged(
                    tagged,
                    sink(0),
                    derived(tag::tagged),
                    failure.clone(),
                    sample,
                ),
                topic::lifecycle(lifecycle, sink(1), failure.clone()),
                topic::late(fates.late, sink(2), derived(tag::late), failure.clone()),
                topic::rejected(fates.rejected, sink(3), &records::REJECTED, failure.clone()),
            ];
            for stream in written {
                stream.probe_with(&taken).probe_with(&committed);
            }
        }
        if let Some(files) = &job.outputs.files {
            let settings = table::Settings {
                dir: identified(files),
                reader: shared.reader.clone(),
                overrides: shared.overrides.clone(),
                schemas: shared.schemas.clone(),
                file_size: job.outputs.file_size,
                prefix: format!("w{index}"),
                uncommitted: metrics.uncommitted_bytes.clone(),
            };
            let kept = metrics.clone();
            let whole = complete(&visits, move |change| {
                kept.kept_bytes.fetch_add(change as u64, Ordering::Relaxed);
            });
            let done = table::files(whole, cuts, settings, failure.clone()).probe_with(&taken);
            let put = table::versions(done, &identified(files), versions.clone(), failure.clone());
            put.probe_with(&committed);
        }
        (visits.open, ledger)
    });
    Ok(Built {
        dataflow,
        stop_at,
        committed,
        open,
        ledger,
        versions,
    })
}

/// Whether it is time for a cut: by the size of what no version holds, or by its age. Of a
/// process's workers the first says so that still has something to read.
fn cut_due(shared: &Shared, local: usize) -> Box<dyn FnMut() -> bool> {
    let (size, age) = (
        shared.job.outputs.file_size,
        Duration::from_millis(shared.job.outputs.file_age),
    );
    let uncommitted: Arc<AtomicU64> = shared.metrics.uncommitted_bytes.clone();
    let before = shared.metrics.sources[..local].to_vec();
    let mut since: Option<Instant> = None;
    Box::new(move || {
        let reads = |source: &Arc<Mutex<SourceState>>| {
            source.lock().unwrap_or_else(PoisonError::into_inner).tick != u64::MAX
        };
        if before.iter().any(reads) {
            return false;
        }
        let bytes = uncommitted.load(Ordering::Relaxed);
        if bytes == 0 {
            since = None;
            return false;
        }
        let old = since.get_or_insert_with(Instant::now).elapsed() >= age;
        // Rows take about an eighth of their bytes in a file.
        let due = old || bytes / 8 >= size;
        if due {
            since = None;
        }
        due
    })
}
