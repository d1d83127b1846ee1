//! The tables' sink, as `visitflow::sink::table` is: each worker's files are closed at a cut, and the
//! first worker puts the versions once all have passed it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use visitflow_dataflows::complete::Complete;
use visitflow_dataflows::visit::Tick;

use crate::job::Stop;
use crate::table::{Refused, Row, TABLES, Writer};
use crate::visits::row;
use crate::world::World;

/// What a worker has closed at a cut.
pub struct Done {
    /// The timestamp under which it is sent.
    pub time: Tick,
    cut: Tick,
    rows: [Vec<Row>; 2],
}

/// The files of a worker.
pub struct Files {
    /// The last tick whose seals each table holds: what comes again is passed over.
    held: [Tick; 2],
    pending: VecDeque<Complete>,
    pub at: BTreeSet<Tick>,
    rows: [Vec<Row>; 2],
    /// All visits sealed before it are taken: the capability.
    pub done: Tick,
}

impl Files {
    pub fn new(held: [Tick; 2]) -> Files {
        Files {
            held,
            pending: VecDeque::new(),
            at: BTreeSet::new(),
            rows: Default::default(),
            done: 0,
        }
    }

    /// Whether it has something that no version holds.
    pub fn has_some(&self) -> bool {
        !self.pending.is_empty() || self.rows.iter().any(|rows| !rows.is_empty())
    }

    pub fn hold(&mut self, visits: Vec<Complete>) {
        self.pending.extend(visits);
    }

    /// Takes visits sealed before `known`, before which all cuts have been heard of; closes files at
    /// the cuts up to `until`, before which all visits have come.
    pub fn advance(&mut self, until: Tick, known: Tick) -> Vec<Done> {
        let mut closed = Vec::new();
        while self.pending.front().is_some_and(|v| v.tick < known) {
            let visit = self.pending.pop_front().expect("looked at above");
            while self.at.first().is_some_and(|cut| *cut <= visit.tick) {
                closed.extend(self.close());
            }
            for (rows, held) in self.rows.iter_mut().zip(self.held) {
                if visit.tick > held {
                    rows.push(row(&visit));
                }
            }
        }
        while self.at.first().is_some_and(|cut| *cut <= until) {
            closed.extend(self.close());
        }
        self.done = self.done.max(until);
        closed
    }

    fn close(&mut self) -> Option<Done> {
        let cut = self.at.pop_first()?;
        let rows = std::mem::take(&mut self.rows);
        let any = rows.iter().any(|rows| !rows.is_empty());
        any.then_some(Done {
            time: self.done,
            cut,
            rows,
        })
    }
}

/// What puts versions, on the first worker.
pub struct Versions {
    writers: [Option<Writer>; 2],
    cuts: BTreeMap<Tick, Vec<Done>>,
    /// What is to be put: a table at a time, then the others are told.
    puts: VecDeque<Put>,
}

enum Put {
    Version(usize, Tick, Vec<Row>),
    Tell(Tick),
}

impl Versions {
    pub fn new(writers: [Writer; 2], world: &World) -> Versions {
        let late = world.mistakes.table_opened_late;
        Versions {
            writers: writers.map(|writer| (!late).then_some(writer)),
            cuts: BTreeMap::new(),
            puts: VecDeque::new(),
        }
    }

    pub fn hold(&mut self, done: Done) {
        self.cuts.entry(done.cut).or_default().push(done);
    }

    /// Whether there is something to be put.
    pub fn has_some(&self) -> bool {
        !self.cuts.is_empty() || !self.puts.is_empty()
    }

    /// Puts what all workers have closed before `until`, one table's version a time; up to which tick
    /// both tables hold all seals, if that became known.
    pub fn advance(&mut self, world: &Rc<World>, until: Tick) -> Result<Option<Tick>, Stop> {
        while let Some(first) = self.cuts.first_entry().filter(|cut| *cut.key() <= until) {
            let (cut, done) = first.remove_entry();
            for table in 0..TABLES.len() {
                let rows = done.iter().flat_map(|done| done.rows[table].clone());
                let rows: Vec<Row> = rows.collect();
                if !rows.is_empty() {
                    self.puts.push_back(Put::Version(table, cut - 1, rows));
                }
            }
            self.puts.push_back(Put::Tell(cut - 1));
        }
        match self.puts.pop_front() {
            None => Ok(None),
            Some(Put::Tell(tick)) => Ok(Some(tick)),
            Some(Put::Version(table, tick, rows)) => {
                let table_log = &mut world.tables.borrow_mut()[table];
                world.say(|| format!("{} gets {} visits until {tick}", TABLES[table], rows.len()));
                let writer = self.writers[table].get_or_insert_with(|| table_log.open());
                match table_log.append(writer, rows, tick) {
                    Ok(()) => {}
                    Err(Refused::Fenced) => return Err(Stop::Superseded),
                    Err(Refused::Tick) => return Err(Stop::Fault("a table has that tick".into())),
                }
                world.count(|seen| &mut seen.versions);
                Ok(None)
            }
        }
    }
}
