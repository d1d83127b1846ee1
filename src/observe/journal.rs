//! `visitflow journal`: prints what a job has kept to go on from, readably: its starts, its snapshots,
//! and what lies in each step that it has read. Damaged and torn files too: it says where. For people
//! who must know what happened; it holds offsets, counts and ticks, never a measurement.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use thiserror::Error;
use visitflow_dataflows::visit::Tick;

use crate::job::Job;
use crate::recovery::claim::{Claim, Found};
use crate::recovery::journal::{Closed, Cuts, Entry, Piece};
use crate::recovery::look::{self, File, Start};
use crate::recovery::manifest::{Manifest, Position};
use crate::recovery::{Folder, Journals, RecoveryError};
use crate::run::grouped;
use crate::run::journals::JobJournals;
use crate::why::time;

/// Why nothing can be printed.
#[derive(Debug, Error)]
#[allow(missing_docs)] // The messages say it.
pub enum JournalError {
    #[error("the job {0} keeps nothing: state.dir is not set")]
    NoState(String),
    #[error("the job {job} has not run here: there is no {}", path.display())]
    NeverRan { job: String, path: PathBuf },
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

/// How it is printed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Each entry of the journals too.
    pub entries: bool,
    /// As JSON lines.
    pub json: bool,
}

/// Prints it. Holds one journal file at a time.
///
/// # Errors
/// There is nothing; a folder or file cannot be read; `out` takes no more. What is damaged is
/// printed as such.
pub fn journal(job: &Job, options: Options, out: &mut impl Write) -> Result<(), JournalError> {
    let Some(dir) = &job.state.dir else {
        return Err(JournalError::NoState(job.name.clone()));
    };
    let disk = Folder::at(dir);
    let starts = look::starts(&disk)?;
    if starts.is_empty() {
        return Err(JournalError::NeverRan {
            job: job.name.clone(),
            path: dir.join("claims"),
        });
    }
    let mut cuts = Cuts::new();
    for start in &starts {
        if let Ok(Some(found)) = &start.found {
            cuts.clone_from(&found.journals);
        }
        put(out, options, &start_json(start), || start_text(start))?;
    }
    for (n, manifest) in look::manifests(&disk)? {
        let value = match &manifest {
            Ok(manifest) => manifest_json(n, manifest),
            Err(error) => json!({"kind": "manifest", "manifest": n, "problem": error.to_string()}),
        };
        put(out, options, &value, || match &manifest {
            Ok(manifest) => manifest_text(n, manifest),
            Err(error) => format!("manifest {n}: {error}\n"),
        })?;
    }
    let journals = JobJournals::of(job, dir, &Arc::default());
    for name in journals.names()? {
        if let Some(file) = look::journal(&journals, &name, &cuts)? {
            put_file(out, options, &file)?;
        }
    }
    Ok(())
}

fn put(
    out: &mut impl Write,
    options: Options,
    value: &Value,
    text: impl FnOnce() -> String,
) -> io::Result<()> {
    if options.json {
        writeln!(out, "{value}")
    } else {
        out.write_all(text().as_bytes())
    }
}

/// A tick in JSON; null for the end of input, which is a number that few can hold.
fn tick(tick: Tick) -> Value {
    if tick == u64::MAX {
        Value::Null
    } else {
        tick.into()
    }
}

fn at(tick: Tick) -> String {
    match tick {
        0 => "the beginning".to_owned(),
        u64::MAX => "the end of input".to_owned(),
        tick => time(tick as i64),
    }
}

fn many(count: u64, one: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {one}{s}", grouped(count))
}

fn start_json(start: &Start) -> Value {
    let mut value = json!({"kind": "start", "incarnation": start.incarnation});
    match &start.claim {
        Ok(claim) => {
            value["claim"] = json!(claim);
        }
        Err(error) => value["problem"] = error.to_string().into(),
    }
    match &start.found {
        Ok(found) => value["found"] = json!(found),
        Err(error) => value["found_problem"] = error.to_string().into(),
    }
    value
}

