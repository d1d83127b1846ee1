//! Several workers, snapshots, restarts with other numbers of workers, and crashes, in any order,
//! against a map in memory.

use std::collections::{HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;
use tempfile::tempdir;

use super::super::chunk::file_name;
use super::super::*;
use super::{SMALL, bytes, files, read_all};

/// Chunks, whose they are, and what is in them.
type State = HashMap<Chunk, (Key, Vec<u8>)>;

/// What a job has: the chunks of all workers, and those of its newest manifest.
#[derive(Default)]
struct Model {
    live: State,
    sealed: Option<(Vec<Ticket>, State)>,
    named: State,
    numbers: u64,
}

fn segments_of(chunks: &State) -> HashSet<u64> {
    chunks.keys().map(Chunk::segment).collect()
}

impl Model {
    fn of(&self, key: impl Fn(&Key) -> bool) -> Vec<Chunk> {
        let mut own: Vec<_> = self.live.iter().filter(|(_, (k, _))| key(k)).collect();
        own.sort_by_key(|(chunk, _)| **chunk);
        own.into_iter().map(|(chunk, _)| *chunk).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u64, usize)>),
    Read(Vec<Index>),
    Free(Vec<Index>),
    FreeMost,
    Seal,
    Put,
    Thin,
    Restart { workers: u64, tail: Vec<u8> },
}

fn step() -> impl Strategy<Value = Step> {
    let some = || prop::collection::vec(any::<Index>(), 1..20);
    prop_oneof![
        4 => prop::collection::vec((0..8_u64, 0..900_usize), 1..12).prop_map(Step::Write),
        2 => some().prop_map(Step::Read),
        3 => some().prop_map(Step::Free),
        1 => Just(Step::FreeMost),
        1 => Just(Step::Seal),
        2 => Just(Step::Put),
        3 => Just(Step::Thin),
        1 => (1..4_u64, prop::collection::vec(any::<u8>(), 0..60))
            .prop_map(|(workers, tail)| Step::Restart { workers, tail }),
    ]
}

struct Job<'a> {
    dir: &'a Path,
    incarnation: u64,
    workers: Vec<Runs>,
    model: Model,
}

