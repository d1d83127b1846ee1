//! The table itself: for the one writer that adds complete ticks, and for readers of any version.
//!
//! Version n + 1 is put by a hard link to a finished file, which fails if somebody was there before. Then the versions
//! put since are read: if one has a transaction of Visitflow, another writer lives and this one is [`Fenced`]; if they
//! only did maintenance (compaction, vacuum), the next number is tried. The tick travels in the version, as the
//! transaction (`txn`) of the application "visitflow", so files and progress are one atomic step.
//!
//! [`Fenced`]: TableError::Fenced

use super::log::{
    APP, Add, AddFile, Format, Metadata, Protocol, Remove, State, Txn, load, version_name,
};
use super::schema::Struct;
use super::{TableError, checkpoint, disk};
use arrow_schema::Schema;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Versions between checkpoints: opening reads at most so many small files, and most readers take 0.3 ms for each.
const CHECKPOINT_EVERY: u64 = 100;
/// The operation of a version that changes nothing.
const FENCE: &str = "FENCE";

/// A table at one version, and the right to add the next unless somebody else does. Holds about 1 KB a live file.
#[derive(Debug)]
pub struct Table {
    dir: PathBuf,
    log: PathBuf,
    state: State,
    checkpointed: u64,
    /// The version by which another writer has shown itself.
    fenced: Option<u64>,
}

