//! A request that has been let in: its path's parts, its query, its body. For the resources; what is
//! wrong with any of them is a [`Problem`] that names the parameter.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::Site;
use super::problem::Problem;

/// What a resource says.
pub type Said = Result<Response<Body>, Problem>;

/// A request.
pub struct Call {
    /// Whom it is to.
    pub site: Arc<Site>,
    /// The parts of its path that vary, by name.
    pub parts: BTreeMap<String, String>,
    /// Its query, without the token.
    pub query: Vec<(String, String)>,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Call {
    /// A part of its path that varies.
    pub fn part(&self, name: &str) -> &str {
        self.parts.get(name).map_or("", String::as_str)
    }

    /// A parameter of its query.
    pub fn text(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| &**value)
    }

    /// A parameter that is a number from 1 to `most`.
    pub fn limit(&self, name: &str, usual: usize, most: usize) -> Result<usize, Problem> {
        let Some(text) = self.text(name) else {
            return Ok(usual.min(most));
        };
        let number = text.parse().ok().filter(|n| (1..=most).contains(n));
        number.ok_or_else(|| {
            Problem::parameter(name, text, &format!("a whole number from 1 to {most}"))
        })
    }

    /// A parameter that is a tick.
    pub fn tick(&self) -> Result<Option<u64>, Problem> {
        let wrong = |text: &str| {
            Problem::parameter(
                "tick",
                text,
                "a tick, in ms since 1970, such as one that was answered",
            )
        };
        let parse = |text: &str| text.parse().map_err(|_| wrong(text));
        self.text("tick").map(parse).transpose()
    }

    /// A part of its path that is 32 hexadecimal digits.
    pub fn id(&self, name: &str) -> Result<u128, Problem> {
        let text = self.part(name);
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = u128::from_str_radix(text, 16).ok().filter(|_| digits);
        id.ok_or_else(|| Problem::parameter(name, text, "32 hexadecimal digits"))
    }

    /// What was heard last by who now hears again.
    pub fn last_event(&self) -> Option<&str> {
        self.headers.get("last-event-id")?.to_str().ok()
    }

    /// That a query has only such parameters, each once.
    pub fn only(&self, known: &[&str]) -> Result<(), Problem> {
        for (n, (name, value)) in self.query.iter().enumerate() {
            let twice = self.query[..n].iter().any(|(before, _)| before == name);
            if twice {
                return Err(Problem::parameter(name, value, "each parameter once"));
            }
            if !known.contains(&&**name) {
                let expected = match known {
                    [] => "no parameters".to_owned(),
                    known => format!("only the parameters {}", known.join(", ")),
                };
                return Err(Problem::parameter(name, value, &expected));
            }
        }
        Ok(())
    }
}

/// An answer of this type.
pub fn answer(kind: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer in JSON.
pub fn json(value: &impl Serialize) -> Said {
    match serde_json::to_vec(value) {
        Ok(body) => Ok(answer("application/json", body)),
        Err(error) => Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the answer cannot be written: {error}"),
        )),
    }
}
