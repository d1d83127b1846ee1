//! What becomes of each part of a schema: the fields' privacy, put together with their types and
//! roles. Bodies, columns and the anonymized schema are all made by the same plan.

use std::fmt::Write as _;

use crate::pseudonym::Kind as IdKind;
use crate::role::{Privacy, Role};
use crate::roles::{Overrides, nullable};
use crate::schema::{Field, Kind, Logical, Record, Type};

use super::address::Address;
use super::{Problem, Wrong};

/// What becomes of a value of a type. `Union` and `Record` have a plan for each branch and field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Plan {
    /// Copied, whatever lies in it.
    Keep,
    /// Left out.
    Drop,
    /// Replaced by a pseudonym.
    Pseudonym(IdKind),
    /// Rounded down to the hour, of which a value has so many units.
    Hour(i64),
    /// An address without what may name a person.
    Address(Address),
    Union(Vec<Plan>),
    Array(Box<Plan>),
    /// `keys`: the kind of their pseudonyms, if they get any.
    Map {
        keys: Option<IdKind>,
        value: Box<Plan>,
    },
    Record(Vec<Plan>),
}

impl Plan {
    /// The same for plans that make the same type of the same type.
    pub fn signature(&self, out: &mut String) {
        let several = |open: char, plans: &[Plan], out: &mut String| {
            out.push(open);
            plans.iter().for_each(|plan| plan.signature(out));
            out.push('.');
        };
        match self {
            Plan::Keep => out.push('k'),
            Plan::Drop => out.push('d'),
            Plan::Pseudonym(_) => out.push('p'),
            // Whatever the unit, it is that of the type.
            Plan::Hour(_) => out.push('h'),
            Plan::Address(address) => {
                let _ = write!(out, "{address:?}");
            }
            Plan::Union(plans) => several('U', plans, out),
            Plan::Array(item) => several('A', std::slice::from_ref(item), out),
            Plan::Map { keys, value } => {
                let open = if keys.is_some() { 'N' } else { 'M' };
                several(open, std::slice::from_ref(value), out);
            }
            Plan::Record(plans) => several('R', plans, out),
        }
    }
}

/// Whether the pseudonym of a value of this type is a fixed of 16 bytes, or else a string.
pub(super) fn stays_fixed(ty: &Type) -> bool {
    matches!(&ty.kind, Kind::Fixed(fixed) if fixed.size == 16)
}

/// Makes plans, and gathers what is wrong on the way.
pub(super) struct Planner<'a> {
    pub overrides: &'a Overrides,
    pub problems: Vec<Problem>,
}

/// What holds for the value of a field, however deep in arrays, maps and unions it lies.
#[derive(Clone)]
struct Context {
    path: String,
    /// What is said of it, or of the nearest field around it.
    privacy: Option<Privacy>,
    id: Option<IdKind>,
    address: Option<Address>,
    event_time: bool,
}