impl Table {
    /// Creates an empty table, version 0, in `dir`, a new or empty directory. `properties` are kept in the table for
    /// its readers (`delta.…` ones mean something to them, `visitflow.…` ones are ours).
    ///
    /// # Errors
    /// [`TableError::Exists`], [`TableError::NotEmpty`], [`TableError::Schema`], or what the disk says.
    pub fn create(
        dir: &Path,
        schema: &Schema,
        properties: &[(&str, &str)],
    ) -> Result<Table, TableError> {
        let delta = Struct::from_arrow(schema)?;
        let log = dir.join("_delta_log");
        if let Some(names) = disk::list(dir)? {
            let puts = |name: &String| name.ends_with(".json") || name.ends_with(".parquet");
            if disk::list(&log)?.is_some_and(|names| {
                names
                    .iter()
                    .any(|name| !name.starts_with('.') && puts(name))
            }) {
                return Err(TableError::Exists {
                    dir: dir.to_owned(),
                });
            }
            if let Some(found) = names.into_iter().find(|name| name != "_delta_log") {
                return Err(TableError::NotEmpty {
                    dir: dir.to_owned(),
                    found,
                });
            }
        }
        disk::create_dir(&log)?;
        let mut id = disk::fresh();
        id = id & !(0xf << 76) & !(0x3 << 62) | 4 << 76 | 2 << 62; // a random UUID's version and variant
        let id = format!("{id:032x}");
        let metadata = Metadata {
            id: [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]].join("-"),
            name: None,
            description: None,
            format: Format {
                provider: "parquet".to_owned(),
                options: Some(BTreeMap::new()),
            },
            schema_string: to_json(&delta)?.to_string(),
            partition_columns: Vec::new(),
            configuration: Some(
                properties
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), Some((*v).to_owned())))
                    .collect(),
            ),
            created_time: Some(disk::now()),
        };
        let protocol = Protocol {
            min_reader_version: 1,
            min_writer_version: 2,
        };
        let actions = [
            commit_info("CREATE TABLE", json!({}), None),
            json!({"protocol": to_json(&protocol)?}),
            json!({"metaData": to_json(&metadata)?}),
        ];
        if !disk::put_if_absent(&log, &version_name(0), &lines(&actions))? {
            return Err(TableError::Exists {
                dir: dir.to_owned(),
            });
        }
        Table::open(dir)
    }

    /// Opens the table in `dir` at its newest version. Writes nothing. Takes the time to read the newest checkpoint and
    /// the versions after it: 0.1 s for 10,000 versions without any.
    ///
    /// # Errors
    /// [`TableError::NotATable`]; a log that is torn ([`TableError::Garbled`]), has a hole
    /// ([`TableError::MissingVersion`]) or uses what we do not know ([`TableError::Unsupported`]).
    pub fn open(dir: &Path) -> Result<Table, TableError> {
        let log = dir.join("_delta_log");
        let (state, checkpointed) = load(dir, &log, None)?;
        Ok(Table {
            dir: dir.to_owned(),
            log,
            state,
            checkpointed,
            fenced: None,
        })
    }

    /// Opens the table in `dir` as it was at `version`, for readers: what is then written to it is refused, unless it
    /// is the newest.
    ///
    /// # Errors
    /// Those of [`open`](Table::open) and of [`files_at`](Table::files_at).
    pub fn open_at(dir: &Path, version: u64) -> Result<Table, TableError> {
        let log = dir.join("_delta_log");
        let (state, checkpointed) = load(dir, &log, Some(version))?;
        Ok(Table {
            dir: dir.to_owned(),
            log,
            state,
            checkpointed,
            fenced: None,
        })
    }

    /// Opens the table in `dir`, or creates it if the directory is new or empty. Of two at once both get it.
    ///
    /// # Errors
    /// Those of [`open`](Table::open) and [`create`](Table::create); a table whose columns cannot be, or grow into,
    /// those of `schema`.
    pub fn open_or_create(
        dir: &Path,
        schema: &Schema,
        properties: &[(&str, &str)],
    ) -> Result<Table, TableError> {
        let table = match Table::open(dir) {
            Err(TableError::NotATable { .. }) => match Table::create(dir, schema, properties) {
                Err(TableError::Exists { .. }) => Table::open(dir)?,
                other => return other,
            },
            other => other?,
        };
        table.state.schema.merge(&Struct::from_arrow(schema)?)?;
        Ok(table)
    }

    /// The table's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The version that this value stands at.
    pub fn version(&self) -> u64 {
        self.state.version
    }

    /// The tick up to which the table holds everything; none before the first.
    pub fn last_tick(&self) -> Option<u64> {
        self.state.last_tick()
    }

    /// The live files, by name.
    pub fn files(&self) -> impl Iterator<Item = &AddFile> {
        self.state.files.values()
    }

    /// The files that were live at `version`, by name. Reads the log again, from the checkpoint before `version`.
    ///
    /// # Errors
    /// [`TableError::NoVersion`]; [`TableError::MissingVersion`] if the log no longer reaches back so far; those of
    /// [`open`](Table::open).
    pub fn files_at(&self, version: u64) -> Result<Vec<AddFile>, TableError> {
        Ok(self.state_at(version)?.files.into_values().collect())
    }

    /// The columns, with the types they were declared with, but plain strings instead of dictionaries.
    pub fn schema(&self) -> &Schema {
        &self.state.arrow
    }

    /// The columns at `version`.
    ///
    /// # Errors
    /// As for [`files_at`](Table::files_at).
    pub fn schema_at(&self, version: u64) -> Result<Schema, TableError> {
        Ok(self.state_at(version)?.arrow)
    }

    /// A property of the table, as given when it was created or set by its owner since.
    pub fn property(&self, key: &str) -> Option<&str> {
        self.state.configured(key)
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn state_at(&self, version: u64) -> Result<State, TableError> {
        if version == self.state.version {
            return Ok(self.state.clone());
        }
        Ok(load(&self.dir, &self.log, Some(version))?.0)
    }

    /// Goes on to the newest version, for readers that follow; whether there was one. A writer that finds a version of
    /// another Visitflow writes no more.
    ///
    /// # Errors
    /// Those of [`open`](Table::open), and the table stays at the last version that was whole.
    pub fn refresh(&mut self) -> Result<bool, TableError> {
        let before = self.state.version;
        let ours = self.state.catch_up(&self.log)?;
        self.fenced = self.fenced.or(ours);
        Ok(self.state.version > before)
    }

    /// Adds files, in one version that says that the table now holds everything up to `tick`; the version's number.
    /// When it returns, files and version are durable and visible. `files` may be empty: time has passed, and no visit
    /// has ended. About 0.5 ms, and as much as the disk takes for three `fsync`s.
    ///
    /// # Errors
    /// [`TableError::Fenced`]: stop. [`TableError::Tick`]: it is not later than [`last_tick`](Table::last_tick).
    /// [`TableError::Schema`]: a file has other columns ([`evolve`](Table::evolve) first). A file that is not there.
    /// After what the disk says, whether the version was put is known by [`refresh`](Table::refresh) or by opening anew.
    pub fn append(&mut self, files: &[AddFile], tick: u64) -> Result<u64, TableError> {
        self.commit(tick, None, &[], files, "WRITE")
    }

    /// As [`append`](Table::append), after giving the table, in the same version, the columns of `schema` that it does
    /// not have yet, at any depth. They must be nullable; earlier rows have null there. Columns of the table that
    /// `schema` lacks stay.
    ///
    /// # Errors
    /// As for `append`; [`TableError::Schema`] for another type under an old name, or a new column that is not nullable.
    pub fn evolve(
        &mut self,
        schema: &Schema,
        files: &[AddFile],
        tick: u64,
    ) -> Result<u64, TableError> {
        let schema = Struct::from_arrow(schema)?;
        self.commit(tick, Some(&schema), &[], files, "WRITE")
    }

    /// Takes files out of the table and puts others in, in one version. `tick` may be the table's own. The files that
    /// are taken out stay on the disk for the readers of older versions.
    ///
    /// # Errors
    /// As for [`append`](Table::append); [`TableError::NotLive`] for a path that is none of [`files`](Table::files);
    /// [`TableError::AppendOnly`].
    pub fn replace(
        &mut self,
        remove: &[String],
        add: &[AddFile],
        tick: u64,
    ) -> Result<u64, TableError> {
        self.commit(tick, None, remove, add, "REPLACE")
    }

    /// Puts a version that changes nothing, so that a writer who opened the table before cannot put
    /// another.
    ///
    /// # Errors
    /// As for [`append`](Table::append).
    pub fn fence(&mut self) -> Result<u64, TableError> {
        self.commit(self.last_tick().unwrap_or(0), None, &[], &[], FENCE)
    }

    fn commit(
        &mut self,
        tick: u64,
        schema: Option<&Struct>,
        remove: &[String],
        add: &[AddFile],
        operation: &str,
    ) -> Result<u64, TableError> {
        // The one place where a checkpoint that could not be written is complained about: here nothing is at stake yet.
        if self.state.version - self.checkpointed.min(self.state.version) >= CHECKPOINT_EVERY {
            self.checkpoint()?;
        }
        self.make_durable(add)?;
        loop {
            if let Some(version) = self.fenced {
                return Err(TableError::Fenced {
                    dir: self.dir.clone(),
                    version,
                });
            }
            let actions = self.actions(tick, schema, remove, add, operation)?;
            let version = self.state.version + 1;
            let bytes = lines(&actions);
            let name = version_name(version);
            if disk::put_if_absent(&self.log, &name, &bytes)? {
                self.state.apply(&bytes, version, &self.log.join(&name))?;
                if version - self.checkpointed.min(version) >= CHECKPOINT_EVERY {
                    // The version is in the table: an error now would say otherwise. The next commit tries again.
                    let _ = self.checkpoint();
                }
                return Ok(version);
            }
            if !self.refresh()? {
                let problem =
                    "is there and not there; another program may be cleaning the log".to_owned();
                return Err(TableError::Garbled {
                    file: self.log.join(&name),
                    line: 0,
                    problem,
                });
            }
        }
    }

    fn checkpoint(&mut self) -> Result<(), TableError> {
        checkpoint::write(&self.log, &self.state)?;
        self.checkpointed = self.state.version;
        Ok(())
    }

    /// The files' bytes were synced when they were finished, their names are now.
    fn make_durable(&self, add: &[AddFile]) -> Result<(), TableError> {
        let mut dirs = std::collections::BTreeSet::new();
        for file in add {
            let path = file.on_disk(&self.dir)?;
            let wrong = |problem: String| TableError::DataFile {
                dir: self.dir.clone(),
                file: file.path.clone(),
                problem,
            };
            match std::fs::metadata(&path) {
                Ok(found) if found.len() == file.size => {}
                Ok(found) => {
                    return Err(wrong(format!(
                        "has {} bytes; expected {}",
                        found.len(),
                        file.size
                    )));
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    return Err(wrong("is missing".to_owned()));
                }
                Err(e) => return Err(disk::failed("read", &path, e)),
            }
            dirs.extend(path.parent().map(Path::to_owned));
        }
        dirs.iter().try_for_each(|dir| disk::sync_dir(dir))
    }

    /// The next version's lines, if it may follow the state as it is now.
    fn actions(
        &self,
        tick: u64,
        schema: Option<&Struct>,
        remove: &[String],
        add: &[AddFile],
        operation: &str,
    ) -> Result<Vec<Value>, TableError> {
        let state = &self.state;
        let txn_version = i64::try_from(tick).map_err(|_| TableError::Tick {
            dir: self.dir.clone(),
            tick,
            last: i64::MAX as u64,
        })?;
        let replaces = operation == "REPLACE";
        if let Some(last) = state.last_tick()
            && (tick < last || tick == last && !replaces && operation != FENCE)
        {
            return Err(TableError::Tick {
                dir: self.dir.clone(),
                tick,
                last,
            });
        }
        if !remove.is_empty()
            && state
                .configured("delta.appendOnly")
                .is_some_and(|v| v.eq_ignore_ascii_case("true"))
        {
            return Err(TableError::AppendOnly {
                dir: self.dir.clone(),
            });
        }
        let now = disk::now();
        let mode = if replaces { "Overwrite" } else { "Append" };
        let mut actions = vec![
            commit_info(operation, json!({"mode": mode}), Some(remove.is_empty())),
            json!({"txn": to_json(&Txn { app_id: APP.to_owned(), version: txn_version, last_updated: Some(now) })?}),
        ];
        let mut columns = state.schema.clone();
        if let Some(newer) = schema {
            columns = columns.merge(newer)?;
            if columns != state.schema {
                let metadata = Metadata {
                    schema_string: to_json(&columns)?.to_string(),
                    ..state.metadata.clone()
                };
                actions.push(json!({"metaData": to_json(&metadata)?}));
            }
        }
        let mut gone = std::collections::BTreeSet::new();
        for path in remove {
            let not_live = || TableError::NotLive {
                dir: self.dir.clone(),
                file: path.clone(),
                version: state.version,
            };
            let file = state
                .files
                .get(path)
                .filter(|_| gone.insert(path))
                .ok_or_else(not_live)?;
            let mut remove = to_json(&Remove::of(file, now))?;
            remove["extendedFileMetadata"] = true.into();
            remove["partitionValues"] = json!({});
            actions.push(json!({"remove": remove}));
        }
        let mut added = std::collections::BTreeSet::new();
        for file in add {
            let wrong = |problem: &str| TableError::DataFile {
                dir: self.dir.clone(),
                file: file.path.clone(),
                problem: problem.to_owned(),
            };
            if state.files.contains_key(&file.path) || !added.insert(&file.path) {
                return Err(wrong("is a file of the table already"));
            }
            let of_file = file
                .schema
                .as_deref()
                .map(serde_json::from_str::<Struct>)
                .transpose();
            let of_file = of_file.map_err(|e| wrong(&format!("comes without its schema: {e}")))?;
            if let Some(of_file) = of_file
                && columns.merge(&of_file)? != columns
            {
                return Err(wrong(
                    "has columns that the table does not have, or nulls where it has none; expected `evolve` first",
                ));
            }
            let mut add = to_json(&Add::of(file))?;
            add["partitionValues"] = json!({});
            add["dataChange"] = true.into();
            actions.push(json!({"add": add}));
        }
        Ok(actions)
    }
}

fn to_json(value: &impl serde::Serialize) -> Result<Value, TableError> {
    // Fails for maps whose keys are no strings, which none of ours is; as an error all the same.
    serde_json::to_value(value).map_err(|e| TableError::Schema {
        column: String::new(),
        problem: e.to_string(),
    })
}

fn commit_info(operation: &str, parameters: Value, blind: Option<bool>) -> Value {
    let mut info = json!({
        "timestamp": disk::now(),
        "operation": operation,
        "operationParameters": parameters,
        "engineInfo": concat!("visitflow/", env!("CARGO_PKG_VERSION")),
    });
    if let Some(blind) = blind {
        info["isBlindAppend"] = blind.into();
    }
    json!({"commitInfo": info})
}

fn lines(actions: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for action in actions {
        bytes.extend_from_slice(action.to_string().as_bytes());
        bytes.push(b'\n');
    }
    bytes
}
