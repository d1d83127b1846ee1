//! From a reader's schema to columns: the Arrow schema, and beside it a tree that says where in the
//! stores each type's values go. Both are made in one go, so that they agree.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, ListArray,
    MapArray, PrimitiveArray, StringArray, StructArray,
};
use arrow_buffer::{BooleanBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, Fields, TimeUnit};

use super::store::{Fixeds, Group, Lists, StoreRef, Stores, Texts, Values};
use super::{ColumnsError, Ids, MAX_COLUMNS};
use crate::schema::{Kind, Logical, Record, Type};

/// The longest fixed that is a fixed in the columns, too. A null costs as much as a value there, so
/// longer ones are kept as byte strings.
pub(super) const MAX_FIXED: usize = 64;

/// Where the values of a type of the reader go.
#[derive(Clone)]
pub(super) enum Node {
    /// Nowhere.
    Void,
    /// One store.
    Leaf(StoreRef),
    /// An enum: the store of its indices, and its symbols.
    Symbols(u32, ArrayRef),
    /// A record. `own` says whether it is there, if it may be absent; a record without columns
    /// whose presence matters has a flag instead.
    Struct {
        own: Option<StoreRef>,
        fields: Vec<Node>,
    },
    List(u32, Box<Node>),
    Map {
        at: u32,
        keys: u32,
        value: Box<Node>,
    },
    /// A union of one type, with null or without.
    One {
        null: Option<usize>,
        node: Box<Node>,
    },
    /// A union of several: a column a branch, none for null.
    Many {
        group: Option<u32>,
        branches: Vec<Option<Node>>,
        names: Vec<String>,
    },
}

pub(super) struct Layout {
    pub record: Arc<Record>,
    pub schema: Arc<arrow_schema::Schema>,
    pub root: Node,
    /// As they are before the first row.
    pub stores: Stores,
    pub ids: Ids,
}

impl Layout {
    pub fn new(record: &Arc<Record>, ids: Ids) -> Result<Layout, ColumnsError> {
        let mut builder = Builder {
            ids,
            stores: Stores::default(),
            nodes: 0,
            path: vec![],
        };
        let (nodes, fields) = builder.fields(record)?;
        Ok(Layout {
            record: record.clone(),
            schema: Arc::new(arrow_schema::Schema::new(fields)),
            root: Node::Struct {
                own: None,
                fields: nodes,
            },
            stores: builder.stores,
            ids,
        })
    }
}

/// A column's type and whether it may be null; `None` if there is no column.
type Column = Option<(DataType, bool)>;

struct Builder {
    ids: Ids,
    stores: Stores,
    nodes: usize,
    path: Vec<String>,
}

/// A new store in the vector of its type.
fn add<T>(stores: &mut Vec<T>, store: T, reference: fn(u32) -> StoreRef) -> Node {
    stores.push(store);
    Node::Leaf(reference(stores.len() as u32 - 1))
}

impl Builder {
    fn fields(&mut self, record: &Record) -> Result<(Vec<Node>, Fields), ColumnsError> {
        let mut nodes = vec![];
        let mut fields: Vec<Field> = vec![];
        let mut names = HashSet::new();
        for field in &record.fields {
            self.path.push(field.name.clone());
            let (node, column) = self.ty(&field.ty, false, false)?;
            nodes.push(node);
            if let Some((data_type, nullable)) = column {
                if !names.insert(field.name.to_lowercase()) {
                    return Err(ColumnsError::SameName {
                        path: self.path.join("."),
                    });
                }
                let column = Field::new(&field.name, data_type, nullable);
                fields.push(match &field.doc {
                    Some(doc) => {
                        column.with_metadata(HashMap::from([("comment".to_owned(), doc.clone())]))
                    }
                    None => column,
                });
            }
            self.path.pop();
        }
        Ok((nodes, fields.into()))
    }

