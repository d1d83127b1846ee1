//! One line of an access log in the combined format of Apache and nginx, for the importer:
//!
//! ```text
//! ip ident user [day/Mon/year:hour:minute:second zone] "request" status bytes "referrer" "user agent" …
//! ```
//!
//! Every part is a slice of the line, still escaped, so that what is written is what was logged. The
//! last two fields are taken both or not at all (the common format has neither, nor has a line that
//! was cut short); whatever else follows is `extra`. A virtual host in front (Apache's
//! `vhost_combined`) is told by the address behind it. Work is linear in the line.

use std::fmt;
use std::net::IpAddr;

use memchr::{memchr, memchr_iter, memchr2};
use sha2::{Digest, Sha256};
use visitflow_schemas::measurement::Measurement;

use super::values;

/// A line of an access log, each part as logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The virtual host in front of the address, if there is one.
    pub host: Option<&'a str>,
    /// The client's address (or name, when the server looks names up).
    pub ip: &'a str,
    /// What identd said; `-` almost always.
    pub ident: &'a str,
    /// The user by HTTP authentication, or `-`.
    pub user: &'a str,
    /// Milliseconds since 1970, UTC.
    pub time: i64,
    /// The request's first line, or `-`.
    pub request: &'a str,
    /// Three digits or `-`.
    pub status: &'a str,
    /// Digits or `-`.
    pub bytes: &'a str,
    /// The referrer, `-` included; none in the common format.
    pub referrer: Option<&'a str>,
    /// The user agent, `-` included; none in the common format.
    pub user_agent: Option<&'a str>,
    /// Whatever follows, or nothing.
    pub extra: &'a str,
}

/// Why a line is not an entry. It shows the form of what it found, never the text: a log's lines
/// hold addresses and names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unparsed {
    /// What should have stood there.
    pub expected: &'static str,
    /// Where, in bytes from 1.
    pub column: usize,
    /// The form of what stood there: letters as `a`, digits as `9`.
    pub found: String,
}

impl fmt::Display for Unparsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "column {}: expected {}, found ",
            self.column, self.expected
        )?;
        if self.found.is_empty() {
            f.write_str("the end of the line")
        } else {
            write!(f, "text of the form `{}`", self.found)
        }
    }
}

/// Characters of `[26/Jan/2019:19:45:25 +0330` after the bracket.
const TIME: usize = 26;

/// Reads one line without its end.
pub fn parse(line: &str) -> Result<Entry<'_>, Unparsed> {
    let bytes = line.as_bytes();
    let fail = |at: usize, expected| Unparsed {
        expected,
        column: at + 1,
        found: values::shape(line.get(at..).unwrap_or_default()),
    };

    let space = memchr(b' ', bytes).unwrap_or(bytes.len());
    let mut ip = &line[..space];
    // Zero bytes in front of a line are what a crash of the server leaves behind.
    if ip.is_empty() || ip.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(fail(0, "an address"));
    }

    // The user may hold spaces, so the time is found by its form.
    let mut first = None;
    let bracket = memchr_iter(b'[', &bytes[space..])
        .map(|i| space + i)
        .filter(|&i| bytes[i - 1] == b' ')
        .inspect(|&i| {
            first.get_or_insert(i);
        })
        .find_map(|i| {
            let text = bytes.get(i + 1..i + 1 + TIME)?;
            (bytes.get(i + 1 + TIME) == Some(&b']')).then_some(())?;
            Some((i, values::access_log_time(text)?))
        });
    let Some((bracket, time)) = bracket else {
        return Err(fail(
            first.unwrap_or(space),
            "[day/Mon/year:hour:minute:second zone]",
        ));
    };
    let between = line.get(space + 1..bracket - 1).unwrap_or_default();
    let Some((mut ident, mut user)) = between.split_once(' ') else {
        return Err(fail(space, "ident and user before the time"));
    };
    let mut host = None;
    if ident != "-"
        && ident.parse::<IpAddr>().is_ok()
        && let Some((next_ident, next_user)) = user.split_once(' ')
    {
        host = Some(ip);
        ip = ident;
        ident = next_ident;
        user = next_user;
    }

    let at = bracket + TIME + 2;
    if bytes.get(at) != Some(&b' ') {
        return Err(fail(at, "a space and the request in quotes"));
    }
    let (request, at) =
        quoted(line, at + 1).ok_or_else(|| fail(at + 1, "the request in quotes"))?;
    let (status, at) = word(line, at)
        .filter(|(text, _)| *text == "-" || (text.len() == 3 && digits(text)))
        .ok_or_else(|| fail(at, "a space and a status of three digits"))?;
    let (size, at) = word(line, at)
        .filter(|(text, _)| *text == "-" || digits(text))
        .ok_or_else(|| fail(at, "a space and a number of bytes"))?;

    let both = || {
        let (referrer, at) = quoted(line, after_space(bytes, at)?)?;
        let (user_agent, at) = quoted(line, after_space(bytes, at)?)?;
        Some((referrer, user_agent, at))
    };
    let (referrer, user_agent, at) = match both() {
        Some((referrer, user_agent, at)) => (Some(referrer), Some(user_agent), at),
        None => (None, None, at),
    };
    let extra = &line[at..];
    Ok(Entry {
        host,
        ip,
        ident,
        user,
        time,
        request,
        status,
        bytes: size,
        referrer,
        user_agent,
        extra: extra.strip_prefix(' ').unwrap_or(extra),
    })
}