fn start_text(start: &Start) -> String {
    let n = start.incarnation;
    let mut text = match &start.claim {
        Err(error) => format!("start {n}: {error}\n"),
        Ok(claim) => claim_text(n, claim),
    };
    match &start.found {
        Err(error) => text += &format!("  found: {error}\n"),
        Ok(None) => text += "  found: it did not come so far\n",
        Ok(Some(found)) => text += &found_text(found),
    }
    text
}

fn claim_text(n: u64, claim: &Claim) -> String {
    let mut text = format!(
        "start {n}: {}, {} by visitflow {}, {} in {}\n",
        time(claim.at),
        claim.job,
        claim.program,
        many(claim.workers as u64, "worker"),
        many(claim.processes as u64, "process").replace("processs", "processes"),
    );
    let inputs = claim
        .inputs
        .iter()
        .filter(|(name, _)| *name != "the program");
    let inputs: Vec<String> = inputs
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    text += &format!("  with: {}\n", inputs.join(", "));
    if let Some(topic) = &claim.topic {
        text += &format!("  topic: {topic}\n");
    }
    if !claim.producers.is_empty() {
        text += &format!("  producers: {}\n", claim.producers.join(", "));
    }
    text
}

fn found_text(found: &Found) -> String {
    let manifest = match found.manifest {
        Some(n) => format!("manifest {n}"),
        None => "no snapshot".to_owned(),
    };
    let bytes = found.journals.values().sum();
    let mut text = format!(
        "  found: {manifest}, {} of {}\n",
        many(found.journals.len() as u64, "journal"),
        many(bytes, "byte"),
    );
    for (sink, partitions) in &found.progress {
        let ticks = partitions.iter().map(|committed| committed.tick);
        text += &sink_text(sink, ticks);
    }
    text
}

/// How far a sink's partitions have come, in a line.
fn sink_text(sink: &str, ticks: impl Iterator<Item = Tick>) -> String {
    let (mut all, mut some) = (0, Vec::new());
    for tick in ticks {
        all += 1;
        some.extend((tick > 0).then_some(tick));
    }
    let (Some(least), Some(most)) = (some.iter().min(), some.iter().max()) else {
        return format!("    {sink}: nothing committed\n");
    };
    let range = if least == most {
        at(*most)
    } else {
        format!("{} to {}", at(*least), at(*most))
    };
    let of = if some.len() < all {
        format!("{} of ", some.len())
    } else {
        String::new()
    };
    let all = many(all as u64, "partition");
    format!("    {sink}: committed up to {range}, {of}{all}\n")
}

fn manifest_json(n: u64, manifest: &Manifest) -> Value {
    let mut value = json!({
        "kind": "manifest", "manifest": n, "incarnation": manifest.incarnation, "snapshot": null,
    });
    if let Some(snapshot) = &manifest.snapshot {
        value["snapshot"] = json!(snapshot);
        value["snapshot"]["tick"] = tick(snapshot.tick);
    }
    value
}

fn manifest_text(n: u64, manifest: &Manifest) -> String {
    let incarnation = manifest.incarnation;
    let Some(snapshot) = &manifest.snapshot else {
        return format!("manifest {n}: the fence of start {incarnation}\n");
    };
    let mut text = format!(
        "manifest {n}: snapshot of {}{}, by start {incarnation}; {}, {} of measurements\n",
        at(snapshot.tick),
        if snapshot.stopped {
            ", where the job was stopped"
        } else {
            ""
        },
        many(snapshot.parts.len() as u64, "part"),
        many(snapshot.segments.len() as u64, "segment"),
    );
    for part in &snapshot.parts {
        text += &format!("    {part}\n");
    }
    let mut sinks: BTreeMap<&str, Vec<&Position>> = BTreeMap::new();
    for position in &snapshot.sinks {
        sinks.entry(&position.sink).or_default().push(position);
    }
    for (sink, positions) in sinks {
        text += &sink_text(sink, positions.iter().map(|position| position.tick));
    }
    text
}