    /// `nullable`: a null may stand for the value. `keep`: make a column even of what has no
    /// content, since its presence says something.
    fn ty(
        &mut self,
        ty: &Type,
        nullable: bool,
        keep: bool,
    ) -> Result<(Node, Column), ColumnsError> {
        self.nodes += 1;
        if self.nodes > MAX_COLUMNS {
            return Err(ColumnsError::TooMany {
                path: self.path.join("."),
            });
        }
        let s = &mut self.stores;
        let (node, data_type) = match (&ty.kind, ty.logical) {
            (Kind::Null, _) if keep => {
                let node = add(&mut s.flags, Values::new(true), StoreRef::Flag);
                return Ok((node, Some((DataType::Boolean, true))));
            }
            (Kind::Null, _) => return Ok((Node::Void, None)),
            (Kind::Fixed(fixed), _) if fixed.size == 0 && !keep && !nullable => {
                return Ok((Node::Void, None));
            }
            (Kind::Fixed(fixed), _) if fixed.size == 0 => (
                add(&mut s.flags, Values::new(nullable), StoreRef::Flag),
                DataType::Boolean,
            ),
            (Kind::Boolean, _) => (
                add(&mut s.flags, Values::new(nullable), StoreRef::Flag),
                DataType::Boolean,
            ),
            (Kind::Int, Some(Logical::TimeMillis)) => (
                add(&mut s.longs, Values::new(nullable), StoreRef::Long),
                DataType::Int64,
            ),
            (Kind::Int, logical) => (
                add(&mut s.ints, Values::new(nullable), StoreRef::Int),
                match logical {
                    Some(Logical::Date) => DataType::Date32,
                    _ => DataType::Int32,
                },
            ),
            (Kind::Long, logical) => (
                add(&mut s.longs, Values::new(nullable), StoreRef::Long),
                match logical {
                    Some(
                        Logical::TimestampMillis
                        | Logical::TimestampMicros
                        | Logical::TimestampNanos,
                    ) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                    Some(
                        Logical::LocalTimestampMillis
                        | Logical::LocalTimestampMicros
                        | Logical::LocalTimestampNanos,
                    ) => DataType::Timestamp(TimeUnit::Microsecond, None),
                    _ => DataType::Int64,
                },
            ),
            (Kind::Float, _) => (
                add(&mut s.floats, Values::new(nullable), StoreRef::Float),
                DataType::Float32,
            ),
            (Kind::Double, _) => (
                add(&mut s.doubles, Values::new(nullable), StoreRef::Double),
                DataType::Float64,
            ),
            (Kind::Bytes | Kind::Fixed(_), Some(Logical::Decimal { precision, scale })) => (
                add(&mut s.decimals, Values::new(nullable), StoreRef::Decimal),
                DataType::Decimal128(precision, scale),
            ),
            (Kind::String, _) => (
                add(&mut s.texts, Texts::new(nullable), StoreRef::Text),
                DataType::Utf8,
            ),
            (Kind::Fixed(fixed), _) if fixed.size == 16 && self.ids == Ids::Hex => (
                add(&mut s.texts, Texts::new(nullable), StoreRef::Text),
                DataType::Utf8,
            ),
            (Kind::Fixed(fixed), _) if fixed.size <= MAX_FIXED => (
                add(
                    &mut s.fixeds,
                    Fixeds::new(fixed.size, nullable),
                    StoreRef::Fixed,
                ),
                DataType::FixedSizeBinary(fixed.size as i32),
            ),
            (Kind::Bytes | Kind::Fixed(_), _) => (
                add(&mut s.texts, Texts::new(nullable), StoreRef::Text),
                DataType::Binary,
            ),
            (Kind::Enum(e), _) => {
                s.ints.push(Values::new(nullable));
                let symbols: ArrayRef = Arc::new(StringArray::from_iter_values(&e.symbols));
                (
                    Node::Symbols(s.ints.len() as u32 - 1, symbols),
                    DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into()),
                )
            }
            (Kind::Array(item), _) => {
                s.lists.push(Lists::new(nullable));
                let at = s.lists.len() as u32 - 1;
                self.path.push("[]".into());
                let (node, column) = self.ty(item, false, true)?;
                self.path.pop();
                let item = kept("element", column);
                (Node::List(at, Box::new(node)), DataType::List(item))
            }
            (Kind::Map(value), _) => {
                s.lists.push(Lists::new(nullable));
                s.texts.push(Texts::new(false));
                let (at, keys) = (s.lists.len() as u32 - 1, s.texts.len() as u32 - 1);
                self.path.push("{}".into());
                let (node, column) = self.ty(value, false, true)?;
                self.path.pop();
                let key = Arc::new(Field::new("key", DataType::Utf8, false));
                let entry = DataType::Struct([key, kept("value", column)].into_iter().collect());
                let entry = Arc::new(Field::new("key_value", entry, false));
                let value = Box::new(node);
                (Node::Map { at, keys, value }, DataType::Map(entry, false))
            }
            (Kind::Record(record), _) => {
                let (fields, columns) = self.fields(record)?;
                let s = &mut self.stores;
                let (own, data_type) = if columns.is_empty() {
                    if !keep && !nullable {
                        return Ok((Node::Struct { own: None, fields }, None));
                    }
                    s.flags.push(Values::new(nullable));
                    let own = StoreRef::Flag(s.flags.len() as u32 - 1);
                    (Some(own), DataType::Boolean)
                } else {
                    (self.group(nullable), DataType::Struct(columns))
                };
                (Node::Struct { own, fields }, data_type)
            }
            (Kind::Union(branches), _) => return self.union(branches, nullable, keep),
        };
        Ok((node, Some((data_type, nullable))))
    }

    fn group(&mut self, nullable: bool) -> Option<StoreRef> {
        nullable.then(|| {
            self.stores.groups.push(Group::new());
            StoreRef::Group(self.stores.groups.len() as u32 - 1)
        })
    }

    fn union(
        &mut self,
        branches: &[Type],
        nullable: bool,
        keep: bool,
    ) -> Result<(Node, Column), ColumnsError> {
        let null = branches.iter().position(|b| b.kind == Kind::Null);
        let nullable = nullable || null.is_some();
        let others: Vec<&Type> = branches.iter().filter(|b| b.kind != Kind::Null).collect();
        if let [] | [_] = others[..] {
            let null_alone = || &branches[0];
            let ty = others.first().copied().unwrap_or_else(null_alone);
            let (node, column) = self.ty(ty, nullable, keep)?;
            let node = Box::new(node);
            return Ok((Node::One { null, node }, column));
        }
        let names = branch_names(branches);
        let mut nodes = vec![];
        let mut fields = vec![];
        for (branch, name) in branches.iter().zip(&names) {
            if branch.kind == Kind::Null {
                nodes.push(None);
                continue;
            }
            self.path.push(name.clone());
            let (node, column) = self.ty(branch, true, true)?;
            self.path.pop();
            nodes.push(Some(node));
            fields.push(kept(name, column));
        }
        let group = match self.group(nullable) {
            Some(StoreRef::Group(at)) => Some(at),
            _ => None,
        };
        let node = Node::Many {
            group,
            branches: nodes,
            names,
        };
        Ok((node, Some((DataType::Struct(fields.into()), nullable))))
    }
}

