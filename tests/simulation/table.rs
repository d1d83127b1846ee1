//! The simulated tables: each version is put by whoever knows the one before it, as
//! `visitflow::table` does.

use visitflow_dataflows::visit::{Position, Tick};

/// The tables: measurements and visits.
pub const TABLES: [&str; 2] = ["table measurements", "table visits"];

/// A visit in a table, with its measurements.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub tick: Tick,
    pub visit: [u8; 16],
    pub browser: u8,
    pub members: Vec<(Position, u8)>,
}

struct Version {
    tick: Tick,
    rows: Vec<Row>,
}

/// A table.
#[derive(Default)]
pub struct Table {
    versions: Vec<Version>,
}

/// Why a version is not put.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refused {
    /// Somebody else has put one.
    Fenced,
    /// The table has that tick.
    Tick,
}

/// A table as one writer knows it: so many versions.
#[derive(Clone, Copy, Debug)]
pub struct Writer(usize);

impl Table {
    /// Opens it to write.
    pub fn open(&self) -> Writer {
        Writer(self.versions.len())
    }

    /// Fences it against everybody who has opened it before.
    pub fn fence(&mut self) -> Writer {
        let tick = self.last_tick();
        self.versions.push(Version { tick, rows: vec![] });
        self.open()
    }

    /// Up to which tick it holds everything; 0 for none.
    pub fn last_tick(&self) -> Tick {
        self.versions.last().map_or(0, |version| version.tick)
    }

    /// Puts the next version, unless somebody else has.
    pub fn append(
        &mut self,
        writer: &mut Writer,
        rows: Vec<Row>,
        tick: Tick,
    ) -> Result<(), Refused> {
        if writer.0 != self.versions.len() {
            return Err(Refused::Fenced);
        }
        if tick <= self.last_tick() {
            return Err(Refused::Tick);
        }
        self.versions.push(Version { tick, rows });
        writer.0 += 1;
        Ok(())
    }

    /// All rows.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.versions.iter().flat_map(|version| &version.rows)
    }
}
