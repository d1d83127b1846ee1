//! Which field of a schema has which role: found once when a schema is met, from its annotations
//! and from what the job file says by path. For everything that compiles a program for a schema
//! (the walk, the transcoding, the columns).
//!
//! It promises that the roles without which there is no visit are there, that no role is said
//! twice and that every field's type suits its role. What does not hold is told all at once,
//! beside the tree of the schema, since whoever reads the error sees the schema for the first
//! time in months.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Write as _};

use crate::role::{Privacy, Role};
use crate::schema::{Field, Kind, Logical, Record, Schema, Type};

/// What a job file says of fields, by path: `user.device.cookie`. What it says goes before what
/// the schema's annotations say. A path to privacy may lead through arrays (`lines[].price`) and
/// maps (`labels{}.text`); one to a role may not, since a measurement has one value of a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The role of the field at this path.
    pub roles: BTreeMap<String, Role>,
    /// The privacy of the field at this path.
    pub privacy: BTreeMap<String, Privacy>,
}

impl Overrides {
    /// What is said of the fields of `reader`, as it holds for the schema of a writer, which may
    /// be older or newer: a field that the writer calls by one of the reader's aliases has the
    /// writer's path, and what is said of fields that the writer has not is left out.
    pub fn in_writer(&self, reader: &Schema, writer: &Schema) -> Overrides {
        let there = flatten(writer.record());
        let there: HashSet<&str> = there.iter().map(|field| &field.path[..]).collect();
        let mut renamed = BTreeMap::new();
        let prefix = (String::new(), String::new());
        pair_records(reader.record(), writer.record(), &prefix, &mut renamed);
        let path = |path: &String| match there.contains(&path[..]) {
            true => Some(path.clone()),
            false => renamed.get(path).cloned(),
        };
        Overrides {
            roles: self
                .roles
                .iter()
                .filter_map(|(p, role)| Some((path(p)?, *role)))
                .collect(),
            privacy: self
                .privacy
                .iter()
                .filter_map(|(p, privacy)| Some((path(p)?, *privacy)))
                .collect(),
        }
    }
}

/// For each field of the reader that the writer has: its path, and the writer's.
fn pair_records(
    reader: &Record,
    writer: &Record,
    at: &(String, String),
    paths: &mut BTreeMap<String, String>,
) {
    for field in &reader.fields {
        let by_name = writer.fields.iter().find(|w| w.name == field.name);
        let by_alias = || {
            writer
                .fields
                .iter()
                .find(|w| field.aliases.contains(&w.name))
        };
        let Some(written) = by_name.or_else(by_alias) else {
            continue;
        };
        let below = |path: &str, name: &str| match path {
            "" => name.to_owned(),
            _ => format!("{path}.{name}"),
        };
        let at = (below(&at.0, &field.name), below(&at.1, &written.name));
        paths.insert(at.0.clone(), at.1.clone());
        pair_types(&field.ty, &written.ty, &at, paths);
    }
}

fn pair_types(
    reader: &Type,
    writer: &Type,
    at: &(String, String),
    paths: &mut BTreeMap<String, String>,
) {
    let below = |mark: &str| (format!("{}{mark}", at.0), format!("{}{mark}", at.1));
    match (&nullable(reader).kind, &nullable(writer).kind) {
        (Kind::Record(r), Kind::Record(w)) => pair_records(r, w, at, paths),
        (Kind::Array(r), Kind::Array(w)) => pair_types(r, w, &below("[]"), paths),
        (Kind::Map(r), Kind::Map(w)) => pair_types(r, w, &below("{}"), paths),
        _ => {}
    }
}

/// The form of a role's value on the wire, without the union that makes it nullable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// A `string`.
    Text,
    /// `bytes` or a fixed.
    Bytes,
    /// An `int` or a `long`.
    Integer,
}

/// Where the value of a role lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The index of the field in the outermost record, then in that field's record, and so on.
    /// Unions that only make a record nullable are no step.
    pub indexes: Vec<usize>,
    /// The same in words: `user.device.cookie`.
    pub path: String,
    /// The field's type as the schema has it, with the union if it is nullable.
    pub ty: Type,
    /// What its value is on the wire.
    pub form: Form,
}