/// The field of what is kept in any case.
fn kept(name: &str, column: Column) -> Arc<Field> {
    let (data_type, nullable) = column.unwrap_or((DataType::Boolean, true));
    Arc::new(Field::new(name, data_type, nullable))
}

/// One name a branch: the type's own, short where that is enough. Names of columns are the same to
/// Delta if they differ in case only.
fn branch_names(branches: &[Type]) -> Vec<String> {
    let mut taken = HashSet::new();
    branches
        .iter()
        .map(|branch| {
            let full = match &branch.kind {
                Kind::Null => "null",
                Kind::Boolean => "boolean",
                Kind::Int => "int",
                Kind::Long => "long",
                Kind::Float => "float",
                Kind::Double => "double",
                Kind::Bytes => "bytes",
                Kind::String => "string",
                Kind::Array(_) => "array",
                Kind::Map(_) => "map",
                Kind::Union(_) => "union",
                Kind::Fixed(f) => &f.name,
                Kind::Enum(e) => &e.name,
                Kind::Record(r) => &r.name,
            };
            let short = full.rsplit('.').next().unwrap_or(full).to_owned();
            let full = full.replace('.', "_");
            let numbered = (2..).map(|n| format!("{full}_{n}"));
            let name = [short, full.clone()]
                .into_iter()
                .chain(numbered)
                .find(|name| !taken.contains(&name.to_lowercase()))
                .unwrap_or_default();
            taken.insert(name.to_lowercase());
            name
        })
        .collect()
}

