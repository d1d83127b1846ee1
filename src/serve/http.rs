//! From a request to a resource and back: who may, what may be asked, and the headers that every
//! answer has. Each step says what is wrong as a [`Problem`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Query, RawPathParams, Request};
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, request::Parts};
use axum::middleware::map_response;
use axum::routing::{MethodFilter, MethodRouter, on};

use super::Site;
use super::access::{Refused, is_loopback};
use super::call::{Call, Said};
use super::problem::Problem;
use super::routes::{ROUTES, Route};

/// How long a body may be, in bytes.
const LONGEST_BODY: usize = 4 << 10;
/// How long a body may take to come.
const MANNERS: Duration = Duration::from_secs(10);

/// Headers of every answer: the page and whatever else a browser shows takes nothing from elsewhere,
/// and is shown nowhere else.
const HEADERS: [(&str, &str); 4] = [
    (
        "content-security-policy",
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    // A token may be a parameter.
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// Everything that can be asked of a site.
pub fn router(site: Arc<Site>) -> Router {
    let mut router = Router::new();
    for first in ROUTES {
        let same = |route: &&Route| route.path == first.path;
        if !std::ptr::eq(ROUTES.iter().find(same).unwrap_or(first), first) {
            continue;
        }
        let mut methods = MethodRouter::new();
        for route in ROUTES.iter().filter(same) {
            let site = site.clone();
            let serve =
                move |parts: RawPathParams, request: Request| serve(site, route, parts, request);
            methods = methods.merge(on(filter(route.method), serve));
        }
        router = router.route(first.path, methods);
    }
    router
        .fallback(async |request: Request| nothing(request.uri().path()).response())
        .method_not_allowed_fallback(async |request: Request| not_so(&request).response())
        .layer(map_response(with_headers))
}

fn filter(method: &str) -> MethodFilter {
    match method {
        "POST" => MethodFilter::POST,
        "PUT" => MethodFilter::PUT,
        "DELETE" => MethodFilter::DELETE,
        _ => MethodFilter::GET,
    }
}

/// That there is no such path, and what there is.
pub fn nothing(path: &str) -> Problem {
    let mut paths: Vec<&str> = ROUTES.iter().map(|route| route.path).collect();
    paths.dedup();
    let path: String = path
        .chars()
        .take(200)
        .flat_map(char::escape_debug)
        .collect();
    Problem::not_found(format!(
        "there is no {path}; there are {}",
        paths.join(", ")
    ))
}

fn not_so(request: &Request) -> Problem {
    let (method, path) = (request.method(), request.uri().path());
    let method: String = method.as_str().chars().take(20).collect();
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{method} {path}: expected one of the methods that Allow names"),
    )
}

async fn with_headers(mut response: Response<Body>) -> Response<Body> {
    for (name, value) in HEADERS {
        let (name, value) = (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

async fn serve(
    site: Arc<Site>,
    route: &'static Route,
    parts: RawPathParams,
    request: Request,
) -> Response<Body> {
    let said = said(site, route, &parts, request).await;
    said.unwrap_or_else(Problem::response)
}

async fn said(
    site: Arc<Site>,
    route: &'static Route,
    parts: &RawPathParams,
    request: Request,
) -> Said {
    let (head, body) = request.into_parts();
    let query = Query::<Vec<(String, String)>>::try_from_uri(&head.uri);
    let Query(mut query) = query.map_err(|_| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "the query: expected NAME=VALUE&NAME=VALUE",
        )
    })?;
    let given = query.iter().position(|(name, _)| name == "token");
    let given = given.map(|at| query.remove(at).1);
    let_in(&site, route, &head, given.as_deref())?;
    let parts = parts
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let parts: BTreeMap<String, String> = parts.collect();
    let body = tokio::time::timeout(MANNERS, to_bytes(body, LONGEST_BODY));
    let body = body.await.map_err(|_| {
        let seconds = MANNERS.as_secs();
        Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body has not come within {seconds} seconds"),
        )
    })?;
    let body = body.map_err(|_| {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body: expected at most {LONGEST_BODY} bytes"),
        )
    })?;
    let call = Call {
        site,
        parts,
        query,
        headers: head.headers,
        body,
    };
    if let Some(known) = route.query {
        call.only(known)?;
    }
    (route.serve)(call).await
}

/// Whether who asks may.
fn let_in(site: &Site, route: &Route, head: &Parts, given: Option<&str>) -> Result<(), Problem> {
    if site.access.is_open() {
        // A page from elsewhere may have a name that leads to this machine; a browser says that name.
        let host = head.headers.get(HOST);
        let host = host.map(|host| host.to_str().unwrap_or_default());
        return match host {
            Some(host) if !is_loopback(host) => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "without tokens (serve.tokens) only this machine is answered, by the names localhost, 127.0.0.1 and \
                 [::1]",
            )),
            _ => Ok(()),
        };
    }
    let header = head.headers.get(AUTHORIZATION);
    let token = match header {
        None => given,
        Some(header) => {
            let text = header.to_str().unwrap_or_default();
            let scheme = text.split_once(' ');
            let bearer = scheme.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
            Some(bearer.map_or("", |(_, token)| token.trim()))
        }
    };
    let scopes = || route.need.scopes().join(" or ");
    site.access
        .check(token, route.need)
        .map_err(|refused| match refused {
            Refused::NoToken => Problem::unauthorized(format!(
                "expected Authorization: Bearer TOKEN, or the parameter token, of the scope {}",
                scopes()
            )),
            Refused::Unknown => Problem::unauthorized("nobody has this token"),
            Refused::Scope => Problem::new(
                StatusCode::FORBIDDEN,
                format!("this token has not the scope {}", scopes()),
            ),
        })
}
