//! The dataflow of a job on one worker: fragments wired together, sources in front, sinks behind.

use std::cell::{Cell, RefCell};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::vec::{Broadcast, Map};
use timely::dataflow::operators::{Concat, Inspect, Probe, probe};
use timely::dataflow::{Stream, StreamVec};
use timely::worker::Worker;
use visitflow_dataflows::attribution;
use visitflow_dataflows::batch::{Batch, Record};
use visitflow_dataflows::clock::{ClockKind, PartitionClock};
use visitflow_dataflows::complete::{Complete, Measurements, NoStore, Nobody, Watch, complete};
use visitflow_dataflows::cut::Cut;
use visitflow_dataflows::durable::{Durable as Keep, Keeps, Nothing};
use visitflow_dataflows::extension::{Given, Within};
use visitflow_dataflows::fact::Reading;
use visitflow_dataflows::fates::fates;
use visitflow_dataflows::intake::{Intake, Outboxes};
use visitflow_dataflows::ledger::{Entry, Ledger, ledger};
use visitflow_dataflows::stories::{self, Finished, Stories, crediting, finished, parted};
use visitflow_dataflows::views::{Changed, Of, View, views};
use visitflow_dataflows::visit::Tick;
use visitflow_dataflows::visits::{Open, Visits, visits};

use super::failure::Working;
use super::fragments::Fragments;
use super::measurements::{Around, Named, Store};
use super::metrics::{Metrics, Newest};
use super::outputs::{identified, kafka, with_brokers};
use super::recover::{producer, table_sink};
use super::snapshots::{Gathering, manifests, parts};
use super::timed::Timed;
use super::{RunError, Shared, asking, customers, partitions_of, showing};
use crate::job::Clock;
use crate::kafka::{Consumer, Wake};
use crate::recovery::manifest::Position;
use crate::recovery::script::Resume;
use crate::serve::holds::Version;
use crate::sink::attribution::attributed;
use crate::sink::embedded::Embedded;
use crate::sink::kafka::{Kafka, progress_topic, topics as kafka_topics};
use crate::sink::topics::{ATTRIBUTION, Destination, Settings, Streams, names, topics};
use crate::sink::{SinkError, table};
use crate::snapshot::rows::State;
use crate::source::{self, Adopting, Partition, SourceState};
use crate::store::{self, Runs};
use crate::table::Table;
use crate::wall;

/// How long an idle worker parks at most.
const PARK: Duration = Duration::from_millis(5);
/// One tag in so many is shown and timed.
const SAMPLE: u64 = 64;
/// So many bytes a worker keeps of visits to which nothing was added of late.
const QUIET_ROOM: usize = 32 << 20;

/// Works until the job is done; the ledger, on the first worker.
pub fn work(worker: &mut Worker, shared: &Shared) -> Option<Ledger> {
    let _working = Working(&shared.failure);
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
    /// The tick of the last snapshot that counts, for a job that keeps any.
    saved: Option<Rc<Cell<Tick>>>,
    /// Fetches what is read; to be dropped last.
    _consumer: Option<Arc<Consumer>>,
}

