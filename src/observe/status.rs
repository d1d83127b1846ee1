//! `visitflow status`: a report for people, and as JSON for programs. It says what is so; what time
//! stands on, and why, says `visitflow why`.

use std::fmt::Write as _;

use super::report::{Process, Records, Report, Visits};
use crate::run::grouped;
use crate::why::{duration, time, word};

impl Report {
    /// As JSON, in one document.
    pub fn json(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("numbers, texts and lists");
        text + "\n"
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = String::new();
        self.head(&mut out)?;
        self.table(&mut out)?;
        self.sums(&mut out)?;
        f.write_str(&out)
    }
}

impl Report {
    fn head(&self, out: &mut String) -> std::fmt::Result {
        let ago = |at: i64| format!("{} ago", duration(self.now - at));
        write!(out, "{}: {}", self.job, self.state)?;
        if self.incarnation > 0 {
            write!(out, ", start {}", self.incarnation)?;
        }
        out.push('\n');
        for process in &self.processes {
            let Process {
                process: number,
                state,
                began,
                at,
                ..
            } = process;
            write!(
                out,
                "process {number}: {state}, started {}, as of {}",
                time(*began),
                ago(*at)
            )?;
            if let Some(address) = &process.address {
                write!(out, ", at http://{address}/")?;
            }
            out.push('\n');
            if let Some(error) = &process.error {
                writeln!(out, "  {error}")?;
            }
        }
        match (self.frontier, self.frontier_behind, self.horizon) {
            _ if self.ended => writeln!(
                out,
                "frontier: at the end; the source was read to its end and everything is committed"
            ),
            (Some(frontier), Some(behind), Some(horizon)) => writeln!(
                out,
                "frontier: {}, {} behind the wall clock, there since {}\nhorizon:  {}",
                time(frontier),
                duration(behind),
                time(self.frontier_since),
                time(horizon)
            ),
            _ => writeln!(out, "frontier: nothing is committed yet"),
        }
    }

    fn table(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\n{:>9}  {:>6}  {:>12}  {:>10}  {:<24}  {:>8}  {:<24}  held by",
            "partition", "worker", "offset", "unread", "clock", "behind", "tick"
        )?;
        for p in &self.partitions {
            writeln!(
                out,
                "{:>9}  {:>6}  {:>12}  {:>10}  {:<24}  {:>8}  {:<24}  {}",
                p.partition,
                p.worker,
                grouped(p.offset),
                p.unread.map_or("?".to_owned(), grouped),
                p.clock.map_or("no record yet".to_owned(), time),
                p.clock_behind.map_or(String::new(), duration),
                p.tick.map_or("closed".to_owned(), time),
                word(p.held_by)
            )?;
        }
        Ok(())
    }

    fn sums(&self, out: &mut String) -> std::fmt::Result {
        let Records {
            read,
            tagged,
            late,
            rejected,
            repeated,
        } = &self.records;
        let [read, tagged, late, rejected, repeated] =
            [read, tagged, late, rejected, repeated].map(|n| grouped(*n));
        writeln!(
            out,
            "\nrecords:  {read} read; {tagged} tagged, {late} late, {rejected} rejected, {repeated} repeated"
        )?;
        let Visits { begun, ended, open } = &self.visits;
        let [begun, ended, open] = [begun, ended, open].map(|n| grouped(*n));
        writeln!(out, "visits:   {begun} begun, {ended} ended, {open} open")?;
        writeln!(
            out,
            "bytes:    {} of open visits, {} of rows that no version holds, {} of runs on disk",
            grouped(self.bytes.open_visits),
            grouped(self.bytes.uncommitted_rows),
            grouped(self.bytes.runs)
        )?;
        for table in &self.tables {
            let until = match table.tick {
                Some(tick) => format!("every seal up to {}", time(tick)),
                None => "no seal yet".to_owned(),
            };
            let (name, version) = (table.table, table.version);
            writeln!(out, "table:    {name}, version {version}, {until}")?;
        }
        let Some(snapshot) = &self.snapshot else {
            return Ok(());
        };
        let tick = snapshot.tick.map_or("the end of input".to_owned(), time);
        let when = match snapshot.at {
            Some(at) => format!("put {} ago", duration(self.now - at)),
            None => "put by an earlier start".to_owned(),
        };
        writeln!(out, "snapshot: of {tick}, {when}")
    }
}
