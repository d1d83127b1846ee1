//! Server-sent events: streams that a browser's `EventSource` takes up again by itself, saying what it
//! has heard last. As many at a time as `serve.subscribers` says; who does not take what is sent is
//! dropped after a while, and goes on with what has changed since, or with the whole.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::call::{Call, Said};
use super::problem::Problem;

/// How often a comment is sent when there is nothing to say, so that both sides see who has gone.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A place among those who listen, given back when it is dropped.
pub struct Seat(#[allow(dead_code)] OwnedSemaphorePermit);

/// Takes a place among those who listen.
///
/// # Errors
/// All are taken.
pub fn seat(call: &Call) -> Result<Seat, Problem> {
    let seats = call.site.seats.clone();
    seats.try_acquire_owned().map(Seat).map_err(|_| {
        let most = call.site.limits.subscribers;
        Problem::unavailable(format!(
            "{most} subscribers listen already (serve.subscribers)"
        ))
    })
}

/// An event, with what to say next time to go on behind it.
pub fn event(name: &str, id: Option<String>, data: &(impl Serialize + ?Sized)) -> Event {
    // What cannot be written is nothing that can happen: names are texts, numbers whole.
    let data = serde_json::to_string(data).unwrap_or_default();
    let event = Event::default().event(name).data(data);
    match id {
        Some(id) => event.id(id),
        None => event,
    }
}

/// Tells what `next` says, until it says nothing or nobody listens.
pub fn tell<S, F>(seat: Seat, state: S, next: impl FnMut(S) -> F + Send + 'static) -> Said
where
    S: Send + 'static,
    F: Future<Output = Option<(Event, S)>> + Send + 'static,
{
    let stream = unfold((seat, state, next), |(seat, state, mut next)| async move {
        let (event, state) = next(state).await?;
        Some((Ok::<_, Infallible>(event), (seat, state, next)))
    });
    let alive = KeepAlive::new().interval(HEARTBEAT);
    let mut response = Sse::new(stream).keep_alive(alive).into_response();
    let headers = response.headers_mut();
    // Proxies hold back what they think is one answer.
    let no = axum::http::HeaderValue::from_static("no");
    headers.insert("x-accel-buffering", no);
    Ok(response)
}
