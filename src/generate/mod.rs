//! A made shop's traffic from a seed, and beside it the right answer.
//!
//! For demonstrations, benches and tests: the same seed makes the same bytes on every machine, with
//! people who search, click, order and leave, with robots, and with everything that goes wrong on
//! the way to a log. [`Shop`] is the traffic, an iterator of [`Arrival`]s in order of log time;
//! [`Judge`] works out what must become of them, by plain sequential code which shares nothing with
//! the dataflows; [`generate`] does both and writes the answer into files. It is no model of any
//! real shop: its shares and rates are chosen so that every trouble occurs.

mod countries;
mod judge;
mod net;
mod page;
mod people;
mod plain;
mod rng;
mod robots;
mod settings;
mod shop;
mod sink;
mod truth;
mod wire;
mod world;

use std::path::{Path, PathBuf};

use serde_json::json;
use thiserror::Error;

pub use countries::countries;
pub use judge::Judge;
pub use net::Trouble;
pub use settings::{Limits, Scraper, Settings, Troubles};
pub use shop::{Arrival, Shop};
pub use sink::{ArrivalSink, JsonLines, SinkError};
pub use truth::{EndReason, Order, Reason, Truth, Verdict, Visit, tag_hash};
pub use wire::schemas;

/// Why nothing, or not all, could be made.
#[derive(Debug, Error)]
pub enum GenerateError {
    /// A setting out of its range.
    #[error("{name} is {value}: expected {expected}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// What it was.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A file of the right answer, or of a schema, that cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Whoever takes the arrivals could not.
    #[error("arrival {arrival} was not taken: {source}")]
    Sink {
        /// Its number, from 1.
        arrival: u64,
        /// What it says.
        source: SinkError,
    },
    /// An event came twice without having been announced, so which one stays cannot be said.
    #[error("event {id} came more than once, but was not marked as copied")]
    NotMarked {
        /// The event's ID in hex.
        id: String,
    },
}

/// What [`generate`] makes and what it writes.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The shop.
    pub settings: Settings,
    /// Where `truth.json`, `visits.jsonl`, `late.jsonl` and `orders.jsonl` go; made if it is not
    /// there.
    pub truth: Option<PathBuf>,
    /// Whether `tags.jsonl` is written too: a line of 190 bytes a measurement.
    pub tags: bool,
    /// Where the schemas of the messages go, a file each.
    pub schemas: Option<PathBuf>,
}

/// Makes all arrivals, gives them to `sink`, and works out the right answer. `progress` hears how
/// many were made, every 8,192 and at the end. Memory follows from who is there at one time, and
/// from the number of visits.
pub fn generate(
    options: &Options,
    sink: &mut dyn ArrivalSink,
    progress: &mut dyn FnMut(u64),
) -> Result<Truth, GenerateError> {
    let settings = &options.settings;
    if settings.events == Settings::ENDLESS {
        return Err(GenerateError::Setting {
            name: "events",
            value: "endless".into(),
            expected: "a number, since the right answer is known at the end only",
        });
    }
    let shop = Shop::new(settings.clone())?;
    if let Some(dir) = &options.schemas {
        write_schemas(dir)?;
    }
    let outputs = match &options.truth {
        Some(dir) => {
            let made = json!({
                "seed": settings.seed, "events": settings.events, "start": settings.start,
            });
            truth::Outputs::in_dir(dir, options.tags, made)?
        }
        None => truth::Outputs::default(),
    };
    let mut judge = Judge::writing(settings.limits, settings.partitions, outputs);
    let mut made = 0;
    for arrival in shop {
        made += 1;
        sink.send(&arrival).map_err(|source| GenerateError::Sink {
            arrival: made,
            source,
        })?;
        judge.take(
            arrival.log_time,
            &arrival.key,
            &arrival.value,
            arrival.copied,
        )?;
        if made % 8_192 == 0 {
            progress(made);
        }
    }
    sink.finish().map_err(|source| GenerateError::Sink {
        arrival: made,
        source,
    })?;
    progress(made);
    judge.finish()
}

/// Writes the schemas of a shop's messages into `dir`, which is made if it is not there.
pub fn write_schemas(dir: &Path) -> Result<(), GenerateError> {
    let failed = |path: &Path, source| GenerateError::Write {
        path: path.into(),
        source,
    };
    std::fs::create_dir_all(dir).map_err(|source| failed(dir, source))?;
    for (name, schema) in schemas() {
        let path = dir.join(name);
        std::fs::write(&path, format!("{:#}\n", schema.json()))
            .map_err(|source| failed(&path, source))?;
    }
    Ok(())
}
