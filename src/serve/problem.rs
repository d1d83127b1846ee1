//! What goes wrong with a request, as `application/problem+json` (RFC 9457): each says what was asked
//! for, what was expected, and, where it is the server, why and until when.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use serde_json::json;

use super::board::NotKept;
use super::desk::NoAnswer;
use super::holds::{Ended, NoHold};

/// An answer that says what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its status.
    pub status: StatusCode,
    /// What is wrong, in a sentence or two.
    pub detail: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// Of this status.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem {
            status,
            detail: detail.into(),
            header: None,
        }
    }

    /// 400: a parameter, with what it was and what was expected.
    pub fn parameter(name: &str, value: &str, expected: &str) -> Problem {
        let value: String = value
            .chars()
            .take(60)
            .flat_map(char::escape_debug)
            .collect();
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!("{name}={value}: expected {expected}"),
        )
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    /// 410.
    pub fn gone(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::GONE, detail)
    }

    /// 503, to be tried again in a second.
    pub fn unavailable(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).later()
    }

    /// 401.
    pub fn unauthorized(detail: impl Into<String>) -> Problem {
        let header = HeaderValue::from_static("Bearer realm=\"visitflow\"");
        Problem {
            header: Some((WWW_AUTHENTICATE, header)),
            ..Problem::new(StatusCode::UNAUTHORIZED, detail)
        }
    }

    /// The same, to be tried again in a second.
    fn later(mut self) -> Problem {
        self.header = Some((RETRY_AFTER, HeaderValue::from_static("1")));
        self
    }

    /// As an answer.
    pub fn response(self) -> Response<Body> {
        let title = self.status.canonical_reason().unwrap_or("Problem");
        let body = json!({
            "type": "about:blank", "title": title, "status": self.status.as_u16(), "detail": self.detail,
        });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(CONTENT_TYPE, kind);
        if let Some((name, value)) = self.header {
            headers.insert(name, value);
        }
        response
    }
}

impl From<NotKept> for Problem {
    fn from(error: NotKept) -> Problem {
        match error {
            NotKept::NothingYet => Problem::unavailable(error.to_string()),
            NotKept::Gone { .. } => Problem::gone(error.to_string()),
            NotKept::NotYet { asked, .. } => {
                let said = error.to_string();
                let expected = said.split_once("expected ").map_or("", |(_, rest)| rest);
                Problem::parameter("tick", &asked.to_string(), expected)
            }
        }
    }
}

impl From<NoAnswer> for Problem {
    fn from(error: NoAnswer) -> Problem {
        match error {
            NoAnswer::Late(_) => Problem::new(StatusCode::GATEWAY_TIMEOUT, error.to_string()),
            NoAnswer::Busy(_) => {
                Problem::new(StatusCode::TOO_MANY_REQUESTS, error.to_string()).later()
            }
            NoAnswer::Closed(_) => Problem::unavailable(error.to_string()),
        }
    }
}

impl From<Ended> for Problem {
    fn from(error: Ended) -> Problem {
        Problem::gone(error.to_string())
    }
}

impl From<NoHold> for Problem {
    fn from(error: NoHold) -> Problem {
        match error {
            NoHold::NoTables => Problem::unavailable(error.to_string()),
            NoHold::TooMany => {
                Problem::new(StatusCode::TOO_MANY_REQUESTS, error.to_string()).later()
            }
        }
    }
}
