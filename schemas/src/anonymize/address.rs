//! An address without what may name a person: no query, no fragment, no user, no parameters of a
//! path. It works on bytes and cuts at ASCII characters only, so that text stays text.

/// Whose address it is, and so what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A page of the site's own: the path is left.
    Own,
    /// Where somebody came from: scheme, host and path are left.
    Foreign,
    /// The name of something, which for a page may be its address: all is left but a query and a
    /// fragment.
    Name,
}

/// Appends what is left of an address.
///
/// | address | own | foreign |
/// | --- | --- | --- |
/// | `https://ann@shop.example/a;id=7/b?q=x#y` | `/a/b` | `https://shop.example/a/b` |
/// | `//shop.example` | `/` | `//shop.example/` |
/// | `/a?q=x`, `a?q=x` | `/a`, `a` | the same |
/// | `mailto:ann@shop.example` | nothing | nothing |
///
/// Of a name `sku:7;x?q=x` is left `sku:7;x`.
///
/// A path is left as it is: where paths name persons, the field is to be dropped.
pub(super) fn generalize(address: Address, text: &[u8], out: &mut Vec<u8>) {
    let end = text.iter().position(|b| matches!(b, b'?' | b'#'));
    let text = &text[..end.unwrap_or(text.len())];
    if address == Address::Name {
        out.extend_from_slice(text);
        return;
    }
    let scheme = scheme(text);
    let rest = &text[scheme..];
    let Some(rest) = rest.strip_prefix(b"//") else {
        // Without a host: a path, or, behind a scheme, something that only its scheme explains.
        if scheme == 0 {
            path(rest, out);
        }
        return;
    };
    let slash = rest.iter().position(|b| matches!(b, b'/' | b'\\'));
    let (authority, after) = rest.split_at(slash.unwrap_or(rest.len()));
    if address == Address::Foreign {
        let user = authority.iter().rposition(|b| *b == b'@');
        out.extend_from_slice(&text[..scheme]);
        out.extend_from_slice(b"//");
        out.extend_from_slice(&authority[user.map_or(0, |at| at + 1)..]);
    }
    match after {
        [] => out.push(b'/'),
        after => path(after, out),
    }
}

/// How many bytes the scheme takes, with its colon.
fn scheme(text: &[u8]) -> usize {
    let of_scheme = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    let end = text.iter().position(|b| !of_scheme(b)).unwrap_or(0);
    let is = text.first().is_some_and(u8::is_ascii_alphabetic) && text.get(end) == Some(&b':');
    if is { end + 1 } else { 0 }
}

/// A path without its segments' parameters: `;jsessionid=…` names a session.
fn path(text: &[u8], out: &mut Vec<u8>) {
    let mut inside = false;
    for byte in text {
        inside = match byte {
            b';' => true,
            b'/' => false,
            _ => inside,
        };
        if !inside {
            out.push(*byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn left(address: Address, text: &str) -> String {
        let mut out = vec![];
        generalize(address, text.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_address_is_left_its_path_and_a_foreign_one_its_host() {
        for (text, own, foreign) in [
            (
                "https://ann:pw@shop.example:8080/a;id=7/b?q=x#y",
                "/a/b",
                "https://shop.example:8080/a/b",
            ),
            ("//shop.example", "/", "//shop.example/"),
            ("http://shop.example?q=ann", "/", "http://shop.example/"),
            ("/search?q=words", "/search", "/search"),
            ("/search#words", "/search", "/search"),
            ("a/b?q", "a/b", "a/b"),
            ("/a:b/c;s", "/a:b/c", "/a:b/c"),
            ("?q=words", "", ""),
            ("", "", ""),
            ("mailto:ann@shop.example", "", ""),
            ("android-app://com.mail/1", "/1", "android-app://com.mail/1"),
            ("https://é.example/ü?ä", "/ü", "https://é.example/ü"),
            (
                "https://a@b@shop.example\\x",
                "\\x",
                "https://shop.example\\x",
            ),
        ] {
            assert_eq!(left(Address::Own, text), own, "{text}");
            assert_eq!(left(Address::Foreign, text), foreign, "{text}");
        }
    }

    #[test]
    fn a_name_is_left_whole_but_for_a_query() {
        assert_eq!(left(Address::Name, "sku:7;x"), "sku:7;x");
        assert_eq!(left(Address::Name, "/search?q=words"), "/search");
    }

    proptest! {
        #[test]
        fn what_is_left_is_text_without_query_and_fragment(text: String) {
            for address in [Address::Own, Address::Foreign, Address::Name] {
                let once = left(address, &text);
                prop_assert!(!once.contains(['?', '#']) && once.len() <= text.len() + 1);
                prop_assert!(address != Address::Own || !once.contains(';'));
            }
        }
    }
}
