//! The page that shows a running job: files that are part of the program, without anything from
//! elsewhere.

use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;

use super::call::{Call, Said, answer};
use super::http;

/// A file of the page.
struct File {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($name:literal $kind:literal $file:literal;)*) => {
        &[$(File {
            name: $name,
            kind: $kind,
            bytes: include_bytes!($file),
        }),*]
    };
}

/// All there are; the one without a name is the page itself.
#[rustfmt::skip]
static FILES: &[File] = files! {
    "" "text/html; charset=utf-8" "page/index.html";
    "chances.js" "text/javascript; charset=utf-8" "page/chances.js";
    "draw.js" "text/javascript; charset=utf-8" "page/draw.js";
    "icon.svg" "image/svg+xml" "page/icon.svg";
    "keys.js" "text/javascript; charset=utf-8" "page/keys.js";
    "now.js" "text/javascript; charset=utf-8" "page/now.js";
    "orders.js" "text/javascript; charset=utf-8" "page/orders.js";
    "page.css" "text/css; charset=utf-8" "page/page.css";
    "page.js" "text/javascript; charset=utf-8" "page/page.js";
    "people.js" "text/javascript; charset=utf-8" "page/people.js";
    "popular.js" "text/javascript; charset=utf-8" "page/popular.js";
    "time.js" "text/javascript; charset=utf-8" "page/time.js";
    "visit.js" "text/javascript; charset=utf-8" "page/visit.js";
    "wire.js" "text/javascript; charset=utf-8" "page/wire.js";
    "words.js" "text/javascript; charset=utf-8" "page/words.js";
};

/// The file of this name.
fn read(name: &str) -> Said {
    let file = FILES.iter().find(|file| file.name == name);
    let file = file.ok_or_else(|| http::nothing(&format!("/{name}")))?;
    let mut response = answer(file.kind, file.bytes);
    // Another version of the program has another page.
    let again = HeaderValue::from_static("no-cache");
    response.headers_mut().insert(CACHE_CONTROL, again);
    Ok(response)
}

/// The page.
pub async fn index(_: Call) -> Said {
    read("")
}

/// A file of the page: its style, scripts and icon.
pub async fn file(call: Call) -> Said {
    read(call.part("file"))
}
