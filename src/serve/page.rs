//! The page that shows a running job: files that are part of the program, without anything from
//! elsewhere.

use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;

use super::call::{Call, Said, answer};
use super::problem::Problem;

/// A file of the page.
pub struct File {
    /// Its path.
    pub path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

/// All there are.
pub static FILES: &[File] = &[
    File {
        path: "/",
        kind: "text/html; charset=utf-8",
        bytes: include_bytes!("page/index.html"),
    },
    File {
        path: "/page.css",
        kind: "text/css; charset=utf-8",
        bytes: include_bytes!("page/page.css"),
    },
    File {
        path: "/page.js",
        kind: "text/javascript; charset=utf-8",
        bytes: include_bytes!("page/page.js"),
    },
];

/// The file at this path.
pub fn read(path: &str) -> Said {
    let file = FILES.iter().find(|file| file.path == path);
    let file = file.ok_or_else(|| Problem::not_found(format!("the page has no {path}")))?;
    let mut response = answer(file.kind, file.bytes);
    // Another version of the program has another page.
    let again = HeaderValue::from_static("no-cache");
    response.headers_mut().insert(CACHE_CONTROL, again);
    Ok(response)
}

/// The page.
pub async fn index(_: Call) -> Said {
    read("/")
}

/// Its style.
pub async fn style(_: Call) -> Said {
    read("/page.css")
}

/// Its script.
pub async fn script(_: Call) -> Said {
    read("/page.js")
}