fn put_file(out: &mut impl Write, options: Options, file: &File) -> io::Result<()> {
    let name = &file.name;
    let pieces = match &file.pieces {
        Ok(pieces) => pieces,
        Err(error) => {
            let value = json!({"kind": "journal", "file": name, "bytes": file.bytes, "problem": error.to_string()});
            return put(out, options, &value, || format!("{error}\n"));
        }
    };
    let entries = || {
        pieces.iter().filter_map(|piece| match piece {
            Piece::Entry(_, entry) => Some(entry),
            Piece::Broken(..) => None,
        })
    };
    let count = entries().count() as u64;
    let records: u64 = entries().map(records).sum();
    let last = entries().map(|entry| entry.until).max().unwrap_or(0);
    let value = json!({
        "kind": "journal", "file": name, "incarnation": file.incarnation, "bytes": file.bytes,
        "counts": file.counts, "entries": count, "records": records, "until": tick(last),
    });
    put(out, options, &value, || {
        let cut = match file.counts {
            Some(counts) if counts < file.bytes => {
                format!("; only its first {} count", many(counts, "byte"))
            }
            _ => String::new(),
        };
        format!(
            "{name}: {}, {} up to {}, {}{cut}\n",
            many(count, "entry").replace("entrys", "entries"),
            many(records, "record"),
            at(last),
            many(file.bytes, "byte"),
        )
    })?;
    for piece in pieces {
        match piece {
            Piece::Entry(place, entry) if options.entries => {
                put(out, options, &entry_json(name, *place, entry), || {
                    entry_text(*place, entry)
                })?;
            }
            Piece::Entry(..) => {}
            Piece::Broken(from, to) => {
                let torn = *to == file.bytes;
                let what = if torn {
                    "a torn end, which does not count"
                } else {
                    "damaged: whole entries come behind it"
                };
                let value = json!({
                    "kind": if torn { "torn" } else { "damaged" }, "file": name, "at": from, "bytes": to - from,
                });
                put(out, options, &value, || {
                    format!(
                        "  byte {}: {} that are no entry; {what}\n",
                        grouped(*from),
                        many(to - from, "byte")
                    )
                })?;
            }
        }
    }
    Ok(())
}

fn records(entry: &Entry) -> u64 {
    let ticks = entry.partitions.iter().flat_map(|closed| &closed.ticks);
    ticks.map(|(_, count)| u64::from(*count)).sum()
}

fn entry_json(file: &str, place: u64, entry: &Entry) -> Value {
    let partition = |closed: &Closed| {
        let ticks = closed
            .ticks
            .iter()
            .map(|(at, count)| json!([tick(*at), count]));
        let schemas = closed
            .schemas
            .iter()
            .map(|(schema, offset)| json!({"schema": format!("{schema:016x}"), "offset": offset}));
        json!({
            "partition": closed.partition, "next": closed.next, "ticks": ticks.collect::<Vec<_>>(),
            "hash": format!("{:016x}", closed.hash), "clock": clock(closed), "closed": closed.closed,
            "schemas": schemas.collect::<Vec<_>>(),
        })
    };
    let partitions: Vec<Value> = entry.partitions.iter().map(partition).collect();
    json!({
        "kind": "entry", "file": file, "at": place, "worker": entry.worker, "until": tick(entry.until),
        "partitions": partitions,
    })
}

fn clock(closed: &Closed) -> Option<i64> {
    (closed.clock.now != i64::MIN).then_some(closed.clock.now)
}

fn entry_text(place: u64, entry: &Entry) -> String {
    let mut text = format!(
        "  byte {}: worker {}, all before {} is closed\n",
        grouped(place),
        entry.worker,
        at(entry.until)
    );
    for closed in &entry.partitions {
        let ticks: Vec<String> = closed
            .ticks
            .iter()
            .map(|(tick, count)| format!("{} at {}", grouped(u64::from(*count)), at(*tick)))
            .collect();
        let ticks = if ticks.is_empty() {
            "nothing read".to_owned()
        } else {
            ticks.join(", ")
        };
        text += &format!(
            "    partition {}: next offset {}; {ticks}; clock {}{}\n",
            closed.partition,
            grouped(closed.next),
            clock(closed).map_or("not begun".to_owned(), time),
            if closed.closed { "; closed" } else { "" },
        );
        for (schema, offset) in &closed.schemas {
            text += &format!(
                "      schema {schema:016x}, known at offset {}\n",
                grouped(*offset)
            );
        }
    }
    text
}