/// The place of every role in a schema. The required ones ([`Role::REQUIRED`]) are there; in a
/// body they may still be absent, where their field or a record around it is null.
#[derive(Clone, Debug, PartialEq)]
pub struct Roles {
    /// In the order of [`Role::ALL`].
    places: Vec<Option<Place>>,
}

/// One thing that is wrong with the roles of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A required role which no field has.
    Missing {
        /// The role.
        role: Role,
        /// The fields without a role whose types would suit: path and type.
        candidates: Vec<(String, String)>,
    },
    /// A role that several fields have.
    Twice {
        /// The role.
        role: Role,
        /// Their paths.
        paths: Vec<String>,
    },
    /// A type that does not suit its field's role.
    Unsuited {
        /// The role.
        role: Role,
        /// The field.
        path: String,
        /// Its type.
        found: String,
        /// The types that do.
        expected: &'static str,
    },
    /// A role on a field that may have several values in a measurement, or of several types.
    Manifold {
        /// The role.
        role: Role,
        /// The field.
        path: String,
        /// What it lies in: `an array`.
        inside: &'static str,
    },
    /// A path of the job file that leads to no field.
    NoField {
        /// The path.
        path: String,
        /// What the job file says of it: `role browser_id`.
        says: String,
        /// The nearest path there is.
        nearest: Option<String>,
    },
}

/// Everything that is wrong with the roles of a schema, and the schema's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolesError {
    /// What is wrong, at least one.
    pub problems: Vec<Problem>,
    /// The outermost record's name.
    pub schema: String,
    /// The tree, a line a field.
    tree: String,
}

/// How many candidates and how many lines of a tree a message shows.
const CANDIDATES: usize = 8;
const LINES: usize = 400;

impl Roles {
    /// Finds every role of `schema`. Linear in the number of its fields.
    pub fn find(schema: &Schema, overrides: &Overrides) -> Result<Roles, RolesError> {
        let mut fields = flatten(schema.record());
        let mut problems = vec![];
        check_paths(&fields, overrides, &mut problems);

        // What the job file says goes before annotations: of the same field, and of the same role.
        for field in &mut fields {
            if field
                .role
                .is_some_and(|role| overrides.roles.values().any(|r| *r == role))
            {
                field.role = None;
            }
            if let Some(role) = overrides.roles.get(&field.path) {
                field.role = Some(*role);
            }
        }

        let mut places = vec![];
        for role in Role::ALL {
            let holders: Vec<&Flat> = fields.iter().filter(|f| f.role == Some(*role)).collect();
            let place = match holders[..] {
                [] => {
                    if Role::REQUIRED.contains(role) {
                        problems.push(Problem::Missing {
                            role: *role,
                            candidates: candidates(&fields, *role),
                        });
                    }
                    None
                }
                [field] => match field.place(*role) {
                    Ok(place) => Some(place),
                    Err(problem) => {
                        problems.push(problem);
                        None
                    }
                },
                _ => {
                    problems.push(Problem::Twice {
                        role: *role,
                        paths: holders.iter().map(|f| f.path.clone()).collect(),
                    });
                    None
                }
            };
            places.push(place);
        }
        if problems.is_empty() {
            return Ok(Roles { places });
        }
        Err(RolesError {
            problems,
            schema: schema.record().name.clone(),
            tree: tree(&fields),
        })
    }

    /// Where the value of `role` lies, if the schema has it.
    pub fn place(&self, role: Role) -> Option<&Place> {
        self.places[role as usize].as_ref()
    }

    /// The indexes of the fields that lead to `role`.
    pub fn path(&self, role: Role) -> Option<&[usize]> {
        self.place(role).map(|place| &place.indexes[..])
    }

    /// The roles that the schema has, in the order of [`Role::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Role, &Place)> {
        let roles = Role::ALL.iter().copied();
        roles.filter_map(|role| Some((role, self.place(role)?)))
    }
}

