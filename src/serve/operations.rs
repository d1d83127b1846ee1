//! What a process says of itself: `/progress`, `/why`, `/metrics`, `/healthz`. What needs a look at the
//! disk is looked for on a thread of its own, and `/progress` at most twice a second, however many ask.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::sse::Event;
use serde_json::value::RawValue;

use super::Site;
use super::call::{Call, Said, answer};
use super::problem::Problem;
use super::progress::Progress;
use super::sse::{self, event};
use crate::observe::exposition;

/// How often progress is told to who listens.
const EVERY: Duration = Duration::from_secs(1);
/// How old what is answered may be.
const FRESH: Duration = Duration::from_millis(500);

/// What a process can say of its job.
pub trait Account: Send + Sync {
    /// How far it has come.
    fn progress(&self) -> Progress;
    /// What its time stands on, for people.
    fn why(&self) -> String;
    /// Its metrics, as Prometheus reads them.
    fn metrics(&self) -> String;
}

/// Looks for something on a thread that may wait for the disk.
async fn off<T: Send + 'static>(
    site: &Arc<Site>,
    look: impl FnOnce(&dyn Account) -> T + Send + 'static,
) -> Result<T, Problem> {
    let account = site.account.clone();
    let looked = tokio::task::spawn_blocking(move || look(&*account)).await;
    looked.map_err(|_| {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "it cannot be said; the process writes why to its standard error",
        )
    })
}

/// The progress that was looked for last, and when.
#[derive(Default)]
pub struct Looked(tokio::sync::Mutex<Option<(Instant, Bytes)>>);

async fn progress_now(site: &Arc<Site>) -> Result<Bytes, Problem> {
    let mut looked = site.looked.0.lock().await;
    if let Some((_, bytes)) = looked.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
        return Ok(bytes.clone());
    }
    let written = off(site, |account| serde_json::to_vec(&account.progress())).await?;
    let written = written
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let bytes = Bytes::from(written);
    *looked = Some((Instant::now(), bytes.clone()));
    Ok(bytes)
}

/// How far the job has come.
pub async fn progress(call: Call) -> Said {
    Ok(answer("application/json", progress_now(&call.site).await?))
}

/// The same each second.
pub async fn progress_changes(call: Call) -> Said {
    let seat = sse::seat(&call)?;
    let next = |(site, told): (Arc<Site>, bool)| async move {
        if told {
            tokio::time::sleep(EVERY).await;
        }
        loop {
            match progress_now(&site).await.map(told_as) {
                Ok(Some(event)) => return Some((event, (site, true))),
                _ => tokio::time::sleep(EVERY).await,
            }
        }
    };
    sse::tell(seat, (call.site.clone(), false), next)
}

fn told_as(bytes: Bytes) -> Option<Event> {
    let data: &RawValue = serde_json::from_slice(&bytes).ok()?;
    Some(event("progress", None, data))
}

/// What time stands on.
pub async fn why(call: Call) -> Said {
    let text = off(&call.site, |account| account.why()).await?;
    Ok(answer("text/plain; charset=utf-8", text))
}

/// Metrics.
pub async fn metrics(call: Call) -> Said {
    let text = off(&call.site, |account| account.metrics()).await?;
    Ok(answer(exposition::CONTENT_TYPE, text))
}

/// That the process lives.
pub async fn healthz(_: Call) -> Said {
    Ok(answer("text/plain; charset=utf-8", "ok\n"))
}