impl Planner<'_> {
    /// The plan of each field of the outermost record. `ids` says what its fields hold that have
    /// no role.
    pub fn root(&mut self, record: &Record, ids: &[(usize, IdKind)]) -> Vec<Plan> {
        let fields = record.fields.iter().enumerate();
        let plans = fields.map(|(index, field)| {
            let id = ids.iter().find(|(of, _)| *of == index);
            self.field(field, "", None, id.map(|(_, id)| id.clone()))
        });
        plans.collect()
    }

    fn field(
        &mut self,
        field: &Field,
        above: &str,
        inherited: Option<Privacy>,
        id: Option<IdKind>,
    ) -> Plan {
        let dot = if above.is_empty() { "" } else { "." };
        let path = format!("{above}{dot}{}", field.name);
        let said = self.overrides.privacy.get(&path).copied();
        let privacy = said.or(field.privacy).or(inherited);
        let role = self.role(field, &path);
        if let Some(role) = role.filter(|role| exposes(*role, privacy)) {
            self.wrong(&path, Wrong::Exposed(role));
        }
        let word = word(role, &field.name, &field.ty);
        if privacy == Some(Privacy::Generalize)
            && let Some(Word::Gone) = word
        {
            return Plan::Drop;
        }
        let context = Context {
            privacy,
            id: id.or_else(|| id_of(role)),
            address: match word {
                Some(Word::Address(address)) => Some(address),
                _ => None,
            },
            event_time: role == Some(Role::EventTime),
            path,
        };
        self.ty(&field.ty, &context)
    }

    /// The role of a field: what the job file says goes before the schema, of the field as of the
    /// role.
    fn role(&self, field: &Field, path: &str) -> Option<Role> {
        let roles = &self.overrides.roles;
        let own = field.role;
        let own = own.filter(|role| !roles.values().any(|said| said == role));
        roles.get(path).copied().or(own)
    }

    fn wrong(&mut self, path: &str, wrong: Wrong) {
        let problem = Problem {
            path: path.to_owned(),
            wrong,
        };
        // A map without privacy is told of once, not again for what lies in it.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn missing(&mut self, context: &Context) -> Plan {
        self.wrong(field_of(&context.path), Wrong::Missing);
        Plan::Drop
    }

    fn ty(&mut self, ty: &Type, context: &Context) -> Plan {
        match &ty.kind {
            Kind::Record(record) if !record.fields.is_empty() => {
                let fields = record.fields.iter();
                let plan = |field| self.field(field, &context.path, context.privacy, None);
                let plans: Vec<Plan> = fields.map(plan).collect();
                whole(&plans).unwrap_or(Plan::Record(plans))
            }
            Kind::Array(item) => {
                let mut inner = context.clone();
                inner.path.push_str("[]");
                match self.ty(item, &inner) {
                    whole @ (Plan::Keep | Plan::Drop) => whole,
                    item => Plan::Array(Box::new(item)),
                }
            }
            Kind::Map(value) => self.map(value, context),
            Kind::Union(branches) => self.union(branches, context),
            _ => self.leaf(ty, context),
        }
    }

    /// The keys of a map are data, too: nothing but the map's own privacy, or that of what it lies
    /// in, says what becomes of them.
    fn map(&mut self, value: &Type, context: &Context) -> Plan {
        let mut inner = context.clone();
        inner.path.push_str("{}");
        let value = self.ty(value, &inner);
        let keys = match context.privacy {
            None => return self.missing(context),
            Some(Privacy::Drop) => return Plan::Drop,
            Some(Privacy::Generalize) => {
                self.wrong(&context.path, Wrong::Keys);
                return Plan::Drop;
            }
            Some(Privacy::Keep) => None,
            Some(Privacy::Pseudonymize) => Some(kind_of(context)),
        };
        match value {
            Plan::Drop => Plan::Drop,
            Plan::Keep if keys.is_none() => Plan::Keep,
            value => Plan::Map {
                keys,
                value: Box::new(value),
            },
        }
    }

    fn union(&mut self, branches: &[Type], context: &Context) -> Plan {
        let plan = |branch: &Type| match branch.kind {
            Kind::Null => Plan::Keep,
            _ => self.ty(branch, context),
        };
        let plans: Vec<Plan> = branches.iter().map(plan).collect();
        let others = branches.iter().zip(&plans);
        let mut others = others.filter(|(branch, _)| branch.kind != Kind::Null);
        if branches.iter().all(|branch| branch.kind == Kind::Null) {
            // Nothing is in it that could be kept.
            return match context.privacy {
                None => self.missing(context),
                Some(Privacy::Drop) => Plan::Drop,
                Some(_) => Plan::Keep,
            };
        }
        if others.clone().all(|(_, plan)| *plan == Plan::Drop) {
            return Plan::Drop;
        }
        if others.clone().all(|(_, plan)| *plan == Plan::Keep) {
            return Plan::Keep;
        }
        let told = self.problems.len();
        if others.clone().any(|(_, plan)| *plan == Plan::Drop) {
            // Where a problem below is the cause of it, that one says more.
            if !self
                .problems
                .iter()
                .any(|p| p.path.starts_with(&context.path))
            {
                self.wrong(&context.path, Wrong::Branch);
            }
        } else {
            let string = |(branch, plan): &(&Type, &Plan)| match plan {
                Plan::Pseudonym(_) => !stays_fixed(branch),
                _ => branch.kind == Kind::String,
            };
            if others.by_ref().filter(string).count() > 1 {
                self.wrong(&context.path, Wrong::SameBranches);
            }
        }
        if self.problems.len() > told {
            return Plan::Drop;
        }
        Plan::Union(plans)
    }

    fn leaf(&mut self, ty: &Type, context: &Context) -> Plan {
        match context.privacy {
            None => self.missing(context),
            Some(Privacy::Keep) => Plan::Keep,
            Some(Privacy::Drop) => Plan::Drop,
            // A null, or a record without fields, says nothing that could be said otherwise.
            Some(_) if matches!(ty.kind, Kind::Null | Kind::Record(_)) => Plan::Keep,
            Some(Privacy::Pseudonymize) => {
                let plain = matches!(ty.logical, None | Some(Logical::Uuid));
                let suits = match &ty.kind {
                    Kind::String | Kind::Bytes | Kind::Int | Kind::Long => plain,
                    Kind::Fixed(fixed) => plain && fixed.size > 0,
                    _ => false,
                };
                // IDs of visits are made by us and have 16 bytes.
                let suits = suits && (context.id != Some(IdKind::Visit) || stays_fixed(ty));
                if suits {
                    return Plan::Pseudonym(kind_of(context));
                }
                self.wrong(&context.path, Wrong::Pseudonymize(ty.to_string()));
                Plan::Drop
            }
            Some(Privacy::Generalize) => {
                let hour = match (ty.logical, &ty.kind) {
                    (Some(logical), _) => hour(logical),
                    (None, Kind::Long) if context.event_time => Some(3_600_000),
                    _ => None,
                };
                match (hour, context.address) {
                    (Some(units), _) => return Plan::Hour(units),
                    (None, Some(address)) if ty.kind == Kind::String && ty.logical.is_none() => {
                        return Plan::Address(address);
                    }
                    _ => {}
                }
                self.wrong(&context.path, Wrong::Generalize(ty.to_string()));
                Plan::Drop
            }
        }
    }
}