/// The type inside a union of null and one other type, or the type itself.
pub fn nullable(ty: &Type) -> &Type {
    if let Kind::Union(branches) = &ty.kind {
        match &branches[..] {
            [a, b] if a.kind == Kind::Null => return b,
            [a, b] if b.kind == Kind::Null => return a,
            _ => {}
        }
    }
    ty
}

/// A field anywhere in the schema.
struct Flat {
    path: String,
    depth: usize,
    indexes: Vec<usize>,
    name: String,
    ty: Type,
    role: Option<Role>,
    privacy: Option<Privacy>,
    /// What it lies in that makes its value more than one.
    inside: Option<&'static str>,
}

impl Flat {
    fn place(&self, role: Role) -> Result<Place, Problem> {
        if let Some(inside) = self.inside {
            return Err(Problem::Manifold {
                role,
                path: self.path.clone(),
                inside,
            });
        }
        match form(role, &self.ty) {
            Some(form) => Ok(Place {
                indexes: self.indexes.clone(),
                path: self.path.clone(),
                ty: self.ty.clone(),
                form,
            }),
            None => Err(Problem::Unsuited {
                role,
                path: self.path.clone(),
                found: self.ty.to_string(),
                expected: expected(role),
            }),
        }
    }
}

fn form(role: Role, ty: &Type) -> Option<Form> {
    let ty = nullable(ty);
    let form = match ty.kind {
        Kind::String => Form::Text,
        Kind::Bytes | Kind::Fixed(_) => Form::Bytes,
        Kind::Int | Kind::Long => Form::Integer,
        _ => return None,
    };
    let utc = matches!(
        ty.logical,
        None | Some(Logical::TimestampMillis | Logical::TimestampMicros | Logical::TimestampNanos)
    );
    let suits = match role {
        Role::BrowserId | Role::EventId | Role::Cause | Role::EntityId | Role::CustomerId => {
            matches!(ty.logical, None | Some(Logical::Uuid))
        }
        Role::EventTime => ty.kind == Kind::Long && utc,
        Role::Value => form == Form::Integer && ty.logical.is_none(),
        Role::Entity
        | Role::Effect
        | Role::Reason
        | Role::Ip
        | Role::UserAgent
        | Role::Url
        | Role::Referrer
        | Role::Variant => form == Form::Text,
    };
    suits.then_some(form)
}

fn expected(role: Role) -> &'static str {
    match role {
        Role::BrowserId | Role::EventId | Role::Cause | Role::EntityId | Role::CustomerId => {
            "string, bytes, fixed, int or long, or a union of null and one of these"
        }
        Role::EventTime => {
            "long (milliseconds) or long with timestamp-millis, timestamp-micros or timestamp-nanos, or a union of null and one of these"
        }
        Role::Value => "int or long, or a union of null and one of these",
        _ => "string, or a union of null and string",
    }
}

fn flatten(record: &Record) -> Vec<Flat> {
    let mut out = vec![];
    let mut at = Flattening {
        out: &mut out,
        indexes: vec![],
    };
    at.record(record, "", 0, None);
    out
}

struct Flattening<'a> {
    out: &'a mut Vec<Flat>,
    indexes: Vec<usize>,
}

impl Flattening<'_> {
    fn record(&mut self, record: &Record, path: &str, depth: usize, inside: Option<&'static str>) {
        for (index, field) in record.fields.iter().enumerate() {
            self.indexes.push(index);
            self.field(field, path, depth, inside);
            self.indexes.pop();
        }
    }

    fn field(&mut self, field: &Field, path: &str, depth: usize, inside: Option<&'static str>) {
        let dot = if path.is_empty() { "" } else { "." };
        let path = format!("{path}{dot}{}", field.name);
        self.out.push(Flat {
            path: path.clone(),
            depth,
            indexes: self.indexes.clone(),
            name: field.name.clone(),
            ty: field.ty.clone(),
            role: field.role,
            privacy: field.privacy,
            inside,
        });
        self.below(&field.ty, &path, depth + 1, inside);
    }

    fn below(&mut self, ty: &Type, path: &str, depth: usize, inside: Option<&'static str>) {
        match &nullable(ty).kind {
            Kind::Record(record) => self.record(record, path, depth, inside),
            Kind::Array(item) => {
                self.below(
                    item,
                    &format!("{path}[]"),
                    depth,
                    inside.or(Some("an array")),
                );
            }
            Kind::Map(value) => {
                self.below(
                    value,
                    &format!("{path}{{}}"),
                    depth,
                    inside.or(Some("a map")),
                );
            }
            Kind::Union(branches) => {
                for branch in branches.iter() {
                    self.below(
                        branch,
                        path,
                        depth,
                        inside.or(Some("a union of several types")),
                    );
                }
            }
            _ => {}
        }
    }
}

