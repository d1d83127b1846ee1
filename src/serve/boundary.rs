//! `/boundary`: where files end and what is live begins, for who wants each visit once. The table
//! `visits` has in its version every visit that was sealed at or before that version's tick; a
//! [hold](super::holds) on it gives every other one, as of one later tick.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, Response, StatusCode};
use futures_util::stream::unfold;
use serde::Deserialize;
use serde_json::json;

use super::Site;
use super::call::{Call, Said, answer, json};
use super::holds::{Hold, Version};
use super::problem::Problem;
use super::question::{Answer, LiveVisit, Question};
use crate::wall;

/// How long a hold may last without being extended, in seconds.
const LONGEST: u64 = 600;
/// How long it lasts if nothing is said, in seconds.
const USUAL: u64 = 60;
/// How often a hold is tried for, when tables are committed just then.
const TRIES: usize = 3;
/// How many visits are written at a time.
const CHUNK: usize = 1_000;

fn version(version: Version) -> serde_json::Value {
    json!({"version": version.version, "tick": version.tick})
}

/// The folder of the tables.
fn tables(site: &Site) -> Result<&str, Problem> {
    site.tables.as_deref().ok_or_else(|| {
        Problem::not_found(
            "this process puts no versions of tables: the first process of a job with outputs.files does",
        )
    })
}

/// The newest versions.
pub async fn read(call: Call) -> Said {
    let path = tables(&call.site)?;
    let [measurements, visits] = call.site.served.holds.newest();
    json(&json!({
        "table": {"path": path, "measurements": version(measurements), "visits": version(visits)},
        "tick": visits.tick.min(measurements.tick),
    }))
}

/// What is said of a new time.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default = "usual")]
    seconds: u64,
}

fn usual() -> u64 {
    USUAL
}

/// For how long, in ms.
fn wanted(call: &Call) -> Result<i64, Problem> {
    let wrong = |found: &str| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!(
                "the body: {found}; expected {{\"seconds\": N}} with N a whole number from 1 to {LONGEST}"
            ),
        )
    };
    if call.body.is_empty() {
        return Ok(USUAL as i64 * 1_000);
    }
    let kind = call.headers.get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or("none");
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        let kind = kind.escape_debug();
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("Content-Type {kind}: expected application/json"),
        ));
    }
    let wanted: Wanted =
        serde_json::from_slice(&call.body).map_err(|error| wrong(&error.to_string()))?;
    match wanted.seconds {
        seconds @ 1..=LONGEST => Ok(seconds as i64 * 1_000),
        seconds => Err(wrong(&format!("seconds is {seconds}"))),
    }
}

fn held(hold: &Hold) -> serde_json::Value {
    json!({
        "hold": format!("{:032x}", hold.id), "version": hold.version.version, "tick": hold.version.tick,
        "until": hold.until,
    })
}

/// A new hold.
pub async fn take(call: Call) -> Said {
    let site = &call.site;
    tables(site)?;
    let for_ms = wanted(&call)?;
    let holds = &site.served.holds;
    for _ in 0..TRIES {
        let hold = holds.take(wall::now(), for_ms)?;
        // What the version lacks may have been let go of just before the hold was there.
        match everything_kept(site, &hold).await {
            Ok(true) => {
                let mut response = json(&held(&hold))?;
                *response.status_mut() = StatusCode::CREATED;
                let at = format!("/boundary/holds/{:032x}", hold.id);
                if let Ok(at) = HeaderValue::from_str(&at) {
                    response.headers_mut().insert(LOCATION, at);
                }
                return Ok(response);
            }
            Ok(false) => drop(holds.end(hold.id, wall::now())),
            Err(problem) => {
                let _ = holds.end(hold.id, wall::now());
                return Err(problem);
            }
        }
    }
    Err(Problem::unavailable(
        "versions of the tables are committed faster than one can be held",
    ))
}

async fn everything_kept(site: &Site, hold: &Hold) -> Result<bool, Problem> {
    let answered = site
        .served
        .desk
        .ask(Question::Kept, site.limits.timeout)
        .await?;
    let kept = answered.parts.iter().all(|part| match part {
        Answer::Kept(tick) => *tick <= hold.version.tick,
        _ => true,
    });
    Ok(kept)
}

/// More time for a hold.
pub async fn extend(call: Call) -> Said {
    tables(&call.site)?;
    let id = call.id("hold")?;
    let for_ms = wanted(&call)?;
    let holds = &call.site.served.holds;
    json(&held(&holds.extend(id, wall::now(), for_ms)?))
}

/// The end of a hold.
pub async fn end(call: Call) -> Said {
    tables(&call.site)?;
    let id = call.id("hold")?;
    call.site.served.holds.end(id, wall::now())?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// Every visit that the held version does not have.
pub async fn visits(call: Call) -> Said {
    let site = &call.site;
    tables(site)?;
    let id = call.id("hold")?;
    let hold = site.served.holds.find(id, wall::now())?;
    // An answer may have every open visit in it; two at a time would be twice the memory.
    let alone = site.live.clone().try_acquire_owned().map_err(|_| {
        Problem::unavailable("another reader is being given what is live; one at a time is")
    })?;
    let after = hold.version.tick;
    let question = Question::Live { after };
    let answered = site.served.desk.ask(question, site.limits.timeout).await?;
    // As of a tick, what was sealed at it is still open.
    if answered.tick <= after {
        return Err(Problem::unavailable(format!(
            "what is live is as of {}, and the held version of {after}",
            answered.tick
        )));
    }
    let mut parts = VecDeque::new();
    for part in answered.parts {
        let Answer::Live { kept, visits } = part else {
            continue;
        };
        if kept > after {
            // It ended while the question was on its way.
            let _ = site.served.holds.end(id, wall::now());
            return Err(super::holds::Ended.into());
        }
        parts.push_back(visits.into_iter());
    }
    let first = Bytes::from(format!("{{\"tick\":{}}}\n", answered.tick));
    let lines = unfold(
        (Some(first), parts, alone),
        |(first, mut parts, alone)| async move {
            if let Some(first) = first {
                return Some((Ok::<_, Infallible>(first), (None, parts, alone)));
            }
            let mut lines = Vec::new();
            while let Some(visits) = parts.front_mut() {
                let chunk: Vec<LiveVisit> = visits.take(CHUNK).collect();
                if chunk.is_empty() {
                    parts.pop_front();
                    continue;
                }
                for visit in &chunk {
                    // Texts and whole numbers can always be written.
                    let _ = serde_json::to_writer(&mut lines, visit);
                    lines.push(b'\n');
                }
                return Some((Ok(Bytes::from(lines)), (None, parts, alone)));
            }
            None
        },
    );
    Ok(answer("application/x-ndjson", Body::from_stream(lines)))
}
