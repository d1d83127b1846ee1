//! Who may read what: tokens, each with its scopes, from a file or from the environment. What is kept
//! of a token is its SHA-256, so none can be printed; digests are compared in constant time. Without
//! any tokens everything may be read, by whoever calls the loopback address by a loopback name.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use thiserror::Error;

/// What a token begins with in the setting if it is the name of a variable.
const VARIABLE: &str = "env:";
/// How short a token may be, in characters.
const SHORTEST: usize = 16;

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything but operations: also what says who did what.
    Identified,
    /// Views and progress.
    Anonymous,
    /// Metrics, health and progress.
    Operations,
}

impl Scope {
    const ALL: [(&'static str, Scope); 3] = [
        ("identified", Scope::Identified),
        ("anonymous", Scope::Anonymous),
        ("operations", Scope::Operations),
    ];
}

/// What a resource wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// No token: it says nothing of anybody.
    Nothing,
    /// Any token.
    Any,
    /// One that may read views.
    Anonymous,
    /// One that may read who did what.
    Identified,
    /// One of whoever operates the job.
    Operations,
}

impl Need {
    /// The scopes that will do, of which a token must have one.
    pub fn scopes(self) -> &'static [&'static str] {
        match self {
            Need::Nothing => &[],
            Need::Any => &["anonymous", "identified", "operations"],
            Need::Anonymous => &["anonymous", "identified"],
            Need::Identified => &["identified"],
            Need::Operations => &["operations"],
        }
    }
}

/// Why tokens cannot be had. No message has one in it.
#[derive(Debug, Error)]
#[allow(missing_docs)] // The messages say it.
pub enum TokensError {
    #[error("serve.tokens: {}: {source}", path.display())]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("serve.tokens: the environment has no variable {0} that is text")]
    NoVariable(String),
    #[error(
        "serve.tokens: {place}, line {line}: expected SCOPE[,SCOPE] TOKEN, with a token of at least {SHORTEST} \
         letters, digits and signs, and scopes of identified, anonymous, operations"
    )]
    Line { place: String, line: usize },
    #[error("serve.tokens: {0} has no token in it")]
    None(String),
}

/// All tokens, or none at all.
#[derive(Default)]
pub struct Access(Vec<([u8; 32], Scope)>);

/// What is wrong with who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no token.
    NoToken,
    /// Nobody has this token.
    Unknown,
    /// It is not good for this.
    Scope,
}

impl Access {
    /// Of the setting `serve.tokens`: a file, or `env:NAME`.
    ///
    /// # Errors
    /// It cannot be read, or says something else than tokens.
    pub fn of(setting: Option<&Path>) -> Result<Access, TokensError> {
        let Some(path) = setting else {
            return Ok(Access::default());
        };
        let place = path.display().to_string();
        let text = match variable(path) {
            Some(name) => {
                std::env::var(name).map_err(|_| TokensError::NoVariable(name.to_owned()))?
            }
            None => std::fs::read_to_string(path).map_err(|source| TokensError::Unreadable {
                path: path.to_owned(),
                source,
            })?,
        };
        Access::parse(&text, &place)
    }

    /// Of lines `SCOPE[,SCOPE] TOKEN`; empty ones and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// A line that says something else; no token at all.
    pub fn parse(text: &str, place: &str) -> Result<Access, TokensError> {
        let mut tokens = Vec::new();
        for (n, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = || TokensError::Line {
                place: place.to_owned(),
                line: n + 1,
            };
            let (scopes, token) = line.split_once(char::is_whitespace).ok_or_else(wrong)?;
            let token = token.trim();
            if token.len() < SHORTEST || !token.chars().all(|c| c.is_ascii_graphic()) {
                return Err(wrong());
            }
            for word in scopes.split(',') {
                let found = Scope::ALL.iter().find(|(name, _)| *name == word);
                let (_, scope) = found.ok_or_else(wrong)?;
                tokens.push((digest(token), *scope));
            }
        }
        if tokens.is_empty() {
            return Err(TokensError::None(place.to_owned()));
        }
        Ok(Access(tokens))
    }