fn check_paths(fields: &[Flat], overrides: &Overrides, problems: &mut Vec<Problem>) {
    let roles = overrides.roles.iter();
    let privacy = overrides.privacy.iter();
    let said = roles
        .map(|(path, role)| (path, format!("role {role}")))
        .chain(privacy.map(|(path, privacy)| (path, format!("privacy {privacy}"))));
    for (path, says) in said {
        if fields.iter().any(|f| f.path == *path) {
            continue;
        }
        let nearest = fields
            .iter()
            .map(|f| (strsim::damerau_levenshtein(&f.path, path), &f.path))
            .min()
            .map(|(_, path)| path.clone());
        problems.push(Problem::NoField {
            path: path.clone(),
            says,
            nearest,
        });
    }
}

fn candidates(fields: &[Flat], role: Role) -> Vec<(String, String)> {
    fields
        .iter()
        .filter(|f| f.role.is_none() && f.inside.is_none() && form(role, &f.ty).is_some())
        .map(|f| (f.path.clone(), f.ty.to_string()))
        .collect()
}

/// The tree of a schema's fields, a line a field, with what the job file says of them.
pub(crate) fn tree_of(record: &Record, overrides: &Overrides) -> String {
    let mut fields = flatten(record);
    for field in &mut fields {
        let role = overrides.roles.get(&field.path).copied();
        field.role = role.or(field.role);
        let privacy = overrides.privacy.get(&field.path).copied();
        field.privacy = privacy.or(field.privacy);
    }
    tree(&fields)
}