impl Built {
    fn run(self, worker: &mut Worker, shared: &Shared) -> Option<Ledger> {
        let local = worker.index() % shared.job.workers;
        let mut versions = None;
        loop {
            let active = worker.step_or_park(Some(PARK));
            let metrics = &shared.metrics;
            metrics.open[local].store(self.open.get() as u64, Ordering::Relaxed);
            let committed = self
                .committed
                .with_frontier(|f| f.first().copied().unwrap_or(u64::MAX));
            if worker.index() == 0 {
                metrics.committed(committed);
                for (to, (version, tick)) in metrics.versions.iter().zip(self.versions.get()) {
                    to[0].store(version, Ordering::Relaxed);
                    to[1].store(tick, Ordering::Relaxed);
                }
                let newest = self.versions.get();
                if versions.replace(newest) != Some(newest) {
                    let newest = newest.map(|(version, tick)| Version { version, tick });
                    if let Some(served) = &shared.served {
                        served.holds.commit(newest);
                    }
                }
            }
            // Stopped: the frontier stands at the tick that was agreed on, all before it is committed
            // and kept. The dataflow is dropped whole, so that no visit ends by it.
            let saved = |at: Tick| self.saved.as_ref().is_none_or(|saved| saved.get() >= at);
            let stopped = self
                .stop_at
                .get()
                .is_some_and(|at| committed >= at && committed != u64::MAX && saved(at));
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

/// Opens the partitions that are dealt to a worker, each where it goes on.
fn open_partitions(
    worker: &Worker,
    shared: &Shared,
) -> Result<(Vec<Partition>, Option<Arc<Consumer>>), RunError> {
    let (index, peers) = (worker.index(), worker.peers());
    let own = partitions_of(&shared.input, index, peers);
    let firsts = shared.input.first_offsets(&own)?;
    let resume = |(partition, first): (&u32, u64)| match &shared.durable {
        Some(durable) => durable.recovery.partition(*partition, first),
        None => Resume {
            offset: first,
            ..Resume::default()
        },
    };
    let resumes: Vec<Resume> = own.iter().zip(firsts).map(resume).collect();
    let offsets = own.iter().zip(&resumes);
    let offsets: Vec<(u32, u64)> = offsets.map(|(p, resume)| (*p, resume.offset)).collect();
    let wake: Wake = {
        let thread = std::thread::current();
        Arc::new(move || thread.unpark())
    };
    let opened = shared
        .input
        .read(&offsets, shared.budget, &shared.failure, wake)?;
    let restored = shared.durable.as_ref().map_or(0, |d| d.recovery.at());
    let partitions = opened.readings.into_iter().zip(resumes);
    let partitions = partitions.map(|((partition, reading), resume)| {
        Partition::new(partition, reading, clock(shared), resume, restored)
    });
    Ok((partitions.collect(), opened.consumer))
}

/// The clock of a partition that has seen nothing.
fn clock(shared: &Shared) -> PartitionClock {
    let job = &shared.job;
    let kind = match job.source.clock {
        Clock::LogTime => ClockKind::LogTime,
        Clock::EventTime => ClockKind::EventTime,
    };
    let ahead = job.time.max_ahead as i64;
    PartitionClock::new(kind, shared.rules, ahead, job.time.tick)
}

/// What finds new partitions for a worker, if there can be any.
fn adopting(
    shared: &Shared,
    index: usize,
    peers: usize,
    consumer: Option<&Arc<Consumer>>,
) -> Option<(Adopting, PartitionClock)> {
    let consumer = consumer.filter(|_| shared.job.source.follow)?;
    let known = shared.input.partitions();
    let adopting = Adopting::new(consumer.clone(), known, index as u32, peers as u32);
    Some((adopting, clock(shared)))
}

/// Where a worker's topics go, if they go anywhere.
fn open_topics(
    worker: &Worker,
    shared: &Shared,
    gathering: &Gathering,
) -> Result<Option<Box<dyn Destination>>, RunError> {
    let job = &shared.job;
    let (index, peers) = (worker.index(), worker.peers());
    if let Some(log) = &job.outputs.log {
        let embedded = Embedded::open(log, names(job), index, peers, gathering.unsynced())?;
        return Ok(Some(Box::new(embedded)));
    }
    let (Some(brokers), Some(durable)) = (&job.outputs.kafka, &shared.durable) else {
        return Ok(None);
    };
    let failure = shared.failure.clone();
    let kafka = Kafka::open(crate::sink::kafka::Settings {
        connection: kafka(job).unwrap_or_else(|| with_brokers(job, brokers)),
        id: producer(job, index),
        progress_topic: progress_topic(job),
        incarnation: durable.recovery.incarnation(),
        topics: kafka_topics(job),
        taken: durable.recovery.kafka(job.outputs.partitions),
        worker: (index, peers),
        say: Arc::new(move |text| {
            if !failure.is_set() {
                eprintln!("waiting for Kafka: {text}");
            }
        }),
    })?;
    Ok(Some(Box::new(kafka)))
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
    let durable = shared.durable.as_ref();
    let restored_at = durable.map_or(0, |d| d.recovery.at());

    let (partitions, consumer) = open_partitions(worker, shared)?;
    let intake = Intake::new(
        shared.schemas.clone(),
        shared.reader.clone(),
        shared.overrides.clone(),
        job.limits.max_record as usize,
        shared.enrichment.clone(),
    );
    let state = durable.and_then(|d| {
        let mut restored = d.restored.lock().unwrap_or_else(PoisonError::into_inner);
        restored[local].take()
    });
    let State {
        visits: open,
        kept,
        named: restored,
    } = state.unwrap_or_default();
    let watched = shared.watched();
    let keeps = job.keeps_measurements();
    let gathering = Gathering::new(
        index,
        keeps,
        job.outputs.log.is_some() || job.outputs.kafka.is_some(),
        durable.map(|d| d.writing.clone()),
    );
    let destination = open_topics(worker, shared, &gathering)?;
    let named = Named::default();
    let incarnation = durable.map_or(0, |d| d.recovery.incarnation());
    let store = match durable {
        Some(d) if keeps => {
            let dir = d.recovery.disk.path();
            let runs = Runs::open(dir, incarnation, index as u64, store::Options::default());
            let shown = (metrics.clone(), local);
            let mut store = Store::new(runs.map_err(SinkError::Runs)?, named.clone(), shown);
            store.adopt(&kept).map_err(SinkError::Runs)?;
            Some(store)
        }
        _ => None,
    };
    let held = durable.map_or([0; 2], |d| [0, 1].map(|table| d.recovery.table(table)));

    let stop_at = Rc::new(Cell::new(None));
    let committed = probe::Handle::new();
    let taken = probe::Handle::new();
    let in_topics = probe::Handle::new();
    let versions = Rc::new(Cell::new(versions_now(shared, index)?));
    let columns = table::columns(&shared.reader)?;
    let saved = durable.map(|_| Rc::new(Cell::new(restored_at)));
    let forgotten = customers::forgotten(job)?;
    let wanted = {
        let (stop, failure) = (shared.stop.clone(), failure.clone());
        move || !stop.load(Ordering::Relaxed) && !failure.is_set()
    };
    let of = (index, peers);
    let profiles = customers::open(job, &gathering, saved.as_ref(), &forgotten, of, wanted)?;
    let dataflow = worker.next_dataflow_index();
    let (shown, ledger) = worker.dataflow::<u64, _, _>(|scope| {
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
            cut_due: cut_due(shared, index, local),
            adopting: adopting(shared, index, peers, consumer.as_ref()),
            journal: durable.map(|d| d.journal.of(local)),
            worker: index as u32,
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
        let gathered = gathering.clone();
        let visits = visits(
            fates.accepted,
            cuts.clone(),
            Open::restore(*rules, &open),
            move |at, copied| gathered.visits(at, copied),
        );
        drop(open);

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

        let tagged = count(visits.tagged.clone(), metrics, |seen| &seen.tagged);
        let late = count(fates.late, metrics, |seen| &seen.late);
        let rejected = count(fates.rejected, metrics, |seen| &seen.rejected);
        count(visits.repeated.clone(), metrics, |seen| &seen.repeated);
        let seen = metrics.clone();
        let lifecycle = visits
            .lifecycle
            .clone()
            .inspect(move |said| seen.lifecycle(said));
        let mut further = Vec::new();
        let mut loaded = empty(scope);
        let mut own_rows = Vec::new();
        // Sealed visits are let go of once a table holds them; at once, if there are no tables.
        let in_tables = Rc::new(Cell::new(match job.outputs.files {
            Some(_) => held[0].min(held[1]),
            None => u64::MAX,
        }));
        let around = Around {
            metrics: metrics.clone(),
            failure: failure.clone(),
            held: in_tables.clone(),
            gathering: gathering.clone(),
            named: named.clone(),
        };
        let kept = Kept {
            store,
            // Two groups may wait to be written while a third is gathered.
            share: job.state.memory as usize / job.workers / 3,
            rows: kept,
            around,
        };
        let fragments: Rc<dyn Keeps> = match durable {
            Some(_) => Rc::new(Fragments::new(gathering.clone(), restored)),
            None => Rc::new(Nothing),
        };
        let mut own_topics = Vec::new();
        let mut shown_views = job.views.len();
        for extension in &shared.extensions {
            let (name, topics) = (extension.name(), extension.topics());
            let first = shown_views as u16;
            shown_views += extension.views().len();
            let said = extension.build(Given {
                tagged: tagged.clone(),
                lifecycle: lifecycle.clone(),
                cuts: cuts.clone(),
                keeps: Rc::new(Within::new(name, fragments.clone())),
                reading: Reading::new(shared.schemas.clone(), shared.overrides.clone()),
                partitions: job.outputs.partitions,
            });
            // Names and streams are of one extension: that they differ is a fault of its author.
            assert_eq!(
                said.topics.len(),
                topics.len(),
                "a stream for each topic of {name}"
            );
            own_topics.extend(topics.into_iter().map(String::from).zip(said.topics));
            own_rows.extend(said.views.map(|rows| {
                rows.map(move |row| Changed {
                    view: row.view + first,
                    ..row
                })
            }));
        }
        let mut whole = None;
        if watched {
            let specs: Rc<[View]> = job.views.clone().into();
            let reading = Reading::new(shared.schemas.clone(), shared.overrides.clone());
            let unread = reading.again();
            let attribution = attribution::Settings {
                look_back: i64::try_from(job.attribution.look_back).unwrap_or(i64::MAX),
                browsers: usize::try_from(job.attribution.browsers).unwrap_or(usize::MAX),
                customers: usize::try_from(job.attribution.customers).unwrap_or(usize::MAX),
                ..attribution::Settings::default()
            };
            let watch = Stories::new(
                specs.clone(),
                stories::Settings {
                    rules: *rules,
                    quiet_room: QUIET_ROOM,
                    robots_over: u32::try_from(job.enrich.robots_over).unwrap_or(u32::MAX),
                    attribution: attribution.clone(),
                    profiles: job.profiles.enabled,
                    asked: job.serve.address.is_some(),
                },
                reading,
                Keep::open("stories", &fragments),
                in_tables.clone(),
            );
            let watch = match profiles {
                Some(_) => watch.naming(Keep::open("named", &fragments)),
                None => watch,
            };
            let served = shared.served.as_ref().filter(|_| local == 0);
            let desk = served.map(|served| (served.desk.clone(), served.holds.least()));
            let questions =
                asking::questions(cuts.clone(), index / job.workers, desk, profiles.is_some());
            let (complete, said) = kept.watched(&visits, cuts.clone(), questions.clone(), watch);
            let said = parted(said);
            let partitions = job.outputs.partitions;
            let durable = ["credits", "customers"];
            let durable = durable.map(|name| Keep::open(name, &fragments));
            let (to_credit, cut) = (said.to_credit, cuts.clone());
            let orders = crediting(
                specs.clone(),
                &attribution,
                to_credit,
                cut,
                partitions,
                durable,
            );
            if job.outputs.files.is_some() {
                let (credited, released) = (orders.credited.clone(), in_tables.clone());
                let durable = Keep::open("finished", &fragments);
                let visits = finished(complete, credited, cuts.clone(), released, durable);
                whole = Some(visits);
            }
            let durable = Keep::open("views", &fragments);
            // Others need not wait for what orders add.
            let added = match job.views.iter().any(|view| view.of == Of::Credits) {
                true => said.contributions.concat(orders.contributions),
                false => said.contributions,
            };
            let changed = views(specs, added, cuts.clone(), partitions, durable);
            let workers = job.workers;
            let changed = own_rows
                .drain(..)
                .fold(changed, |all, rows| all.concat(rows));
            let board = served.map(|served| served.board.clone());
            showing::views(changed, workers, board).probe_with(&committed);
            further.push((ATTRIBUTION.to_owned(), attributed(orders.credited.clone())));
            let ring = served.map(|served| served.orders.clone());
            showing::orders(orders.credited, workers, ring).probe_with(&committed);
            let desk = shared.served.as_ref();
            let desk = desk.map(|served| served.desk.clone());
            let of_visits = said.answers.concat(orders.answers);
            let answers = match profiles {
                Some(profiles) => {
                    let (kept, failure) = ((job.profiles.retention, forgotten), failure.clone());
                    let of_customers = (said.parts, said.named);
                    let known = profiles.kept(of_customers, questions, cuts.clone(), kept, failure);
                    loaded = known.loaded.probe_with(&committed);
                    of_visits.concat(known.answers.probe_with(&committed))
                }
                None => of_visits,
            };
            let unread = (unread, *rules);
            asking::answers(answers, workers, peers, desk, unread).probe_with(&committed);
        } else if job.outputs.files.is_some() {
            let nothing = cuts.clone().flat_map(|_| None);
            let (complete, _) = kept.watched(&visits, cuts.clone(), nothing, Nobody);
            whole = Some(complete.map(|visit| Finished {
                visit,
                orders: None,
            }));
        }
        // Without anybody who reads views, they are made all the same: their state is kept.
        for rows in own_rows {
            rows.probe_with(&committed);
        }
        further.extend(own_topics);
        match destination {
            None => {
                for (_, messages) in further {
                    messages.probe_with(&committed);
                }
                tagged.probe_with(&committed).probe_with(&in_topics);
                lifecycle.probe_with(&committed).probe_with(&in_topics);
            }
            Some(destination) => {
                let streams = Streams {
                    tagged,
                    lifecycle,
                    loaded,
                    late,
                    rejected,
                    further,
                    cuts: cuts.clone(),
                };
                let gathered = gathering.clone();
                let outputs = shared.output_schemas.clone();
                let settings = Settings {
                    destination: Timed::new(destination, metrics.clone()),
                    partitions: job.outputs.partitions,
                    source: shared.schemas.clone(),
                    outputs: outputs.expect("a job with topics has a store for their schemas"),
                    sample: sample(metrics.clone()),
                    save: Box::new(move |at, positions| gathered.topics(at, positions)),
                    failure: failure.clone(),
                };
                topics(streams, settings)
                    .probe_with(&taken)
                    .probe_with(&committed)
                    .probe_with(&in_topics);
            }
        }
        if let (Some(files), Some(whole)) = (&job.outputs.files, whole) {
            let settings = table::Settings {
                dir: identified(files),
                reader: shared.reader.clone(),
                overrides: shared.overrides.clone(),
                schemas: shared.schemas.clone(),
                file_size: job.outputs.file_size,
                prefix: match incarnation {
                    0 => format!("w{index}"),
                    _ => format!("i{incarnation}-w{index}"),
                },
                held,
                uncommitted: metrics.uncommitted_bytes.clone(),
            };
            let done = table::files(whole, cuts.clone(), settings, failure.clone());
            let done = done.probe_with(&taken);
            let seen = metrics.clone();
            let put = table::versions(
                done,
                &identified(files),
                columns.clone(),
                versions.clone(),
                move |time| seen.tables.took(time),
                failure.clone(),
            );
            let (gathered, version) = (gathering.clone(), versions.clone());
            put.probe_with(&committed)
                .inspect(move |_| gathered.tables(positions(version.get())))
                .broadcast()
                .inspect(move |tick| in_tables.set(in_tables.get().max(*tick)));
            if index == 0 {
                gathering.tables(positions(held.map(|tick| (0, tick))));
            }
        }
        if let (Some(durable), Some(saved)) = (durable, &saved) {
            let saved = saved.clone();
            let journal = durable.journal.clone();
            let seen = metrics.clone();
            let (first, ends) = (local == 0, durable.recovery.scripts_end);
            let all = durable.recovery.is_first();
            let written = parts(cuts, index, durable.writing.clone());
            manifests(written, in_topics, durable.writing.clone())
                .broadcast()
                .inspect(move |tick| {
                    saved.set(saved.get().max(*tick));
                    named.durable(*tick);
                    if first {
                        seen.snapshot(*tick);
                        journal.forget(*tick, all && *tick >= ends);
                    }
                });
        }
        (visits.open, ledger)
    });
    Ok(Built {
        dataflow,
        stop_at,
        committed,
        open: shown,
        ledger,
        versions,
        saved,
        _consumer: consumer,
    })
}

/// What is kept of open visits, and where.
struct Kept {
    store: Option<Store>,
    share: usize,
    rows: Vec<visitflow_dataflows::complete::saved::ShardRows>,
    around: Around,
}

impl Kept {
    /// Whole visits, and what is said of them while they are open.
    fn watched<'s, W, S: 'static, Q: Clone + 'static>(
        self,
        visits: &Visits<'s>,
        cuts: StreamVec<'s, u64, Cut>,
        questions: StreamVec<'s, u64, Q>,
        watch: W,
    ) -> (StreamVec<'s, u64, Complete>, StreamVec<'s, u64, S>)
    where
        W: Watch<Store, Said = S, Question = Q> + Watch<NoStore, Said = S, Question = Q> + 'static,
    {
        match self.store {
            Some(store) => {
                let kept = Measurements::restore(store, self.share, &self.rows);
                complete(visits, cuts, questions, kept, watch, self.around)
            }
            None => {
                let kept = Measurements::<NoStore>::default();
                complete(visits, cuts, questions, kept, watch, self.around)
            }
        }
    }
}

/// Counts the records that pass.
fn count<'s>(
    stream: Stream<'s, u64, Batch>,
    metrics: &Arc<Metrics>,
    counter: fn(&Metrics) -> &AtomicU64,
) -> Stream<'s, u64, Batch> {
    let metrics = metrics.clone();
    stream.inspect_core(move |event| {
        if let Ok((_, batch)) = event {
            counter(&metrics).fetch_add(batch.heads().len() as u64, Ordering::Relaxed);
        }
    })
}

