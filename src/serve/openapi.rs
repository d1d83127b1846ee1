//! The description of everything that can be asked, as OpenAPI 3.1: made from the table of
//! [routes](super::routes) and the shapes in `schemas.json`.

use serde_json::{Map, Value, json};

use super::access::Need;
use super::call::{Call, Said, json};
use super::routes::{Answers, ROUTES, Route};

static SCHEMAS: &str = include_str!("schemas.json");

/// The description.
pub async fn read(_: Call) -> Said {
    json(&document())
}

/// The same, as a value.
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_lowercase()] = operation(route);
    }
    let schemas: Value = serde_json::from_str(SCHEMAS).expect("a test reads it");
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Visitflow",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What a running job can be asked. Times and ticks are milliseconds since 1970, UTC; money \
                            is in the smallest unit of the currency.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "parameter": {"type": "apiKey", "in": "query", "name": "token"},
            },
            "responses": {"Problem": {
                "description": "What is wrong.",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }},
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "summary": route.summary,
        "operationId": name(route),
        "parameters": parameters(route),
        "responses": responses(route),
    });
    if matches!(route.method, "POST" | "PUT") {
        let schema = json!({"$ref": "#/components/schemas/Wanted"});
        operation["requestBody"] = json!({"content": {"application/json": {"schema": schema}}});
    }
    let scopes = route.need.scopes();
    operation["security"] = match route.need {
        Need::Nothing => json!([]),
        _ => json!([{"token": scopes}, {"parameter": scopes}]),
    };
    operation
}

/// `GET /views/{name}/changes` is `getViewsNameChanges`.
fn name(route: &Route) -> String {
    let mut name = route.method.to_lowercase();
    for word in route.path.split(|c: char| !c.is_ascii_alphanumeric()) {
        let mut letters = word.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.extend(letters);
    }
    name
}

fn parameters(route: &Route) -> Vec<Value> {
    let parts = route.path.split('/');
    let parts = parts.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parts = parts.map(
        |name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}),
    );
    let own: &[&str] = match route.path {
        "/views/{name}" => &["tick", "limit"],
        _ => &[],
    };
    let query = route.query.unwrap_or(own).iter().map(|name| {
        let kind = match *name {
            "tick" | "limit" => "integer",
            _ => "string",
        };
        json!({"name": name, "in": "query", "schema": {"type": kind}})
    });
    let last = matches!(route.answers, Answers::Events(_));
    let last = last
        .then(|| json!({"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}));
    parts.chain(query).chain(last).collect()
}

fn responses(route: &Route) -> Value {
    let schema = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let of = |kind: &str, schema: Value| json!({kind: {"schema": schema}});
    let text = || json!({"type": "string"});
    let (status, said, content) = match route.answers {
        Answers::Json(name) => ("200", "The answer.", of("application/json", schema(name))),
        Answers::Created(name) => ("201", "It is there.", of("application/json", schema(name))),
        Answers::Events(which) => ("200", which, of("text/event-stream", text())),
        Answers::Lines(name) => (
            "200",
            "A line {\"tick\": T}, and then one for each.",
            of("application/x-ndjson", schema(name)),
        ),
        Answers::Bytes(kind) => ("200", "The answer.", of(kind, text())),
        Answers::Nothing => ("204", "It is done.", json!({})),
    };
    let mut success = json!({"description": said});
    if route.answers != Answers::Nothing {
        success["content"] = content;
    }
    json!({status: success, "default": {"$ref": "#/components/responses/Problem"}})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use visitflow_dataflows::attribution::{Credit, Loser};

    use super::*;
    use crate::serve::orders::{Link, Order};
    use crate::serve::progress::Progress;
    use crate::serve::question::{LiveVisit, OpenVisit, VisitFact};

    fn refs(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(to)) = fields.get("$ref") {
                    found.insert(to.clone());
                }
                fields.values().for_each(|value| refs(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| refs(value, found)),
            _ => {}
        }
    }

    #[test]
    fn everything_that_is_named_is_described_and_named_once() {
        let document = document();
        let mut found = BTreeSet::new();
        refs(&document, &mut found);
        for to in &found {
            assert!(document.pointer(&to[1..]).is_some(), "{to}");
        }
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for name in schemas.keys() {
            let to = format!("#/components/schemas/{name}");
            assert!(found.contains(&to), "nothing has the shape {name}");
        }
        let names: BTreeSet<_> = ROUTES.iter().map(name).collect();
        assert_eq!(names.len(), ROUTES.len());
    }

    /// What is answered has the fields that are described, no more and no fewer.
    #[test]
    fn shapes_have_the_fields_of_what_is_answered() {
        let document = document();
        let fields = |value: &Value| -> BTreeSet<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        for (name, value) in [
            ("Order", json!(Order::default())),
            ("Link", json!(Link::default())),
            ("Loser", json!(Loser::default())),
            ("Credit", json!(Credit::default())),
            ("OpenVisit", json!(OpenVisit::default())),
            ("VisitFact", json!(VisitFact::default())),
            ("LiveVisit", json!(LiveVisit::default())),
            ("Progress", json!(Progress::default())),
        ] {
            let shape = &document["components"]["schemas"][name]["properties"];
            assert_eq!(fields(shape), fields(&value), "{name}");
        }
    }
}
