//! Snapshots of a job, as `visitflow::run::snapshots` makes them: parts, gathered by worker and
//! written by process; manifests, put by the first process once everything is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use visitflow::recovery::Disk;
use visitflow::recovery::manifest::{self, Chain, Part, Parts, Position, Snapshot, part_name};
use visitflow::snapshot::rows::State;
use visitflow_dataflows::complete::saved as kept;
use visitflow_dataflows::visit::Tick;
use visitflow_dataflows::visits::saved::ShardRows;

use crate::disk::SimDisk;
use crate::job::Stop;
use crate::table::TABLES;
use crate::visits::incarnation_of;
use crate::world::World;

/// What a worker has gathered of its state as of a tick.
#[derive(Default)]
struct Gathered {
    visits: Option<Vec<ShardRows>>,
    kept: Option<Vec<kept::ShardRows>>,
    topics: Option<Vec<Position>>,
}

/// The parts of a worker: as they are gathered, and those to be written.
#[derive(Default)]
pub struct Gathering {
    gathered: BTreeMap<Tick, Gathered>,
    /// How far the tables have come; on the first worker.
    pub tables: Vec<Position>,
    whole: VecDeque<(Tick, State, Vec<Position>)>,
}

impl Gathering {
    pub fn visits(&mut self, at: Tick, rows: Vec<ShardRows>) {
        self.gathered.entry(at).or_default().visits = Some(rows);
        self.check(at);
    }

    pub fn kept(&mut self, at: Tick, rows: Vec<kept::ShardRows>) {
        self.gathered.entry(at).or_default().kept = Some(rows);
        self.check(at);
    }

    pub fn topics(&mut self, at: Tick, positions: Vec<Position>) {
        self.gathered.entry(at).or_default().topics = Some(positions);
        self.check(at);
    }

    fn check(&mut self, at: Tick) {
        if let Some(Gathered {
            visits: Some(_),
            kept: Some(_),
            topics: Some(_),
        }) = self.gathered.get(&at)
            && let Some(own) = self.gathered.remove(&at)
        {
            let mut sinks = own.topics.unwrap_or_default();
            sinks.extend(self.tables.iter().cloned());
            let state = State {
                visits: own.visits.unwrap_or_default(),
                kept: own.kept.unwrap_or_default(),
                named: Default::default(),
            };
            self.whole.push_back((at, state, sinks));
        }
    }

    /// Writes a part, if there is one to be written.
    pub fn write(
        &mut self,
        world: &World,
        disk: &SimDisk,
        (incarnation, worker): (u64, usize),
        stop_at: Option<Tick>,
    ) -> Result<Option<Part>, Stop> {
        let Some((tick, state, sinks)) = self.whole.pop_front() else {
            return Ok(None);
        };
        let file = part_name(tick, incarnation, worker);
        let chunks = state.kept.iter().flat_map(|rows| &rows.chunks);
        let segments = chunks.map(|row| row.chunk[0]).collect();
        if !disk.put_if_absent(&file, b"a part")? {
            return Err(Stop::Fault(format!("{file} is there already")));
        }
        let state = Rc::new(state);
        world.parts.borrow_mut().insert(file.clone(), state);
        Ok(Some(Part {
            tick,
            stop: stop_at == Some(tick),
            worker: worker as u32,
            file,
            segments,
            latest: 0,
            sinks,
        }))
    }
}

/// How far the tables have come, for a snapshot.
pub fn positions(ticks: [Tick; 2]) -> Vec<Position> {
    let position = |(sink, tick): (&str, Tick)| Position {
        sink: sink.to_owned(),
        partition: 0,
        tick,
        sum: 0,
    };
    TABLES.into_iter().zip(ticks).map(position).collect()
}

enum Work {
    Put(Snapshot),
    SweepManifests,
    SweepChunks(BTreeSet<u64>),
    Tell(Tick),
}

/// What puts manifests, on the first process.
pub struct Manifests {
    chain: Chain,
    incarnation: u64,
    gathered: Parts,
    work: VecDeque<Work>,
}

impl Manifests {
    pub fn new(chain: Chain, incarnation: u64, workers: usize) -> Manifests {
        Manifests {
            chain,
            incarnation,
            gathered: Parts::of(workers),
            work: VecDeque::new(),
        }
    }

    pub fn add(&mut self, part: Part) {
        self.gathered.add(part);
    }

    /// Works once; the tick of a snapshot that counts, once all that follows from it is done.
    pub fn act(
        &mut self,
        world: &World,
        disk: &SimDisk,
        committed: Tick,
    ) -> Result<Option<Tick>, Stop> {
        let committed = match world.mistakes.manifest_before_sinks {
            true => u64::MAX,
            false => committed,
        };
        if let Some(snapshot) = self.gathered.ready(committed) {
            self.work.push_back(Work::Put(snapshot));
        }
        match self.work.pop_front() {
            None => {}
            Some(Work::Put(snapshot)) => {
                let tick = snapshot.tick;
                let named = snapshot.segments.iter().copied().collect();
                let n = self.chain.put(disk, snapshot)?;
                world.count(|seen| &mut seen.manifests);
                world.say(|| format!("manifest {n} is put, of the snapshot of {tick}"));
                self.work.push_back(Work::SweepManifests);
                self.work.push_back(Work::SweepChunks(named));
                self.work.push_back(Work::Tell(tick));
            }
            Some(Work::SweepManifests) => manifest::sweep(disk, self.incarnation)?,
            Some(Work::SweepChunks(named)) => {
                let old = |chunk: &u64| incarnation_of(*chunk) < self.incarnation;
                let mut chunks = world.chunks.borrow_mut();
                chunks.retain(|chunk, _| !old(chunk) || named.contains(chunk));
            }
            Some(Work::Tell(tick)) => return Ok(Some(tick)),
        }
        Ok(None)
    }
}