/// The versions and ticks of the tables, on the worker that puts them.
fn versions_now(shared: &Shared, index: usize) -> Result<[(u64, Tick); 2], RunError> {
    let files = shared.job.outputs.files.as_ref().filter(|_| index == 0);
    let Some(files) = files else {
        return Ok([(0, 0); 2]);
    };
    let of = |table: usize| -> Result<(u64, Tick), RunError> {
        let table = Table::open(&identified(files).join(table::TABLES[table]))?;
        Ok((table.version(), table.last_tick().unwrap_or(0)))
    };
    Ok([of(0)?, of(1)?])
}

/// How far tables have come, for a snapshot.
fn positions(versions: [(u64, Tick); 2]) -> Vec<Position> {
    let position = |table: usize| Position {
        sink: table_sink(table),
        partition: 0,
        tick: versions[table].1,
        sum: 0,
    };
    vec![position(0), position(1)]
}

/// Shows one tag in so many, and times it.
fn sample(metrics: Arc<Metrics>) -> Box<dyn FnMut(&Record<'_>)> {
    let mut count = 0_u64;
    Box::new(move |record| {
        count += 1;
        if count % SAMPLE == 1 {
            let logged = record.head.tick as i64 - i64::from(record.head.lag);
            let newest = Newest {
                time: record.head.at.time,
                visit: visitflow_dataflows::visit::bytes_of_words(record.head.visit),
                context: record.context.to_vec(),
                body: (record.head.schema, record.body.to_vec()),
            };
            let latency = u32::try_from(wall::now() - logged).unwrap_or(u32::MAX);
            metrics.sample(newest, latency);
        }
    })
}