fn after_space(bytes: &[u8], at: usize) -> Option<usize> {
    (bytes.get(at) == Some(&b' ')).then_some(at + 1)
}

/// The word after the space at `at`, and where it ends.
fn word(line: &str, at: usize) -> Option<(&str, usize)> {
    let start = after_space(line.as_bytes(), at)?;
    let rest = &line[start..];
    let text = &rest[..memchr(b' ', rest.as_bytes()).unwrap_or(rest.len())];
    Some((text, start + text.len()))
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What stands between the quote at `at` and the next one that is not escaped, and where that ends.
fn quoted(line: &str, at: usize) -> Option<(&str, usize)> {
    let bytes = line.as_bytes();
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let mut from = at + 1;
    loop {
        let found = from + memchr2(b'"', b'\\', bytes.get(from..)?)?;
        if bytes[found] == b'"' {
            return Some((&line[at + 1..found], found + 1));
        }
        // What is skipped may be the first byte of a longer character: its others are no quotes.
        from = found + 2;
    }
}

/// What a field holds that is not `-`, empty or missing.
fn some(text: &str) -> Option<&str> {
    (text != "-" && !text.is_empty()).then_some(text)
}

/// What the server was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request<'a> {
    /// `GET`, `POST`, ….
    pub method: Option<&'a str>,
    /// The target, with its query; the whole request where it is not of HTTP's form.
    pub target: Option<&'a str>,
    /// `HTTP/1.1`, ….
    pub protocol: Option<&'a str>,
}

impl<'a> Entry<'a> {
    /// The request's parts. A target may hold spaces, since what is logged is what was sent.
    pub fn request(&self) -> Request<'a> {
        let Some(request) = some(self.request) else {
            return Request::default();
        };
        let whole = Request {
            target: Some(request),
            ..Request::default()
        };
        let Some((method, rest)) = request.split_once(' ') else {
            return whole;
        };
        let named = |byte: u8| byte.is_ascii_alphabetic() || byte == b'-' || byte == b'_';
        if method.is_empty() || !method.bytes().all(named) {
            return whole;
        }
        let (target, protocol) = match rest.rsplit_once(' ') {
            Some((target, protocol)) if protocol.starts_with("HTTP/") => (target, Some(protocol)),
            _ => (rest, None),
        };
        Request {
            method: Some(method),
            target: (!target.is_empty()).then_some(target),
            protocol,
        }
    }

    /// The browser: 32 hex characters of the first 16 bytes of SHA-256(ip 0x1F user agent), where a
    /// missing or empty user agent is `-`.
    pub fn browser_id(&self) -> String {
        browser_id([self.ip, self.user_agent.unwrap_or("-")])
    }

    /// Hands the measurement to `take`: the page was shown.
    pub fn measurement<R>(
        &self,
        event_id: [u8; 16],
        browser_id: &str,
        take: impl FnOnce(&Measurement<'_>) -> R,
    ) -> R {
        let request = self.request();
        let mut attributes = [("", ""); 8];
        let mut count = 0;
        for (name, value) in [
            ("method", request.method),
            ("protocol", request.protocol),
            ("status", some(self.status)),
            ("bytes", some(self.bytes)),
            ("host", self.host),
            ("ident", some(self.ident)),
            ("user", some(self.user)),
            ("extra", some(self.extra).filter(|extra| *extra != "\"-\"")),
        ] {
            if let Some(value) = value {
                attributes[count] = (name, value);
                count += 1;
            }
        }
        take(&Measurement {
            event_id,
            browser_id,
            event_time: self.time,
            effect: "shown",
            entity: "page",
            entity_id: request
                .target
                .map(|target| &target[..memchr(b'?', target.as_bytes()).unwrap_or(target.len())])
                .filter(|path| !path.is_empty()),
            url: request.target,
            referrer: self.referrer.and_then(some),
            ip: Some(self.ip),
            user_agent: self.user_agent.and_then(some),
            attributes: &attributes[..count],
            ..Measurement::default()
        })
    }
}

