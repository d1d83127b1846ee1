//! The sink of tables: turns finished visits into rows, once, at their seal, and commits whole
//! versions of `measurements` and `visits`.
//!
//! Each worker writes files of its own, at most one open per table, and closes them at every
//! [`Cut`]; the first worker puts the version, once all workers have passed the cut. A visit never
//! spans files. A file that has grown to the size limit is closed on the way and waits for the cut.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::{Operator, OutputBuilder};
use visitflow_dataflows::attribution::Order;
use visitflow_dataflows::complete::Complete;
use visitflow_dataflows::cut::Cut;
use visitflow_dataflows::stories::Finished;
use visitflow_dataflows::visit::{Tick, bytes_of_words};
use visitflow_schemas::columns::{Columns, Ids, Program, arrow_schema_of};
use visitflow_schemas::encode;
use visitflow_schemas::records::{self, OrderCredit, Visit};
use visitflow_schemas::resolve::{identity, resolve};
use visitflow_schemas::role::Role;
use visitflow_schemas::roles::{Overrides, Roles};
use visitflow_schemas::schema::Schema;
use visitflow_schemas::store::SchemaStore;
use visitflow_schemas::tag::{self, Tag};
use visitflow_schemas::walk::{Found, Walk};

use super::SinkError;
use crate::crash;
use crate::run::Failure;
use crate::table::{AddFile, Options, Table, TableError, TableWriter};

/// Rows that are encoded at once.
const BATCH_ROWS: usize = 8_192;
/// The tables, as `Done` numbers them.
pub const TABLES: [&str; 2] = ["measurements", "visits"];

/// A closed file, on its way to the first worker.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Done {
    /// The cut it belongs to; `u64::MAX` for the end of input.
    cut: Tick,
    /// The last seal in it.
    last: Tick,
    /// Which of [`TABLES`].
    table: u8,
    /// The file, an [`AddFile`] as JSON.
    file: String,
}

/// What a table sink needs.
pub struct Settings {
    /// The folder with a folder for each table.
    pub dir: PathBuf,
    /// The schema that measurements are read with.
    pub reader: Schema,
    /// Roles where schemas do not say them.
    pub overrides: Overrides,
    /// Writers' schemas.
    pub schemas: Arc<dyn SchemaStore>,
    /// A file is closed at this size, in bytes.
    pub file_size: u64,
    /// What makes this worker's file names unique.
    pub prefix: String,
    /// The last tick whose seals each of the tables holds: what comes again is passed over.
    pub held: [Tick; 2],
    /// How many bytes of rows all workers of this process have that no version holds.
    pub uncommitted: Arc<AtomicU64>,
}

/// How to read one writer's measurements.
struct Writer {
    program: Program,
    walk: Walk,
}

/// The open files of a worker.
struct Files {
    settings: Settings,
    measurement: Schema,
    writers: HashMap<u64, Writer>,
    rows: [Columns; 2],
    visit_program: Program,
    open: [Option<TableWriter>; 2],
    closed: Vec<(u8, AddFile)>,
    files: u64,
    last: Tick,
    bytes: u64,
    found: Found,
    scratch: Vec<u8>,
}

/// The schema of the rows of measurements.
pub fn measurement_rows(reader: &Schema) -> Result<Schema, SinkError> {
    tag::rows(reader).map_err(|e| SinkError::Unreadable {
        schema: reader.fingerprint(),
        detail: e.to_string(),
    })
}

fn unreadable(schema: u64) -> impl Fn(&dyn std::fmt::Display) -> SinkError {
    move |e| SinkError::Unreadable {
        schema,
        detail: e.to_string(),
    }
}

fn failed(table: usize) -> impl Fn(TableError) -> SinkError {
    move |source| SinkError::Table {
        table: TABLES[table],
        source,
    }
}

