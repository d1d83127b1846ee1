//! The schema of anonymized bodies, from the schema of the bodies and the plan.
//!
//! *Names.* The record `shop.Event` becomes `shop.EventAnonymous`. A type inside keeps its name;
//! where it becomes two types, since it is treated in two ways in two places, the second has a
//! number behind its name.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use crate::role::Privacy;
use crate::schema::{Field, Kind, Logical, Record, Schema, SchemaError, Type};

use super::plan::{Plan, stays_fixed};

/// The anonymized schema of `schema`, whose outermost record's fields have these plans.
pub(super) fn derive(schema: &Schema, plans: &[Plan]) -> Result<Schema, SchemaError> {
    let record = schema.record();
    let mut names = Names::default();
    record.fields.iter().for_each(|field| names.take(&field.ty));
    let (space, short) = split(&record.name);
    let short = names.free(space, &format!("{short}Anonymous"));
    let mut json = named(space, &short, "record");
    json.insert(
        "doc".into(),
        format!("Visitflow: {}, anonymized.", record.name).into(),
    );
    json.insert("fields".into(), names.fields(record, plans));
    Schema::from_json(json.into())
}

fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or(("", name))
}

fn named(space: &str, short: &str, ty: &str) -> Map<String, Value> {
    let json = json!({"type": ty, "name": short, "namespace": space});
    match json {
        Value::Object(json) => json,
        _ => Map::new(),
    }
}

#[derive(Default)]
struct Names {
    /// Names in the schema, and those made since.
    taken: HashSet<String>,
    /// By a type's name and what becomes of it: the name that it has got.
    made: HashMap<(String, String), String>,
    /// Names that types have got.
    given: HashSet<String>,
}

impl Names {
    fn take(&mut self, ty: &Type) {
        match &ty.kind {
            Kind::Fixed(fixed) => drop(self.taken.insert(fixed.name.clone())),
            Kind::Enum(e) => drop(self.taken.insert(e.name.clone())),
            Kind::Array(inner) | Kind::Map(inner) => self.take(inner),
            Kind::Union(branches) => branches.iter().for_each(|branch| self.take(branch)),
            // A record met before has its names in already.
            Kind::Record(record) if self.taken.insert(record.name.clone()) => {
                record.fields.iter().for_each(|field| self.take(&field.ty));
            }
            _ => {}
        }
    }

    /// The short name, with the least number behind it that makes the full name a new one.
    fn free(&mut self, space: &str, short: &str) -> String {
        let full = |short: &str| match space {
            "" => short.to_owned(),
            space => format!("{space}.{short}"),
        };
        let numbered = (2_u32..).map(|n| format!("{short}{n}"));
        let mut names = std::iter::once(short.to_owned()).chain(numbered);
        let free = names.find(|name| self.taken.insert(full(name)));
        free.unwrap_or_else(|| short.to_owned())
    }

    fn fields(&mut self, record: &Record, plans: &[Plan]) -> Value {
        let fields = record.fields.iter().zip(plans);
        let kept = fields.filter(|(_, plan)| **plan != Plan::Drop);
        kept.map(|(field, plan)| self.field(field, plan)).collect()
    }

    fn field(&mut self, field: &Field, plan: &Plan) -> Value {
        let mut json = Map::new();
        json.insert("name".into(), field.name.as_str().into());
        json.insert("type".into(), self.ty(&field.ty, plan));
        // Another default would be a value of the old type; a null is a null in both.
        let default = field.default.as_ref();
        if let Some(default) = default.filter(|d| *plan == Plan::Keep || d.is_null()) {
            json.insert("default".into(), default.clone());
        }
        if let Some(role) = field.role {
            json.insert("role".into(), role.word().into());
        }
        let said = treatment(&field.ty, plan);
        if let Some((privacy, _)) = said {
            json.insert("privacy".into(), privacy.word().into());
        }
        if let Some(doc) = &field.doc {
            let before = said.map_or("", |(_, before)| before);
            json.insert("doc".into(), format!("{before}{doc}").into());
        }
        json.into()
    }