/// 32 hex characters of the first 16 bytes of SHA-256 over the parts, 0x1F between them; an empty
/// part is `-`.
pub(super) fn browser_id<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for (i, part) in parts.into_iter().enumerate() {
        if i > 0 {
            hash.update([0x1F]);
        }
        hash.update(if part.is_empty() { "-" } else { part });
    }
    let mut text = String::with_capacity(32);
    for byte in &hash.finalize()[..16] {
        text.push(values::HEX[usize::from(byte >> 4)] as char);
        text.push(values::HEX[usize::from(byte & 15)] as char);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = r#"192.0.2.7 - - [26/Jan/2019:19:45:25 +0330] "GET /a?b=c HTTP/1.1" 200 30975 "https://shop.example/" "Mozilla/5.0 (X11)" "-""#;

    #[test]
    fn the_combined_format_is_read() {
        let entry = parse(LINE).unwrap();
        assert_eq!(entry.ip, "192.0.2.7");
        assert_eq!(entry.time, 1_548_519_325_000);
        assert_eq!(entry.referrer, Some("https://shop.example/"));
        assert_eq!(entry.user_agent, Some("Mozilla/5.0 (X11)"));
        assert_eq!(entry.extra, "\"-\"");
        entry.measurement([1; 16], "b", |m| {
            assert_eq!(m.entity_id, Some("/a"));
            assert_eq!(m.url, Some("/a?b=c"));
            assert_eq!(m.customer_id, None);
            assert_eq!(
                m.attributes,
                [
                    ("method", "GET"),
                    ("protocol", "HTTP/1.1"),
                    ("status", "200"),
                    ("bytes", "30975")
                ]
            );
        });
    }

    #[test]
    fn the_common_format_has_no_user_agent_and_its_browser_is_that_of_a_dash() {
        let common = parse(r#"::1 id bob [26/Jan/2019:19:45:25 +0000] "-" 408 -"#).unwrap();
        let dashes = parse(r#"::1 - - [26/Jan/2019:19:45:25 +0000] "-" 408 - "-" "-""#).unwrap();
        let empty = parse(r#"::1 - - [26/Jan/2019:19:45:25 +0000] "-" 408 - "" """#).unwrap();
        assert_eq!(common.user_agent, None);
        assert_eq!(dashes.user_agent, Some("-"));
        assert_eq!(common.browser_id(), dashes.browser_id());
        assert_eq!(common.browser_id(), empty.browser_id());
        common.measurement([0; 16], "b", |m| {
            assert_eq!((m.url, m.entity_id, m.user_agent), (None, None, None));
            assert_eq!(
                m.attributes,
                [("status", "408"), ("ident", "id"), ("user", "bob")]
            );
        });
        dashes.measurement([0; 16], "b", |m| assert_eq!(m.user_agent, None));
    }

    #[test]
    fn escapes_stay_as_they_were_logged() {
        let line = r#"1.2.3.4 - - [01/Feb/2024:00:00:00 -0100] "GET /\"x\\ HTTP/1.0" 200 1 "\xD8" "a \"b\" \\""#;
        let entry = parse(line).unwrap();
        assert_eq!(entry.request, r#"GET /\"x\\ HTTP/1.0"#);
        assert_eq!(entry.referrer, Some(r"\xD8"));
        assert_eq!(entry.user_agent, Some(r#"a \"b\" \\"#));
        assert_eq!(entry.request().target, Some(r#"/\"x\\"#));
        assert_eq!(entry.time, 1_706_749_200_000);
    }

    #[test]
    fn a_line_cut_in_its_user_agent_keeps_its_rest_as_extra() {
        let entry =
            parse(r#"1.2.3.4 - - [01/Feb/2024:00:00:00 +0000] "GET / HTTP/1.0" 200 1 "-" "Mozi"#)
                .unwrap();
        assert_eq!(entry.user_agent, None);
        assert_eq!(entry.extra, r#""-" "Mozi"#);
    }

    #[test]
    fn a_virtual_host_in_front_is_told_from_the_address() {
        let entry =
            parse(r#"shop.example:443 192.0.2.1 - jo doe [01/Feb/2024:00:00:00 +0000] "x" 200 1"#)
                .unwrap();
        assert_eq!(
            (entry.host, entry.ip, entry.user),
            (Some("shop.example:443"), "192.0.2.1", "jo doe")
        );
        assert_eq!(entry.request().target, Some("x"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_column_and_without_the_text() {
        let wrong = |line: &str| parse(line).unwrap_err().to_string();
        assert_eq!(
            wrong("192.0.2.7 hello"),
            "column 10: expected [day/Mon/year:hour:minute:second zone], found text of the form ` aaaaa`"
        );
        assert!(wrong("").contains("an address, found the end of the line"));
        assert!(wrong("\0\0\u{1}1.2.3.4 - -").contains("an address"));
        assert!(wrong(&LINE.replace("Jan", "Jam")).contains("column 15: expected [day/Mon"));
        assert!(wrong(&LINE.replace("26/", "32/")).contains("expected [day/Mon"));
        assert!(wrong(&LINE.replace(" 200 ", " 2000 ")).contains("status of three digits"));
        assert!(wrong(&LINE.replace("30975", "many")).contains("a number of bytes"));
        assert!(wrong(&LINE.replace(" - - [", " - [")).contains("ident and user"));
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused_and_never_panics(line in "[^\n]{0,200}") {
            let _ = parse(&line);
        }

        #[test]
        fn a_damaged_line_is_read_or_refused_and_never_panics(
            at in 0..LINE.len(), with in "[\"\\\\\\[\\] é]{0,3}", cut in 0..LINE.len()
        ) {
            let mut line = LINE.to_owned();
            line.replace_range(at..=at, &with);
            let _ = parse(&line);
            let _ = parse(line.get(..cut).unwrap_or_default());
        }

        #[test]
        fn a_printed_entry_is_read_back(
            ip in "[0-9a-f.:]{1,20}",
            user in "[a-zä-ü]{1,8}( [a-z]{1,4})?",
            second in 946_684_800_i64..2_000_000_000,
            request in r#"([^"\\\n]|\\["\\x]){0,40}"#,
            status in 100..600_u16,
            size in proptest::option::of(any::<u32>()),
            pair in proptest::option::of((r#"([^"\\\n]|\\["\\x]){0,40}"#, r#"([^"\\\n]|\\.){0,40}"#)),
            extra in "([a-z0-9=]{1,9})?",
        ) {
            let time = jiff::Timestamp::from_second(second).unwrap();
            let time = jiff::fmt::strtime::format("%d/%b/%Y:%H:%M:%S +0000", time).unwrap();
            let size = size.map_or("-".to_owned(), |size| size.to_string());
            let mut line = format!("{ip} - {user} [{time}] \"{request}\" {status} {size}");
            if let Some((referrer, agent)) = &pair {
                line += &format!(" \"{referrer}\" \"{agent}\"");
            }
            if !extra.is_empty() {
                line += &format!(" {extra}");
            }
            let status = status.to_string();
            prop_assert_eq!(parse(&line).unwrap(), Entry {
                host: None,
                ip: &ip,
                ident: "-",
                user: &user,
                time: second * 1000,
                request: &request,
                status: &status,
                bytes: &size,
                referrer: pair.as_ref().map(|pair| &pair.0[..]),
                user_agent: pair.as_ref().map(|pair| &pair.1[..]),
                extra: &extra,
            });
        }
    }
}