impl Files {
    fn new(settings: Settings) -> Result<Files, SinkError> {
        let measurement = measurement_rows(&settings.reader)?;
        let visit = records::VISIT.clone();
        let fault = unreadable(measurement.fingerprint());
        let measurements = Columns::new(&measurement, Ids::Hex).map_err(|e| fault(&e))?;
        let visits = Columns::new(&visit, Ids::Hex).map_err(|e| fault(&e))?;
        let visit_program = visits.program(&identity(&visit)).map_err(|e| fault(&e))?;
        Ok(Files {
            settings,
            measurement,
            writers: HashMap::new(),
            rows: [measurements, visits],
            visit_program,
            open: [None, None],
            closed: Vec::new(),
            files: 0,
            last: 0,
            bytes: 0,
            found: Found::default(),
            scratch: Vec::new(),
        })
    }

    fn writer(&mut self, fingerprint: u64) -> Result<(), SinkError> {
        if self.writers.contains_key(&fingerprint) {
            return Ok(());
        }
        let fault = unreadable(fingerprint);
        let Some(schema) = self.settings.schemas.get(fingerprint)? else {
            return Err(fault(&"its schema has left the schema store"));
        };
        let rows = tag::rows(&schema).map_err(|e| fault(&e))?;
        let read = resolve(&rows, &self.measurement).map_err(|e| fault(&e))?;
        let program = self.rows[0].program(&read).map_err(|e| fault(&e))?;
        let overrides = self
            .settings
            .overrides
            .in_writer(&self.settings.reader, &schema);
        let roles = Roles::find(&schema, &overrides).map_err(|e| fault(&e))?;
        let walk = Walk::up_to(&schema, &roles, &[Role::CustomerId]).map_err(|e| fault(&e))?;
        self.writers.insert(fingerprint, Writer { program, walk });
        Ok(())
    }

    /// Adds the rows of a visit, to those tables that do not hold it.
    fn add(&mut self, Finished { visit, orders }: &Finished) -> Result<(), SinkError> {
        let [measurements, visits] = self.settings.held.map(|held| visit.tick > held);
        if !measurements && !visits {
            return Ok(());
        }
        // What is known of the sender is what its first measurement with a country says.
        let placed = visit
            .measurements()
            .find(|m| m.context.first().is_some_and(|branch| *branch != 0));
        let sender = placed
            .or_else(|| visit.measurements().next())
            .map_or(&[][..], |m| m.context);
        let mut customer: Option<String> = None;
        for measurement in visit.measurements() {
            self.writer(measurement.schema)?;
            let writer = &self.writers[&measurement.schema];
            if customer.is_none() && writer.walk.run(measurement.body, &mut self.found).is_ok() {
                let mut id = Vec::new();
                if visitflow_schemas::key::write_id(
                    &self.found,
                    measurement.body,
                    Role::CustomerId,
                    &mut id,
                ) {
                    customer = Some(records::browser_text(&id).into_owned());
                }
            }
            if !measurements {
                continue;
            }
            self.scratch.clear();
            let tag = Tag {
                visit_id: visit.visit,
                visit_started: visit.started,
            };
            tag.write_body(measurement.context, measurement.body, &mut self.scratch);
            encode::long(tag::day_of(visit.started), &mut self.scratch);
            let appended = self.rows[0].append(&writer.program, &self.scratch);
            appended.map_err(|e| unreadable(measurement.schema)(&e))?;
            if self.rows[0].len() >= BATCH_ROWS {
                self.flush(0)?;
            }
        }
        if visits {
            self.add_visit(visit, orders.as_deref(), sender, customer.as_deref())?;
        }
        self.last = self.last.max(visit.tick);
        self.bytes += visit.bytes() as u64;
        self.settings
            .uncommitted
            .fetch_add(visit.bytes() as u64, Ordering::Relaxed);
        // A visit never spans files, so a file is closed between visits only.
        for table in 0..TABLES.len() {
            let full = |open: &TableWriter| open.bytes_so_far() >= self.settings.file_size;
            if self.open[table].as_ref().is_some_and(full) {
                self.close(table)?;
            }
        }
        Ok(())
    }