    /// Whether there are no tokens, so that everything may be read.
    pub fn is_open(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether who has this token may read what needs this. Takes as long whatever the token is.
    ///
    /// # Errors
    /// It may not.
    pub fn check(&self, token: Option<&str>, need: Need) -> Result<(), Refused> {
        if self.is_open() || need == Need::Nothing {
            return Ok(());
        }
        let given = digest(token.ok_or(Refused::NoToken)?);
        let (mut known, mut good) = (false, false);
        for (digest, scope) in &self.0 {
            let differs = digest.iter().zip(&given);
            let differs = { differs }.fold(0, |bits, (a, b)| bits | (a ^ b));
            let same = std::hint::black_box(differs) == 0;
            known |= same;
            good |= same & suits(*scope, need);
        }
        match (known, good) {
            (_, true) => Ok(()),
            (true, false) => Err(Refused::Scope),
            (false, false) => Err(Refused::Unknown),
        }
    }
}

fn suits(scope: Scope, need: Need) -> bool {
    match need {
        Need::Nothing | Need::Any => true,
        Need::Anonymous => scope != Scope::Operations,
        Need::Identified => scope == Scope::Identified,
        Need::Operations => scope == Scope::Operations,
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The variable that the setting names, if it names one.
pub fn variable(setting: &Path) -> Option<&str> {
    setting.to_str()?.strip_prefix(VARIABLE)
}

/// Whether a host, as an address or a `Host` header has it, with or without a port, is this machine by
/// a name that nobody else can answer for.
pub fn is_loopback(host: &str) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(host, _)| host),
        None => match host.split_once(':') {
            // An IPv6 address without brackets has more than one.
            Some((name, port)) if !port.contains(':') => name,
            _ => host,
        },
    };
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "# who\n\nidentified  0123456789abcdef-i\nanonymous 0123456789abcdef-a\n\
                         operations,anonymous 0123456789abcdef-o\n";

    #[test]
    fn a_token_is_good_for_what_its_scopes_say() {
        let access = Access::parse(LINES, "tokens").unwrap();
        let token = |end: &str| format!("0123456789abcdef-{end}");
        let good = |end: &str, need| access.check(Some(&token(end)), need);
        for (end, needs) in [
            ("i", [Ok(()), Ok(()), Ok(()), Err(Refused::Scope)]),
            (
                "a",
                [Ok(()), Ok(()), Err(Refused::Scope), Err(Refused::Scope)],
            ),
            ("o", [Ok(()), Ok(()), Err(Refused::Scope), Ok(())]),
            ("x", [Err(Refused::Unknown); 4]),
        ] {
            let all = [
                Need::Any,
                Need::Anonymous,
                Need::Identified,
                Need::Operations,
            ];
            assert_eq!(all.map(|need| good(end, need)), needs, "{end}");
        }
        assert_eq!(access.check(None, Need::Any), Err(Refused::NoToken));
        assert_eq!(access.check(None, Need::Nothing), Ok(()));
        assert_eq!(access.check(Some(""), Need::Any), Err(Refused::Unknown));
        assert_eq!(Access::default().check(None, Need::Identified), Ok(()));
    }

    #[test]
    fn what_is_no_token_is_said_by_its_line_and_never_printed() {
        for (text, line) in [
            ("identified short-secret", 1),
            ("\nsomebody 0123456789abcdef-secret", 2),
            ("0123456789abcdef-secret", 1),
            ("anonymous 0123456789abcdef secret", 1),
        ] {
            let error = Access::parse(text, "f").err().unwrap().to_string();
            assert!(error.contains(&format!("f, line {line}: ")), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        let none = Access::parse("# nobody\n", "f").err().unwrap();
        assert_eq!(none.to_string(), "serve.tokens: f has no token in it");
    }

    #[test]
    fn loopback_is_known_by_its_names_and_numbers() {
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:80",
            "::1",
            "[::1]",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "0.0.0.0:80",
            "example.com",
            "localhost.example.com",
            "[::]:80",
            "127.0.0.1.nip.io",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