fn kind_of(context: &Context) -> IdKind {
    let field = || IdKind::Field(field_of(&context.path).into());
    context.id.clone().unwrap_or_else(field)
}

/// The path of the field that an item or a map's value lies in.
fn field_of(path: &str) -> &str {
    path.trim_end_matches(['[', ']', '{', '}'])
}

/// All kept or all left out.
fn whole(plans: &[Plan]) -> Option<Plan> {
    let all = |plan: Plan| plans.iter().all(|p| *p == plan).then_some(plan);
    all(Plan::Keep).or_else(|| all(Plan::Drop))
}

/// Whether this privacy would let out who it was.
fn exposes(role: Role, privacy: Option<Privacy>) -> bool {
    match role {
        Role::BrowserId | Role::EventId | Role::Cause | Role::CustomerId => {
            matches!(privacy, Some(Privacy::Keep | Privacy::Generalize))
        }
        Role::EventTime | Role::Ip | Role::UserAgent => privacy == Some(Privacy::Keep),
        _ => false,
    }
}

fn id_of(role: Option<Role>) -> Option<IdKind> {
    match role? {
        Role::BrowserId => Some(IdKind::Browser),
        Role::CustomerId => Some(IdKind::Customer),
        Role::EventId | Role::Cause => Some(IdKind::Event),
        _ => None,
    }
}

/// The units of an hour.
fn hour(logical: Logical) -> Option<i64> {
    const SECONDS: i64 = 3_600;
    match logical {
        Logical::TimeMillis | Logical::TimestampMillis | Logical::LocalTimestampMillis => {
            Some(SECONDS * 1_000)
        }
        Logical::TimeMicros | Logical::TimestampMicros | Logical::LocalTimestampMicros => {
            Some(SECONDS * 1_000_000)
        }
        Logical::TimestampNanos | Logical::LocalTimestampNanos => Some(SECONDS * 1_000_000_000),
        Logical::Date | Logical::Decimal { .. } | Logical::Uuid | Logical::Duration => None,
    }
}

/// What a field of text is called, for those without a role: there is one role of an address, and
/// may be several addresses.
enum Word {
    /// What a measurement is enriched by, and nothing is left of.
    Gone,
    Address(Address),
}

fn word(role: Option<Role>, name: &str, ty: &Type) -> Option<Word> {
    match role {
        Some(Role::Ip | Role::UserAgent) => return Some(Word::Gone),
        Some(Role::Url) => return Some(Word::Address(Address::Own)),
        Some(Role::Referrer) => return Some(Word::Address(Address::Foreign)),
        Some(Role::EntityId) => return Some(Word::Address(Address::Name)),
        Some(_) => return None,
        None => {}
    }
    if nullable(ty).kind != Kind::String && !matches!(ty.kind, Kind::Array(_)) {
        return None;
    }
    let name = name.to_lowercase();
    let is = |words: &[&str]| {
        let end = |word: &&str| {
            name.strip_suffix(*word)
                .is_some_and(|rest| rest.ends_with('_'))
        };
        words.contains(&&name[..]) || words.iter().any(end)
    };
    if is(&["ip", "ip_address", "user_agent"]) {
        Some(Word::Gone)
    } else if is(&["referrer", "referer"]) {
        Some(Word::Address(Address::Foreign))
    } else if is(&["url", "uri", "href"]) {
        Some(Word::Address(Address::Own))
    } else {
        None
    }
}
