//! Facts: what a measurement says, by roles, for fragments that ask more of it than whose it is.
//! Texts are borrowed from the measurement's own bytes; nothing is decoded that nobody asks for.
//!
//! A [`Reading`] keeps the compiled walk of each writer's schema that it has met.

use std::borrow::Cow;
use std::sync::Arc;

use hashbrown::HashMap;
use visitflow_schemas::key::EventKey;
use visitflow_schemas::role::Role;
use visitflow_schemas::roles::{Form, Overrides, Roles};
use visitflow_schemas::store::SchemaStore;
use visitflow_schemas::walk::{Found, Walk};

use crate::enrich::Class;
use crate::visit::{Position, words_of_bytes};

/// A measurement, by roles. What it does not say is empty or `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fact<'a> {
    /// When it happened, and the key of its ID.
    pub at: Position,
    /// What happened: `shown`, `clicked`, `added_to_cart`, `ordered`.
    pub effect: &'a str,
    /// The kind of thing it happened to: `page`, `banner`, `product`, `search`, `order`.
    pub entity: &'a str,
    /// Which one.
    pub entity_id: Option<Id<'a>>,
    /// Why it was there.
    pub reason: Option<&'a str>,
    /// The key of the ID of the measurement that led to this one, as [`Position::event`].
    pub cause: Option<[u64; 2]>,
    /// The customer.
    pub customer: Option<Id<'a>>,
    /// The address of a page to which nothing on the site has led; elsewhere it says nothing.
    pub url: Option<&'a str>,
    /// The address that led to such a page.
    pub referrer: Option<&'a str>,
    /// The arm of an experiment.
    pub variant: Option<&'a str>,
    /// In the smallest unit of the currency.
    pub value: Option<i64>,
    /// Two capital letters.
    pub country: Option<&'a str>,
    /// What kind of agent sent it.
    pub agent: Agent,
}

/// An ID in the form that its schema gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Id<'a> {
    /// A string.
    Text(&'a str),
    /// An int or a long.
    Number(i64),
    /// Bytes that are no text.
    Bytes(&'a [u8]),
}

impl<'a> Id<'a> {
    /// As text: numbers in decimal digits, bytes in hexadecimal ones.
    ///
    /// ```
    /// use visitflow_dataflows::fact::Id;
    /// assert_eq!(Id::Number(-17).text(), "-17");
    /// assert_eq!(Id::Bytes(b"\xff\x00").text(), "ff00");
    /// ```
    #[must_use]
    pub fn text(self) -> Cow<'a, str> {
        match self {
            Id::Text(text) => text.into(),
            Id::Number(number) => number.to_string().into(),
            Id::Bytes(bytes) => {
                let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
                digits.collect::<String>().into()
            }
        }
    }
}

#[inline]
fn id<'a>(found: &Found, body: &'a [u8], role: Role) -> Option<Id<'a>> {
    match found.form(role)? {
        Form::Text => found.text(body, role).map(Id::Text),
        Form::Bytes => found.bytes(body, role).map(Id::Bytes),
        Form::Integer => found.long(role).map(Id::Number),
    }
}

/// The kind of an agent, as a fact says it.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
pub enum Agent {
    /// A person's browser.
    Person,
    /// A robot.
    Robot,
    /// Nobody knows.
    #[default]
    Unknown,
}

impl Agent {
    /// The word for it in outputs.
    #[must_use]
    pub fn word(self) -> &'static str {
        Class::NAMES[self as usize]
    }
}

/// Reads facts; one a worker and fragment. Keeps a compiled walk a writer's schema.
pub struct Reading {
    schemas: Arc<dyn SchemaStore>,
    overrides: Overrides,
    walks: HashMap<u64, Option<Box<Walk>>>,
    found: Found,
}

impl Reading {
    /// Of schemas from this store, with what the job file says of their roles.
    pub fn new(schemas: Arc<dyn SchemaStore>, overrides: Overrides) -> Reading {
        Reading {
            schemas,
            overrides,
            walks: HashMap::new(),
            found: Found::default(),
        }
    }