    fn add_visit(
        &mut self,
        visit: &Complete,
        orders: Option<&[Order]>,
        sender: &[u8],
        customer: Option<&str>,
    ) -> Result<(), SinkError> {
        self.scratch.clear();
        let value = |order: &Order| order.value.unwrap_or(0);
        let revenue = |orders: &[Order]| orders.iter().map(value).fold(0, i64::saturating_add);
        let credits = orders.map(credits);
        Visit {
            visit_id: visit.visit,
            browser_id: &records::browser_text(&visit.browser_id),
            started: visit.started,
            last_seen: visit.last_seen,
            measurements: visit.len() as i64,
            end_reason: super::end_reason(visit.reason),
            context: sender,
            customer_id: customer,
            sealed_tick: visit.tick as i64,
            orders: orders.map(|orders| orders.len() as i64),
            revenue: orders.map(revenue),
            credits: credits.as_deref(),
        }
        .encode_body(&mut self.scratch);
        let appended = self.rows[1].append(&self.visit_program, &self.scratch);
        appended.map_err(|e| unreadable(records::VISIT.fingerprint())(&e))?;
        if self.rows[1].len() >= BATCH_ROWS {
            self.flush(1)?;
        }
        Ok(())
    }

    /// Hands the rows at hand to the file.
    fn flush(&mut self, table: usize) -> Result<(), SinkError> {
        if self.rows[table].is_empty() {
            return Ok(());
        }
        let batch = self.rows[table].finish();
        if self.open[table].is_none() {
            self.files += 1;
            let prefix = format!("{}-{:06}", self.settings.prefix, self.files);
            let dir = self.settings.dir.join(TABLES[table]);
            let options = options(table, &self.settings.overrides, &self.settings.reader);
            self.open[table] = Some(
                TableWriter::new(&dir, &prefix, batch.schema(), &options).map_err(failed(table))?,
            );
        }
        let writer = self.open[table].as_mut().expect("opened above");
        writer.write(&batch).map_err(failed(table))
    }

    fn close(&mut self, table: usize) -> Result<(), SinkError> {
        self.flush(table)?;
        if let Some(writer) = self.open[table].take() {
            self.closed
                .push((table as u8, writer.finish().map_err(failed(table))?));
            crash::point("file-finished");
        }
        Ok(())
    }

    /// Closes everything for a cut.
    fn cut(&mut self, cut: Tick) -> Result<Vec<Done>, SinkError> {
        (0..TABLES.len()).try_for_each(|table| self.close(table))?;
        let bytes = std::mem::take(&mut self.bytes);
        self.settings
            .uncommitted
            .fetch_sub(bytes, Ordering::Relaxed);
        let last = self.last;
        let done = |(table, file): (u8, AddFile)| {
            let file = serde_json::to_string(&file).expect("a file's description is plain JSON");
            Done {
                cut,
                last,
                table,
                file,
            }
        };
        Ok(self.closed.drain(..).map(done).collect())
    }
}

/// The credits of a visit's orders, order by order.
fn credits(orders: &[Order]) -> Vec<OrderCredit<'_>> {
    let of = |order| move |credit| (order, credit);
    let credits = orders
        .iter()
        .flat_map(|order: &Order| order.credits.iter().map(of(order)));
    credits
        .map(|(order, credit)| OrderCredit {
            order_event: bytes_of_words(order.event),
            order_id: order.order_id.as_deref(),
            touch: &credit.touch,
            time: credit.time,
            first: credit.first,
            last: credit.last,
            linear: credit.linear,
            position: credit.position,
        })
        .collect()
}

