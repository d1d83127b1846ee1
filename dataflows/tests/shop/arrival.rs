//! A measurement of a shop that arrives, in a schema of these tests' own, and batches of them.

use visitflow_dataflows::batch::{Batch, BatchBuilder, Head};
use visitflow_dataflows::fact::{Agent, Fact, Id};
use visitflow_dataflows::visit::{Position, Rules, Tick, browser_key, words_of_bytes};
use visitflow_schemas::encode::{bytes, long, optional};
use visitflow_schemas::key::EventKey;
use visitflow_schemas::schema::Schema;
use visitflow_schemas::shard::Shard;

pub const RULES: Rules = Rules {
    inactivity: 3_000,
    max_length: 9_000,
    max_size: 8,
    max_delay: 4_000,
    max_lag: 1_000,
};

/// The first tick: shortly before an hour begins, so that hours and minutes change.
pub const BEGIN: Tick = 3_580_000;

const SCHEMA: &str = r#"{"type": "record", "name": "Seen", "fields": [
    {"name": "who", "type": "string", "role": "browser_id", "privacy": "drop"},
    {"name": "n", "type": "long", "role": "event_id", "privacy": "drop"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}, "role": "event_time", "privacy": "drop"},
    {"name": "what", "type": "string", "role": "effect", "privacy": "drop"},
    {"name": "kind", "type": "string", "role": "entity", "privacy": "drop"},
    {"name": "which", "type": ["null", "string"], "role": "entity_id", "privacy": "drop"},
    {"name": "why", "type": ["null", "string"], "role": "reason", "privacy": "drop"},
    {"name": "after", "type": ["null", "long"], "role": "cause", "privacy": "drop"},
    {"name": "customer", "type": ["null", "string"], "role": "customer_id", "privacy": "drop"},
    {"name": "cents", "type": ["null", "long"], "role": "value", "privacy": "drop"},
    {"name": "arm", "type": ["null", "string"], "role": "variant", "privacy": "drop"}
]}"#;

pub fn schema() -> Schema {
    Schema::parse(SCHEMA).expect("the test's schema")
}

/// A measurement that arrives at a tick.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub tick: Tick,
    pub browser: u8,
    pub time: i64,
    pub n: i64,
    pub effect: &'static str,
    pub entity: &'static str,
    pub entity_id: Option<&'static str>,
    pub reason: Option<&'static str>,
    pub cause: Option<i64>,
    pub customer: Option<&'static str>,
    pub value: Option<i64>,
    pub variant: Option<&'static str>,
}

fn key_of(n: i64) -> [u64; 2] {
    words_of_bytes(&EventKey::of_long(n).0)
}

impl Arrival {
    pub fn browser_id(&self) -> String {
        format!("browser-{}", self.browser)
    }

    pub fn at(&self) -> Position {
        Position {
            time: self.time,
            event: key_of(self.n),
        }
    }

    pub fn shard(&self) -> u8 {
        Shard::of(self.browser_id().as_bytes()).0
    }

    /// As the user agent says, the same whenever it is sent.
    pub fn agent(&self) -> Agent {
        match (self.browser, self.n % 11) {
            (3, _) => Agent::Robot,
            (_, 0) => Agent::Unknown,
            (_, 1) => Agent::Robot,
            _ => Agent::Person,
        }
    }

    pub fn country(&self) -> Option<&'static str> {
        [Some("NL"), Some("DE"), None][(self.n % 3) as usize]
    }

    pub fn fact(&self) -> Fact<'static> {
        Fact {
            at: self.at(),
            effect: self.effect,
            entity: self.entity,
            entity_id: self.entity_id.map(Id::Text),
            reason: self.reason,
            cause: self.cause.map(key_of),
            customer: self.customer.map(Id::Text),
            variant: self.variant,
            value: self.value,
            country: self.country(),
            agent: self.agent(),
            ..Fact::default()
        }
    }

    pub fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let text = |value: &str, out: &mut Vec<u8>| bytes(value.as_bytes(), out);
        text(&self.browser_id(), &mut body);
        long(self.n, &mut body);
        long(self.time, &mut body);
        text(self.effect, &mut body);
        text(self.entity, &mut body);
        optional(self.entity_id, &mut body, text);
        optional(self.reason, &mut body, text);
        optional(self.cause, &mut body, long);
        optional(self.customer, &mut body, text);
        optional(self.value, &mut body, long);
        optional(self.variant, &mut body, text);
        body
    }

    fn context(&self) -> Vec<u8> {
        let mut context = match self.country() {
            Some(letters) => vec![2, 4, letters.as_bytes()[0], letters.as_bytes()[1]],
            None => vec![0],
        };
        context.push(match self.agent() {
            Agent::Person => 0,
            Agent::Robot => 2,
            Agent::Unknown => 4,
        });
        context
    }
}

/// Arrivals as a source sends them.
pub fn batch<'a>(arrivals: impl IntoIterator<Item = &'a Arrival>, schema: u64) -> Batch {
    let mut builder = BatchBuilder::default();
    for arrival in arrivals {
        let id = arrival.browser_id();
        let head = Head {
            browser: browser_key(id.as_bytes()),
            at: arrival.at(),
            tick: arrival.tick,
            schema,
            shard: arrival.shard(),
            ..Head::default()
        };
        builder.push(head, id.as_bytes(), &arrival.body(), |context| {
            context.extend(arrival.context());
        });
    }
    builder.take()
}