/// Whether it is time for a cut: of tables by the size of what no version holds, or by its age, of
/// snapshots by the time. Of a process's workers the first says so that still has something to read;
/// of snapshots, of the first process.
fn cut_due(shared: &Shared, index: usize, local: usize) -> Box<dyn FnMut() -> Option<Cut>> {
    let (size, age) = (
        shared.job.outputs.file_size,
        Duration::from_millis(shared.job.outputs.file_age),
    );
    let snapshots = Duration::from_millis(shared.job.state.snapshots);
    let snapshots = (shared.durable.is_some() && index < shared.job.workers).then_some(snapshots);
    let uncommitted: Arc<AtomicU64> = shared.metrics.uncommitted_bytes.clone();
    let before = shared.metrics.sources[..local].to_vec();
    let mut since: Option<Instant> = None;
    let mut snapshot = Instant::now();
    Box::new(move || {
        let reads = |source: &Arc<Mutex<SourceState>>| {
            source.lock().unwrap_or_else(PoisonError::into_inner).tick != u64::MAX
        };
        if before.iter().any(reads) {
            return None;
        }
        let mut cut = Cut::default();
        let bytes = uncommitted.load(Ordering::Relaxed);
        if bytes == 0 {
            since = None;
        } else {
            let old = since.get_or_insert_with(Instant::now).elapsed() >= age;
            // Rows take about an eighth of their bytes in a file.
            cut.files = old || bytes / 8 >= size;
            if cut.files {
                since = None;
            }
        }
        if snapshots.is_some_and(|every| snapshot.elapsed() >= every) {
            snapshot = Instant::now();
            cut.snapshot = true;
        }
        (cut.files || cut.snapshot).then_some(cut)
    })
}