impl Node {
    /// Whether there is a column for it.
    pub fn is_void(&self) -> bool {
        match self {
            Node::Void => true,
            Node::Struct { own, fields } => own.is_none() && fields.iter().all(Node::is_void),
            Node::One { node, .. } => node.is_void(),
            _ => false,
        }
    }

    /// The stores that grow by one entry with each value, absent or not.
    pub fn stores(&self, out: &mut Vec<StoreRef>) {
        match self {
            Node::Void => {}
            Node::Leaf(store) => out.push(*store),
            Node::Symbols(at, _) => out.push(StoreRef::Int(*at)),
            Node::Struct { own, fields } => {
                out.extend(own);
                fields.iter().for_each(|field| field.stores(out));
            }
            Node::List(at, _) | Node::Map { at, .. } => out.push(StoreRef::List(*at)),
            Node::One { node, .. } => node.stores(out),
            Node::Many {
                group, branches, ..
            } => {
                out.extend(group.map(StoreRef::Group));
                branches.iter().flatten().for_each(|b| b.stores(out));
            }
        }
    }

    /// Takes everything back that came after the first `len` values.
    pub fn truncate(&self, stores: &mut Stores, len: usize) {
        match self {
            Node::Void => {}
            Node::Leaf(store) => stores.truncate(*store, len),
            Node::Symbols(at, _) => stores.truncate(StoreRef::Int(*at), len),
            Node::Struct { own, fields } => {
                own.iter().for_each(|own| stores.truncate(*own, len));
                fields.iter().for_each(|field| field.truncate(stores, len));
            }
            Node::List(at, item) => {
                stores.truncate(StoreRef::List(*at), len);
                let items = stores.lists[*at as usize].items();
                item.truncate(stores, items);
            }
            Node::Map { at, keys, value } => {
                stores.truncate(StoreRef::List(*at), len);
                let items = stores.lists[*at as usize].items();
                stores.truncate(StoreRef::Text(*keys), items);
                value.truncate(stores, items);
            }
            Node::One { node, .. } => node.truncate(stores, len),
            Node::Many {
                group, branches, ..
            } => {
                group
                    .iter()
                    .for_each(|at| stores.truncate(StoreRef::Group(*at), len));
                let branches = branches.iter().flatten();
                branches.for_each(|branch| branch.truncate(stores, len));
            }
        }
    }

    /// The arrays of a struct's fields, emptied out of the stores.
    pub fn arrays<'a>(
        nodes: impl Iterator<Item = &'a Node>,
        fields: &Fields,
        stores: &mut Stores,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        nodes
            .filter(|node| !node.is_void())
            .zip(fields)
            .map(|(node, field)| node.finish(field.data_type(), stores))
            .collect()
    }

    /// The array of all values, emptied out of the stores.
    fn finish(&self, data_type: &DataType, stores: &mut Stores) -> Result<ArrayRef, ArrowError> {
        Ok(match (self, data_type) {
            (Node::Leaf(store), _) => finish(*store, data_type, stores)?,
            (Node::Symbols(at, symbols), _) => {
                let (keys, nulls) = stores.ints[*at as usize].finish();
                let keys = PrimitiveArray::<Int32Type>::try_new(ScalarBuffer::from(keys), nulls)?;
                Arc::new(DictionaryArray::try_new(keys, symbols.clone())?)
            }
            (
                Node::Struct {
                    own: Some(own @ StoreRef::Flag(_)),
                    ..
                },
                _,
            ) => finish(*own, data_type, stores)?,
            (Node::Struct { own, fields }, DataType::Struct(columns)) => {
                let arrays = Node::arrays(fields.iter(), columns, stores)?;
                let nulls = match own {
                    Some(StoreRef::Group(at)) => stores.groups[*at as usize].finish(),
                    _ => None,
                };
                Arc::new(StructArray::try_new(columns.clone(), arrays, nulls)?)
            }
            (Node::List(at, item), DataType::List(field)) => {
                let (offsets, nulls) = stores.lists[*at as usize].finish();
                let items = item.finish(field.data_type(), stores)?;
                Arc::new(ListArray::try_new(field.clone(), offsets, items, nulls)?)
            }
            (Node::Map { at, keys, value }, DataType::Map(entry, _)) => {
                let (offsets, nulls) = stores.lists[*at as usize].finish();
                let DataType::Struct(columns) = entry.data_type() else {
                    return Err(unlike(data_type));
                };
                let keys = finish(StoreRef::Text(*keys), &DataType::Utf8, stores)?;
                let values = value.finish(columns[1].data_type(), stores)?;
                let entries = StructArray::try_new(columns.clone(), vec![keys, values], None)?;
                Arc::new(MapArray::try_new(
                    entry.clone(),
                    offsets,
                    entries,
                    nulls,
                    false,
                )?)
            }
            (Node::One { node, .. }, _) => node.finish(data_type, stores)?,
            (
                Node::Many {
                    group, branches, ..
                },
                DataType::Struct(columns),
            ) => {
                let arrays = Node::arrays(branches.iter().flatten(), columns, stores)?;
                let nulls = group.and_then(|at| stores.groups[at as usize].finish());
                Arc::new(StructArray::try_new(columns.clone(), arrays, nulls)?)
            }
            _ => return Err(unlike(data_type)),
        })
    }
}