    /// Another one, that reads the same.
    #[must_use]
    pub fn again(&self) -> Reading {
        Reading::new(self.schemas.clone(), self.overrides.clone())
    }

    /// What an accepted measurement says. `None` if its schema is gone from the store, or its bytes
    /// are none of that schema; the intake has taken it, so neither happens to what it took.
    ///
    /// Costs a walk up to the last role: some 100 ns.
    #[inline]
    pub fn fact<'a>(
        &mut self,
        at: Position,
        schema: u64,
        context: &'a [u8],
        body: &'a [u8],
    ) -> Option<Fact<'a>> {
        let Reading {
            schemas,
            overrides,
            walks,
            found,
        } = self;
        let walk = walks
            .entry(schema)
            .or_insert_with(|| compiled(&**schemas, overrides, schema));
        let walk = walk.as_ref()?;
        walk.run(body, found).ok()?;
        let (country, agent) = split_context(context);
        let cause = EventKey::of_role(found, body, Role::Cause);
        let entity = found.text(body, Role::Entity).unwrap_or_default();
        // Nearly all of the rest is their addresses, again and again.
        let address = |role| found.text(body, role);
        let came = cause.is_none() && entity == "page";
        Some(Fact {
            at,
            effect: found.text(body, Role::Effect).unwrap_or_default(),
            entity,
            entity_id: id(found, body, Role::EntityId),
            reason: found.text(body, Role::Reason),
            cause: cause.map(|key| words_of_bytes(&key.0)),
            customer: id(found, body, Role::CustomerId),
            url: came.then(|| address(Role::Url)).flatten(),
            referrer: came.then(|| address(Role::Referrer)).flatten(),
            variant: found.text(body, Role::Variant),
            value: found.long(Role::Value),
            country,
            agent,
        })
    }
}

/// The walk to a writer's roles, if its schema is there and has any.
fn compiled(schemas: &dyn SchemaStore, overrides: &Overrides, schema: u64) -> Option<Box<Walk>> {
    let writer = schemas.get(schema).ok()??;
    let roles = Roles::find(&writer, overrides).ok()?;
    Walk::up_to(&writer, &roles, ASKED).ok().map(Box::new)
}

/// The roles that a fact has.
const ASKED: &[Role] = &[
    Role::Cause,
    Role::Entity,
    Role::EntityId,
    Role::Effect,
    Role::Reason,
    Role::CustomerId,
    Role::Url,
    Role::Referrer,
    Role::Variant,
    Role::Value,
];

/// Country and agent of what enrichment has written; see [`visitflow_schemas::tag::Context`].
#[inline]
fn split_context(context: &[u8]) -> (Option<&str>, Agent) {
    let (country, rest) = match context {
        // A union's second branch, and the two letters' length.
        [2, 4, rest @ ..] if rest.len() >= 2 => (std::str::from_utf8(&rest[..2]).ok(), &rest[2..]),
        [_, rest @ ..] => (None, rest),
        [] => (None, context),
    };
    let agent = match rest.first() {
        Some(0) => Agent::Person,
        Some(2) => Agent::Robot,
        _ => Agent::Unknown,
    };
    (country, agent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::{Agents, BUILT_IN_ROBOTS, Enrichment};

    #[test]
    fn the_context_is_what_enrichment_has_written() {
        let agents = Agents::new(Some(BUILT_IN_ROBOTS), None).unwrap();
        let mut enrichment = Enrichment::new(None, agents);
        let mut context = Vec::new();
        enrichment.context(None, Some("curl/8.5.0"), &mut context);
        assert_eq!(split_context(&context), (None, Agent::Robot));
        assert_eq!(
            split_context(b"\x02\x04NL\x00\x00"),
            (Some("NL"), Agent::Person)
        );
        assert_eq!(split_context(b""), (None, Agent::Unknown));
        assert_eq!(
            [Agent::Person, Agent::Robot, Agent::Unknown].map(Agent::word),
            Class::NAMES
        );
    }
}