fn tree(fields: &[Flat]) -> String {
    let shown = &fields[..fields.len().min(LINES)];
    let label = |f: &Flat| format!("{}{}", "  ".repeat(f.depth), f.name);
    let width = |text: &dyn Fn(&Flat) -> String, most: usize| {
        let widths = shown.iter().map(|f| text(f).chars().count());
        widths.filter(|w| *w <= most).max().unwrap_or(0)
    };
    let names = width(&label, 60);
    let types = width(&|f| f.ty.to_string(), 48);
    let mut out = String::new();
    for field in shown {
        let mut line = format!(
            "    {:names$}  {:types$}",
            label(field),
            field.ty.to_string()
        );
        if let Some(role) = field.role {
            let _ = write!(line, "  role {role}");
        }
        if let Some(privacy) = field.privacy {
            let _ = write!(line, "  privacy {privacy}");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    if fields.len() > shown.len() {
        let _ = writeln!(out, "    … and {} more fields", fields.len() - shown.len());
    }
    out
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Missing { role, candidates } => {
                write!(f, "{role}  is said by no field; ")?;
                match candidates.len() {
                    0 => return write!(f, "none could be it, expected {}", expected(*role)),
                    1 => f.write_str("1 field could be it: ")?,
                    n => write!(f, "{n} fields could be it: ")?,
                }
                for (i, (path, ty)) in candidates.iter().take(CANDIDATES).enumerate() {
                    write!(f, "{}{path} ({ty})", if i == 0 { "" } else { ", " })?;
                }
                if candidates.len() > CANDIDATES {
                    write!(f, " and {} more", candidates.len() - CANDIDATES)?;
                }
                Ok(())
            }
            Problem::Twice { role, paths } => write!(
                f,
                "{role}  is said by {} fields, expected one: {}",
                paths.len(),
                paths.join(", ")
            ),
            Problem::Unsuited {
                role,
                path,
                found,
                expected,
            } => write!(
                f,
                "{role}  is said by {path}, which is {found}, expected {expected}"
            ),
            Problem::Manifold { role, path, inside } => write!(
                f,
                "{role}  is said by {path}, which lies in {inside}, expected a field that a measurement has once"
            ),
            Problem::NoField {
                path,
                says,
                nearest,
            } => {
                write!(f, "{says}  is said of {path}, where there is no field")?;
                match nearest {
                    Some(nearest) => write!(f, "; the nearest is {nearest}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl fmt::Display for RolesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the roles of the schema {} are not clear:", self.schema)?;
        for problem in &self.problems {
            writeln!(f, "  {problem}")?;
        }
        writeln!(f, "  the schema {}:", self.schema)?;
        f.write_str(self.tree.trim_end())
    }
}

impl std::error::Error for RolesError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::MEASUREMENT;

    fn schema(fields: &str) -> Schema {
        Schema::parse(&format!(
            r#"{{"type":"record","name":"shop.Event","fields":[{fields}]}}"#
        ))
        .unwrap()
    }

    fn overrides(roles: &[(&str, Role)]) -> Overrides {
        Overrides {
            roles: roles.iter().map(|(p, r)| ((*p).to_owned(), *r)).collect(),
            ..Default::default()
        }
    }

    const NESTED: &str = r#"{"name":"id","type":"string"},
        {"name":"at","type":["null",{"type":"record","name":"When","fields":[
            {"name":"server","type":{"type":"long","logicalType":"timestamp-micros"}}]}]},
        {"name":"user","type":{"type":"record","name":"User","fields":[
            {"name":"cookie","type":"string","role":"customer_id"},{"name":"id","type":"long"}]}},
        {"name":"lines","type":{"type":"array","items":{"type":"record","name":"Line","fields":[
            {"name":"sku","type":"string","privacy":"keep"}]}}}"#;

    #[test]
    fn the_default_measurement_says_all_its_roles() {
        let roles = Roles::find(&MEASUREMENT, &Overrides::default()).unwrap();
        assert_eq!(roles.iter().count(), Role::ALL.len());
        assert_eq!(roles.path(Role::BrowserId), Some(&[1][..]));
        assert_eq!(roles.place(Role::Cause).unwrap().form, Form::Bytes);
    }

    #[test]
    fn a_job_file_says_roles_by_path_also_through_nullable_records() {
        let roles = Roles::find(
            &schema(NESTED),
            &overrides(&[
                ("id", Role::EventId),
                ("at.server", Role::EventTime),
                ("user.cookie", Role::BrowserId),
            ]),
        )
        .unwrap();
        assert_eq!(roles.path(Role::EventTime), Some(&[1, 0][..]));
        assert_eq!(roles.path(Role::BrowserId), Some(&[2, 0][..]));
        // The job file's word for the field replaces the schema's.
        assert_eq!(roles.path(Role::CustomerId), None);
    }

    #[test]
    fn what_a_job_file_says_of_a_role_goes_before_annotations_on_other_fields() {
        let annotated = schema(
            r#"{"name":"a","type":"string","role":"browser_id"},{"name":"b","type":"string"},
               {"name":"e","type":"int","role":"event_id"},{"name":"t","type":"long","role":"event_time"}"#,
        );
        let roles = Roles::find(&annotated, &overrides(&[("b", Role::BrowserId)])).unwrap();
        assert_eq!(roles.path(Role::BrowserId), Some(&[1][..]));
    }

    #[test]
    fn what_is_said_of_the_readers_fields_holds_for_those_that_a_writer_has_by_whatever_name() {
        let reader = schema(
            r#"{"name":"id","type":"string"},{"name":"why","type":["null","string"],"default":null},
               {"name":"visitor","aliases":["user"],"type":{"type":"record","name":"V","fields":[
                   {"name":"cookie","aliases":["cid"],"type":"string"}]}},
               {"name":"lines","aliases":["items"],"type":{"type":"array","items":{"type":"record","name":"L","fields":[
                   {"name":"sku","type":"string"}]}}}"#,
        );
        let older = schema(
            r#"{"name":"id","type":"string"},
               {"name":"user","type":["null",{"type":"record","name":"V","fields":[{"name":"cid","type":"string"}]}]},
               {"name":"items","type":{"type":"array","items":{"type":"record","name":"L","fields":[
                   {"name":"sku","type":"string"}]}}}"#,
        );
        let mut said = overrides(&[
            ("id", Role::EventId),
            ("why", Role::Reason),
            ("visitor.cookie", Role::BrowserId),
        ]);
        said.privacy.insert("lines[].sku".into(), Privacy::Keep);
        said.privacy.insert("why".into(), Privacy::Keep);
        let mut expected = overrides(&[("id", Role::EventId), ("user.cid", Role::BrowserId)]);
        expected.privacy.insert("items[].sku".into(), Privacy::Keep);
        assert_eq!(said.in_writer(&reader, &older), expected);
        assert_eq!(said.in_writer(&reader, &reader), said);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_beside_the_tree() {
        let mut said = overrides(&[("user.cokie", Role::Ip), ("lines[].sku", Role::Entity)]);
        said.privacy.insert("lines[].sky".into(), Privacy::Drop);
        let error = Roles::find(&schema(NESTED), &said).unwrap_err();
        let expected = "\
the roles of the schema shop.Event are not clear:
  role ip  is said of user.cokie, where there is no field; the nearest is user.cookie
  privacy drop  is said of lines[].sky, where there is no field; the nearest is lines[].sku
  browser_id  is said by no field; 2 fields could be it: id (string), user.id (long)
  event_id  is said by no field; 2 fields could be it: id (string), user.id (long)
  event_time  is said by no field; 2 fields could be it: at.server (long (timestamp-micros)), user.id (long)
  entity  is said by lines[].sku, which lies in an array, expected a field that a measurement has once
  the schema shop.Event:
    id        string
    at        union of null and record shop.When
      server  long (timestamp-micros)
    user      record shop.User
      cookie  string                              role customer_id
      id      long
    lines     array of record shop.Line
      sku     string                              role entity  privacy keep";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_role_said_twice_names_both_fields() {
        // One type in two places says its role twice.
        let twice = schema(
            r#"{"name":"buyer","type":{"type":"record","name":"P","fields":[{"name":"id","type":"string","role":"browser_id"}]}},
               {"name":"seller","type":"P"},
               {"name":"e","type":"int","role":"event_id"},{"name":"t","type":"long","role":"event_time"}"#,
        );
        let error = Roles::find(&twice, &Overrides::default()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("browser_id  is said by 2 fields, expected one: buyer.id, seller.id"),
            "{error}"
        );
        assert!(Roles::find(&twice, &overrides(&[("buyer.id", Role::BrowserId)])).is_ok());
    }

    #[test]
    fn a_type_that_does_not_suit_is_told_with_those_that_do() {
        let base = |time: &str| {
            schema(&format!(
                r#"{{"name":"b","type":"bytes","role":"browser_id"}},{{"name":"e","type":["null","long"],"role":"event_id"}},
                   {{"name":"t","type":{time},"role":"event_time"}}"#
            ))
        };
        for good in [
            r#""long""#,
            r#"["long","null"]"#,
            r#"{"type":"long","logicalType":"timestamp-nanos"}"#,
        ] {
            assert!(
                Roles::find(&base(good), &Overrides::default()).is_ok(),
                "{good}"
            );
        }
        for bad in [
            r#""int""#,
            r#""string""#,
            r#"{"type":"long","logicalType":"local-timestamp-millis"}"#,
            r#"{"type":"long","logicalType":"time-micros"}"#,
            r#"["null","long","string"]"#,
        ] {
            let error = Roles::find(&base(bad), &Overrides::default()).unwrap_err();
            assert!(
                matches!(
                    &error.problems[..],
                    [Problem::Unsuited {
                        role: Role::EventTime,
                        ..
                    }]
                ),
                "{bad}: {error}"
            );
        }
    }
}