    fn ty(&mut self, ty: &Type, plan: &Plan) -> Value {
        match (&ty.kind, plan) {
            (_, Plan::Pseudonym(_)) if !stays_fixed(ty) => "string".into(),
            (Kind::Fixed(fixed), plan) => {
                // A pseudonym is no UUID, though it be as long.
                let logical = ty.logical.filter(|_| *plan == Plan::Keep);
                let how = logical.map_or("", Logical::name).to_owned();
                self.once(&fixed.name, how, |_, json| {
                    json.insert("size".into(), fixed.size.into());
                    stand_for(logical, json);
                })
            }
            (Kind::Enum(e), _) => self.once(&e.name, String::new(), |_, json| {
                json.insert("symbols".into(), json!(e.symbols));
                if let Some(default) = &e.default {
                    json.insert("default".into(), default.as_str().into());
                }
            }),
            (Kind::Record(record), plan) => {
                let mut how = String::new();
                plan.signature(&mut how);
                let keep = vec![Plan::Keep; record.fields.len()];
                let plans = match plan {
                    Plan::Record(plans) => plans,
                    _ => &keep,
                };
                self.once(&record.name, how, |names, json| {
                    if let Some(doc) = &record.doc {
                        json.insert("doc".into(), doc.as_str().into());
                    }
                    json.insert("fields".into(), names.fields(record, plans));
                })
            }
            (Kind::Array(item), plan) => {
                let plan = match plan {
                    Plan::Array(plan) => plan,
                    other => other,
                };
                json!({"type": "array", "items": self.ty(item, plan)})
            }
            (Kind::Map(value), plan) => {
                let plan = match plan {
                    Plan::Map { value, .. } => value,
                    other => other,
                };
                json!({"type": "map", "values": self.ty(value, plan)})
            }
            (Kind::Union(branches), plan) => {
                let branches = branches.iter().enumerate();
                let branches = branches.map(|(index, branch)| match plan {
                    Plan::Union(plans) => self.ty(branch, &plans[index]),
                    other => self.ty(branch, other),
                });
                branches.collect()
            }
            (kind, _) => {
                let word = match kind {
                    Kind::Null => "null",
                    Kind::Boolean => "boolean",
                    Kind::Int => "int",
                    Kind::Long => "long",
                    Kind::Float => "float",
                    Kind::Double => "double",
                    Kind::Bytes => "bytes",
                    _ => "string",
                };
                let mut json = Map::new();
                stand_for(ty.logical, &mut json);
                if json.is_empty() {
                    return word.into();
                }
                json.insert("type".into(), word.into());
                json.into()
            }
        }
    }

    /// The definition of a named type, or its name if it was defined before.
    fn once(
        &mut self,
        name: &str,
        how: String,
        define: impl FnOnce(&mut Names, &mut Map<String, Value>),
    ) -> Value {
        let key = (name.to_owned(), how);
        if let Some(known) = self.made.get(&key) {
            return known.as_str().into();
        }
        let (space, short) = split(name);
        let short = if self.given.insert(name.to_owned()) {
            short.to_owned()
        } else {
            self.free(space, short)
        };
        let mut json = named(space, &short, "");
        let full = if space.is_empty() {
            short
        } else {
            format!("{space}.{short}")
        };
        self.given.insert(full.clone());
        self.made.insert(key, full);
        define(self, &mut json);
        let ty = match () {
            () if json.contains_key("size") => "fixed",
            () if json.contains_key("symbols") => "enum",
            () => "record",
        };
        json.insert("type".into(), ty.into());
        json.into()
    }
}

fn stand_for(logical: Option<Logical>, json: &mut Map<String, Value>) {
    let Some(logical) = logical else { return };
    json.insert("logicalType".into(), logical.name().into());
    if let Logical::Decimal { precision, scale } = logical {
        json.insert("precision".into(), precision.into());
        json.insert("scale".into(), scale.into());
    }
}

/// What was done to a field, if one word says it, and how its doc begins then.
fn treatment(ty: &Type, plan: &Plan) -> Option<(Privacy, &'static str)> {
    match (&ty.kind, plan) {
        (_, Plan::Keep) => Some((Privacy::Keep, "")),
        (_, Plan::Pseudonym(_)) => Some((Privacy::Pseudonymize, "A pseudonym. ")),
        (_, Plan::Hour(_)) => Some((Privacy::Generalize, "The hour alone. ")),
        (_, Plan::Address(_)) => Some((Privacy::Generalize, "Without query and fragment. ")),
        (Kind::Array(item), Plan::Array(plan)) => treatment(item, plan),
        (Kind::Union(branches), Plan::Union(plans)) => {
            let both = branches.iter().zip(plans);
            let mut others = both.filter(|(branch, _)| branch.kind != Kind::Null);
            match (others.next(), others.next()) {
                (Some((branch, plan)), None) => treatment(branch, plan),
                _ => None,
            }
        }
        _ => None,
    }
}