impl Job<'_> {
    fn worker_of(&self, key: &Key) -> usize {
        (key[0] % self.workers.len() as u64) as usize
    }

    fn write(&mut self, chunks: &[(u64, usize)]) {
        let mut groups = vec![Vec::new(); self.workers.len()];
        for &(key, length) in chunks {
            self.model.numbers += 1;
            let key = [key, key];
            groups[self.worker_of(&key)].push((key, bytes(self.model.numbers, length)));
        }
        for (worker, group) in self.workers.iter_mut().zip(groups) {
            let chunks = worker.write(group.clone()).unwrap();
            assert_eq!(chunks.len(), group.len());
            self.model.live.extend(chunks.into_iter().zip(group));
        }
    }

    fn check(&mut self, chunks: &[Chunk]) {
        for index in 0..self.workers.len() {
            let mut own = chunks.to_vec();
            own.retain(|chunk| self.worker_of(&self.model.live[chunk].0) == index);
            let all = read_all(&mut self.workers[index], &own).unwrap();
            for (chunk, bytes) in own.iter().zip(all) {
                assert!(bytes == self.model.live[chunk].1, "{chunk:?}");
            }
        }
    }

    fn free(&mut self, chunks: &[Chunk]) {
        for chunk in chunks {
            if let Some((key, _)) = self.model.live.get(chunk) {
                let worker = self.worker_of(key);
                self.workers[worker].free(*chunk).unwrap();
                self.model.live.remove(chunk);
            }
        }
    }

    fn put(&mut self) {
        let Some((tickets, state)) = self.model.sealed.take() else {
            return;
        };
        let named = segments_of(&state);
        for (worker, ticket) in self.workers.iter_mut().zip(&tickets) {
            ticket.wait().unwrap();
            worker.named(ticket, named.iter().copied()).unwrap();
        }
        Runs::sweep(self.dir, &named, self.incarnation).unwrap();
        self.model.named = state;
    }

    fn thin(&mut self) {
        for index in 0..self.workers.len() {
            let (workers, model) = (self.workers.len() as u64, &self.model.live);
            let is_live = |key: Key, chunk: Chunk| {
                let own = model.get(&chunk).filter(|(k, _)| *k == key);
                own.is_some() && key[0] % workers == index as u64
            };
            let thin = self.workers[index].thin(is_live).unwrap();
            let Some(thin) = thin else { continue };
            let places: Vec<_> = thin.iter().map(|(_, chunk)| *chunk).collect();
            let all = read_all(&mut self.workers[index], &places).unwrap();
            let group: Vec<_> = thin.iter().map(|(key, _)| *key).zip(all).collect();
            let moved = self.workers[index].write(group.clone()).unwrap();
            self.free(&places);
            self.model.live.extend(moved.into_iter().zip(group));
        }
    }

    /// What was not sealed may be lost, or be anything.
    fn crash(&mut self, tail: &[u8]) {
        self.workers.clear();
        let mut ends: HashMap<u64, u64> = HashMap::new();
        for chunk in self.model.named.keys() {
            let end = ends.entry(chunk.segment()).or_default();
            *end = (*end).max(chunk.end());
        }
        for (segment, length) in files(self.dir) {
            let end = ends.get(&segment).copied().unwrap_or(0);
            assert!(end <= length);
            let path = self.dir.join(DIR).join(file_name(segment));
            let mut file = OpenOptions::new().append(true).open(path).unwrap();
            file.set_len(end).unwrap();
            file.write_all(tail).unwrap();
        }
    }

    fn restart(&mut self, workers: u64, tail: &[u8]) {
        self.crash(tail);
        self.incarnation += 1;
        self.model.live = self.model.named.clone();
        self.model.sealed = None;
        let named = segments_of(&self.model.named);
        Runs::sweep(self.dir, &named, self.incarnation).unwrap();
        assert_eq!(files(self.dir).into_keys().collect::<HashSet<_>>(), named);
        let open = |worker| Runs::open(self.dir, self.incarnation, worker, SMALL).unwrap();
        self.workers = (0..workers).map(open).collect();
        for index in 0..self.workers.len() {
            let own = self.model.of(|key| self.worker_of(key) == index);
            self.workers[index].adopt(own).unwrap();
        }
        self.check(&self.model.of(|_| true));
    }

    fn step(&mut self, step: &Step) {
        let all = self.model.of(|_| true);
        let pick = |some: &[Index]| -> Vec<Chunk> {
            let some = some.iter().filter(|_| !all.is_empty());
            some.map(|index| *index.get(&all)).collect()
        };
        match step {
            Step::Write(chunks) => self.write(chunks),
            Step::Read(some) => self.check(&pick(some)),
            Step::Free(some) => self.free(&pick(some)),
            Step::FreeMost => {
                let most: Vec<_> = all.iter().enumerate().filter(|(i, _)| i % 8 > 0).collect();
                self.free(&most.into_iter().map(|(_, c)| *c).collect::<Vec<_>>());
            }
            Step::Seal => {
                let seal = |worker: &mut Runs| worker.seal().unwrap();
                let tickets = self.workers.iter_mut().map(seal).collect();
                self.model.sealed = Some((tickets, self.model.live.clone()));
            }
            Step::Put => self.put(),
            Step::Thin => self.thin(),
            Step::Restart { workers, tail } => self.restart(*workers, tail),
        }
        self.holds();
    }

    /// What is needed is on disk, and nothing else counts.
    fn holds(&self) {
        let there = files(self.dir);
        for segment in segments_of(&self.model.named) {
            assert!(there.contains_key(&segment), "{}", file_name(segment));
        }
        let counters = self.workers.iter().map(Runs::counters);
        let live: u64 = counters.map(|counters| counters.bytes_live).sum();
        let lengths = self.model.live.keys().map(|c| u64::from(c.length()) + 24);
        assert_eq!(live, lengths.sum::<u64>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// And when nothing is needed any more, nothing is left.
    #[test]
    fn what_lives_or_is_named_reads_back_whatever_is_freed_copied_forward_or_crashes(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let dir = tempdir().unwrap();
        let mut job = Job {
            dir: dir.path(),
            incarnation: 0,
            workers: Vec::new(),
            model: Model::default(),
        };
        fs::create_dir(dir.path().join(DIR)).unwrap();
        job.restart(2, &[]);
        for step in &steps {
            job.step(step);
        }
        job.check(&job.model.of(|_| true));
        job.restart(1, b"torn");
        job.free(&job.model.of(|_| true));
        job.step(&Step::Seal);
        job.put();
        prop_assert_eq!(files(dir.path()).len(), 0);
    }
}