/// Parquet settings of a table's columns.
fn options(table: usize, overrides: &Overrides, reader: &Schema) -> Options {
    let name = |role: Role| {
        let roles = Roles::find(reader, overrides).ok()?;
        let path = roles.path(role)?.to_vec();
        let mut record = reader.record().clone();
        let mut names = Vec::new();
        for step in path {
            let field = record.fields.get(step)?.clone();
            names.push(field.name.clone());
            if let visitflow_schemas::schema::Kind::Record(inner) =
                &visitflow_schemas::roles::nullable(&field.ty).kind
            {
                record = inner.clone();
            }
        }
        Some(names.join("."))
    };
    if table == 0 {
        let ids = [Role::EventId, Role::Cause]
            .into_iter()
            .filter_map(name)
            .collect();
        let browser = name(Role::BrowserId);
        Options {
            unique: ids,
            bloom: browser.into_iter().chain(["visit_id".to_owned()]).collect(),
        }
    } else {
        let bloom = ["visit_id", "browser_id", "customer_id"]
            .map(str::to_owned)
            .to_vec();
        Options {
            unique: vec!["visit_id".to_owned()],
            bloom,
        }
    }
}

/// Writes complete visits to files. The stream that comes back carries closed files; its frontier
/// says which ticks have been taken. `cuts` are all cuts, on every worker.
pub fn files<'s>(
    visits: StreamVec<'s, u64, Finished>,
    cuts: StreamVec<'s, u64, Cut>,
    settings: Settings,
    failure: Failure,
) -> StreamVec<'s, u64, Done> {
    let mut builder = OperatorBuilder::new("Files".to_owned(), visits.scope());
    let mut visits = builder.new_input(visits, Pipeline);
    let mut cuts = builder.new_input(cuts, Pipeline);
    let (output, stream) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Done>>>::from(output);
    builder.build(move |caps| {
        let mut cap = caps.into_iter().next();
        let mut files = match Files::new(settings) {
            Ok(files) => Some(files),
            Err(error) => {
                failure.set(error);
                None
            }
        };
        let mut pending: VecDeque<Finished> = VecDeque::new();
        let mut at: BTreeSet<Tick> = BTreeSet::new();
        move |frontiers| {
            visits.for_each(|_, data| pending.extend(data.drain(..)));
            cuts.for_each(|_, data| {
                let files = data.drain(..).filter(|cut| cut.files);
                at.extend(files.map(|cut| cut.tick));
            });
            let (Some(held), Some(files)) = (cap.as_mut(), files.as_mut()) else {
                return;
            };
            let first = |f: &timely::progress::frontier::MutableAntichain<u64>| {
                f.frontier().first().copied()
            };
            let until = frontiers.iter().filter_map(first).min().unwrap_or(u64::MAX);
            // Visits come in the order of their seals, so what lies before the cuts that may still
            // be said need not wait for those behind it.
            let known = first(&frontiers[1]).unwrap_or(u64::MAX);
            if failure.is_set() {
                return;
            }
            let mut advance = || -> Result<(), SinkError> {
                let mut close = |files: &mut Files, cut: Tick| {
                    let done = files.cut(cut)?;
                    output
                        .activate()
                        .session(&*held)
                        .give_iterator(done.into_iter());
                    Ok(())
                };
                while pending
                    .front()
                    .is_some_and(|next| next.visit.tick < known || known == u64::MAX)
                {
                    let next = pending.pop_front().expect("looked at above");
                    let tick = next.visit.tick;
                    while let Some(cut) = at.first().copied().filter(|cut| *cut <= tick) {
                        at.pop_first();
                        close(files, cut)?;
                    }
                    files.add(&next)?;
                }
                while let Some(cut) = at.first().copied().filter(|cut| *cut <= until) {
                    at.pop_first();
                    close(files, cut)?;
                }
                if until == u64::MAX {
                    close(files, u64::MAX)
                } else {
                    Ok(())
                }
            };
            if let Err(error) = advance() {
                failure.set(error);
                return;
            }
            if until == u64::MAX {
                cap = None
            } else if until > *held.time() {
                held.downgrade(&until)
            }
        }
    });
    stream
}

