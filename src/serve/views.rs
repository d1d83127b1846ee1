//! `/views`: what views there are, and each as of one tick, or as it changes.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use visitflow_dataflows::views::{Row, View};

use super::board::{Subscription, Update};
use super::call::{Call, Said, json};
use super::problem::Problem;
use super::sse::{self, event};

fn key(view: &View) -> Vec<&'static str> {
    view.key.iter().map(|field| field.word()).collect()
}

/// A row as an object: the fields of its key, and its values.
fn object(view: &View, names: &[String], (key, sums): &Row) -> Value {
    let fields = view.key.iter().zip(key.fields());
    let fields = fields.map(|(field, text)| (field.word().to_owned(), text.into()));
    let values = names.iter().zip(sums.0);
    let values = values.map(|(name, value)| (name.clone(), value.into()));
    Value::Object(fields.chain(values).collect::<Map<_, _>>())
}

fn objects<'a>(view: &View, rows: impl IntoIterator<Item = &'a Arc<Row>>) -> Vec<Value> {
    let names = view.value_names();
    let rows = rows.into_iter();
    rows.map(|row| object(view, &names, row)).collect()
}

/// The number of the view that the path names.
fn find(call: &Call) -> Result<usize, Problem> {
    let (board, name) = (&call.site.served.board, call.part("name"));
    board.find(name).ok_or_else(|| {
        let names: Vec<&str> = board.views().map(|view| &*view.name).collect();
        let there = match names.is_empty() {
            true => "this job has none".to_owned(),
            false => format!("there are {}", names.join(", ")),
        };
        Problem::not_found(format!("there is no view {}; {there}", name.escape_debug()))
    })
}

fn view(call: &Call, n: usize) -> &View {
    let mut views = call.site.served.board.views();
    views.nth(n).expect("the number was found on this board")
}

/// All views.
pub async fn list(call: Call) -> Said {
    let board = &call.site.served.board;
    let views = board.views().enumerate().map(|(n, view)| {
        json!({
            "name": view.name, "of": view.of.word(), "key": key(view), "values": view.value_names(),
            "window": view.window, "step": view.step, "top": view.top,
            "since": (1..u64::MAX).contains(&view.since).then_some(view.since), "rows": board.rows(n),
        })
    });
    let views: Vec<Value> = views.collect();
    json(&json!({"tick": board.completed(), "views": views}))
}

/// One view.
pub async fn read(call: Call) -> Said {
    let n = find(&call)?;
    let view = view(&call, n);
    let mut known = vec!["tick", "limit"];
    known.extend(key(view));
    call.only(&known)?;
    let most = call.site.limits.rows;
    let limit = call.limit("limit", most, most)?;
    let snapshot = call.site.served.board.snapshot(n, call.tick()?)?;
    let wanted: Vec<Option<&str>> = key(view).iter().map(|field| call.text(field)).collect();
    let fits = |row: &&Arc<Row>| {
        let mut fields = wanted.iter().zip(row.0.fields());
        fields.all(|(wanted, field)| wanted.is_none_or(|wanted| wanted == field))
    };
    let found = || snapshot.rows.iter().filter(fits);
    json(&json!({
        "view": view.name, "tick": snapshot.tick, "window": view.window, "key": key(view),
        "values": view.value_names(), "found": found().count(), "rows": objects(view, found().take(limit)),
    }))
}

/// One view as it changes.
pub async fn changes(call: Call) -> Said {
    let n = find(&call)?;
    let seat = sse::seat(&call)?;
    let last = call.last_event().and_then(|id| id.parse().ok());
    let subscription = call.site.served.board.subscribe(n, last);
    let view = view(&call, n).clone();
    let next = |(mut subscription, view): (Subscription, View)| async move {
        let event = match subscription.next().await {
            Update::Snapshot(all) => {
                let data = json!({"tick": all.tick, "rows": objects(&view, all.rows.iter())});
                event("snapshot", Some(all.tick.to_string()), &data)
            }
            Update::Change(change) => {
                let (gone, rows) = (objects(&view, &change.gone), objects(&view, &change.rows));
                let data = json!({"tick": change.tick, "gone": gone, "rows": rows});
                event("change", Some(change.tick.to_string()), &data)
            }
        };
        Some((event, (subscription, view)))
    };
    sse::tell(seat, (subscription, view), next)
}