fn unlike(data_type: &DataType) -> ArrowError {
    ArrowError::SchemaError(format!("no store makes a {data_type}"))
}

fn finish(
    store: StoreRef,
    data_type: &DataType,
    stores: &mut Stores,
) -> Result<ArrayRef, ArrowError> {
    Ok(match (store, data_type) {
        (StoreRef::Flag(at), DataType::Boolean) => {
            let (values, nulls) = stores.flags[at as usize].finish();
            Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls))
        }
        (StoreRef::Int(at), _) => {
            let (values, nulls) = stores.ints[at as usize].finish();
            let values = ScalarBuffer::from(values);
            match data_type {
                DataType::Int32 => Arc::new(PrimitiveArray::<Int32Type>::try_new(values, nulls)?),
                DataType::Date32 => Arc::new(PrimitiveArray::<Date32Type>::try_new(values, nulls)?),
                _ => return Err(unlike(data_type)),
            }
        }
        (StoreRef::Long(at), _) => {
            let (values, nulls) = stores.longs[at as usize].finish();
            let values = ScalarBuffer::from(values);
            match data_type {
                DataType::Int64 => Arc::new(PrimitiveArray::<Int64Type>::try_new(values, nulls)?),
                DataType::Timestamp(TimeUnit::Microsecond, zone) => Arc::new(
                    PrimitiveArray::<TimestampMicrosecondType>::try_new(values, nulls)?
                        .with_timezone_opt(zone.clone()),
                ),
                _ => return Err(unlike(data_type)),
            }
        }
        (StoreRef::Float(at), DataType::Float32) => {
            let (values, nulls) = stores.floats[at as usize].finish();
            let values = ScalarBuffer::from(values);
            Arc::new(PrimitiveArray::<Float32Type>::try_new(values, nulls)?)
        }
        (StoreRef::Double(at), DataType::Float64) => {
            let (values, nulls) = stores.doubles[at as usize].finish();
            let values = ScalarBuffer::from(values);
            Arc::new(PrimitiveArray::<Float64Type>::try_new(values, nulls)?)
        }
        (StoreRef::Decimal(at), DataType::Decimal128(precision, scale)) => {
            let (values, nulls) = stores.decimals[at as usize].finish();
            let values = ScalarBuffer::from(values);
            Arc::new(
                PrimitiveArray::<Decimal128Type>::try_new(values, nulls)?
                    .with_precision_and_scale(*precision, *scale)?,
            )
        }
        (StoreRef::Text(at), _) => {
            let (offsets, values, nulls) = stores.texts[at as usize].finish();
            match data_type {
                DataType::Utf8 => Arc::new(StringArray::try_new(offsets, values, nulls)?),
                DataType::Binary => Arc::new(BinaryArray::try_new(offsets, values, nulls)?),
                _ => return Err(unlike(data_type)),
            }
        }
        (StoreRef::Fixed(at), DataType::FixedSizeBinary(size)) => {
            let (values, nulls) = stores.fixeds[at as usize].finish();
            Arc::new(FixedSizeBinaryArray::try_new(*size, values, nulls)?)
        }
        _ => return Err(unlike(data_type)),
    })
}