/// The columns of both tables, of a job that reads measurements with this schema.
///
/// # Errors
/// It has what cannot be columns.
pub fn columns(reader: &Schema) -> Result<[arrow_schema::Schema; 2], SinkError> {
    let columns = |schema: &Schema| {
        let columns = arrow_schema_of(schema, Ids::Hex);
        columns.map_err(|e| unreadable(schema.fingerprint())(&e))
    };
    Ok([
        columns(&measurement_rows(reader)?)?,
        columns(&records::VISIT)?,
    ])
}

/// Puts a version of each table once all workers have passed a cut; on the first worker. A table of an
/// earlier version of the program gets the [`columns`] that it lacks. The
/// stream that comes back says up to which tick both tables hold all seals; the cuts before its
/// frontier are committed. `took` is told how long each put of a version took.
pub fn versions<'s>(
    done: StreamVec<'s, u64, Done>,
    dir: &Path,
    columns: [arrow_schema::Schema; 2],
    committed: Rc<Cell<[(u64, u64); 2]>>,
    mut took: impl FnMut(Duration) + 'static,
    failure: Failure,
) -> StreamVec<'s, u64, Tick> {
    let dir = dir.to_owned();
    done.unary_frontier::<CapacityContainerBuilder<Vec<Tick>>, _, _, _>(
        Exchange::new(|_: &Done| 0),
        "Versions",
        move |cap, _| {
            let mut cap = Some(cap);
            let mut cuts: BTreeMap<Tick, Vec<Done>> = BTreeMap::new();
            let tables: RefCell<Option<[Table; 2]>> = RefCell::new(None);
            move |(input, frontier), output| {
                input.for_each(|_, data| {
                    data.drain(..)
                        .for_each(|d| cuts.entry(d.cut).or_default().push(d))
                });
                let Some(held) = cap.as_mut() else { return };
                let until = frontier.frontier().first().copied().unwrap_or(u64::MAX);
                if until <= *held.time() || failure.is_set() {
                    return;
                }
                while let Some(first) = cuts.first_entry().filter(|cut| *cut.key() <= until) {
                    let (cut, done) = first.remove_entry();
                    let last = done.iter().map(|d| d.last).max().unwrap_or(0);
                    // All seals before the cut are in; at the end of input, all there are.
                    let tick = if cut == u64::MAX { last } else { cut - 1 };
                    let mut put = || -> Result<(), SinkError> {
                        let mut tables = tables.borrow_mut();
                        if tables.is_none() {
                            let open =
                                |t: usize| Table::open(&dir.join(TABLES[t])).map_err(failed(t));
                            *tables = Some([open(0)?, open(1)?]);
                        }
                        let tables = tables.as_mut().expect("opened above");
                        let mut now = committed.get();
                        for (number, table) in tables.iter_mut().enumerate() {
                            let own = done.iter().filter(|d| usize::from(d.table) == number);
                            let parse = |d: &Done| {
                                serde_json::from_str(&d.file).expect("as another worker wrote it")
                            };
                            let files: Vec<AddFile> = own.map(parse).collect();
                            if !files.is_empty() {
                                crash::point(if number == 0 {
                                    "version"
                                } else {
                                    "versions-between"
                                });
                                let began = Instant::now();
                                let put = table.evolve(&columns[number], &files, tick);
                                now[number] = (put.map_err(failed(number))?, tick);
                                took(began.elapsed());
                            }
                        }
                        committed.set(now);
                        Ok(())
                    };
                    if let Err(error) = put() {
                        failure.set(error);
                        return;
                    }
                    output.session(&*held).give(tick);
                }
                if until == u64::MAX {
                    cap = None
                } else {
                    held.downgrade(&until)
                }
            }
        },
    )
}
