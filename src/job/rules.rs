//! What must hold between settings. Each rule names both sides, and blames the one that was written
//! last: an option before the file, the file before a default.

use std::path::{Component, Path, PathBuf};

use super::error::printable;
use super::quantity::Milliseconds;
use super::{JobError, JobFile, Place, Problem};
use crate::serve::access::{is_loopback, variable};

/// Checks the rules. Only settings of which `sure` is true are looked at: what has an error of its
/// own has none here.
pub(super) fn check(file: &JobFile, sure: &dyn Fn(&str) -> bool) -> Vec<JobError> {
    let mut errors = Vec::new();
    let job = &file.job;
    let durations = [
        (
            "visits.inactivity",
            job.visits.inactivity,
            "visits.max_length",
            job.visits.max_length,
        ),
        ("time.tick", job.time.tick, "time.max_lag", job.time.max_lag),
    ];
    for (small, small_ms, large, large_ms) in durations {
        if small_ms > large_ms && sure(small) && sure(large) {
            errors.push(if weight(file.place(large)) > weight(file.place(small)) {
                let limit = origin(file, small, &Milliseconds(small_ms).to_string());
                file.wrong(large, format!("at least {limit}"))
            } else {
                let limit = origin(file, large, &Milliseconds(large_ms).to_string());
                file.wrong(small, format!("at most {limit}"))
            });
        }
    }
    if !1_000_u64.is_multiple_of(job.time.tick) && sure("time.tick") {
        // Visits are sealed at whole seconds, which must be ticks.
        errors.push(file.wrong(
            "time.tick",
            "a divisor of a second, such as \"100ms\" or \"250ms\"".to_owned(),
        ));
    }
    let served = job.serve.address.as_deref().unwrap_or("localhost");
    if !is_loopback(served)
        && job.serve.tokens.is_none()
        && sure("serve.address")
        && sure("serve.tokens")
    {
        errors.push(file.wrong(
            "serve.address",
            "a loopback address, such as \"127.0.0.1:8080\", or serve.tokens, which say who may read".to_owned(),
        ));
    }
    check_presence(file, sure, &mut errors);
    check_paths(file, sure, &mut errors);
    errors
}

/// What must be there, and what must not be there together.
fn check_presence(file: &JobFile, sure: &dyn Fn(&str) -> bool, errors: &mut Vec<JobError>) {
    let job = &file.job;
    let mut missing = |names: &[&str], key: &str, expected: &str| {
        if names.iter().all(|name| sure(name)) {
            errors.push(JobError {
                place: Place::in_file(&file.file, None),
                problem: Problem::Missing {
                    key: key.to_owned(),
                    expected: expected.to_owned(),
                },
            });
        }
    };
    let (source, outputs) = (&job.source, &job.outputs);
    if source.log.is_none() && source.kafka.is_none() {
        missing(
            &["source.log", "source.kafka"],
            "source.log",
            "the path of a folder, such as \"shop/log\"; or source.kafka",
        );
    }
    if source.kafka.is_some() && job.schemas.store.is_none() {
        missing(
            &["source.kafka", "schemas.store"],
            "schemas.store",
            "the path of a folder, since source.kafka is there",
        );
    }
    if outputs.log.is_none() && outputs.kafka.is_none() && outputs.files.is_none() {
        missing(
            &["outputs.log", "outputs.kafka", "outputs.files"],
            "outputs.files",
            "at least one of outputs.files, outputs.log and outputs.kafka",
        );
    }
    if outputs.kafka.is_some() && job.state.dir.is_none() {
        missing(
            &["outputs.kafka", "state.dir"],
            "state.dir",
            "the path of a folder, since outputs.kafka is there",
        );
    }
    if job.state.kafka.is_some() && job.state.dir.is_none() && outputs.kafka.is_none() {
        missing(
            &["state.kafka", "state.dir"],
            "state.dir",
            "the path of a folder, since state.kafka is there",
        );
    }
    let pairs = [
        (
            ("source.kafka", source.kafka.is_some()),
            ("source.log", source.log.is_some()),
        ),
        (
            ("outputs.kafka", outputs.kafka.is_some()),
            ("outputs.log", outputs.log.is_some()),
        ),
    ];
    for (kafka, log) in pairs {
        if kafka.1 && log.1 && sure(kafka.0) && sure(log.0) {
            let (blamed, other) = if weight(file.place(log.0)) > weight(file.place(kafka.0)) {
                (log.0, kafka.0)
            } else {
                (kafka.0, log.0)
            };
            let expected = format!("not both {kafka} and {log}", kafka = kafka.0, log = log.0);
            let from = file.place(other).short();
            errors.push(file.wrong(blamed, format!("{expected} ({other}: {from})")));
        }
    }
}

/// What is written must lie apart from all that is read, and from all else that is written.
fn check_paths(file: &JobFile, sure: &dyn Fn(&str) -> bool, errors: &mut Vec<JobError>) {
    let job = &file.job;
    let place = |name: &'static str, path: Option<&Path>| {
        let path = path.filter(|path| sure(name) && !path.as_os_str().is_empty())?;
        Some((name, path.to_owned(), resolved(path)))
    };
    let tokens = job.serve.tokens.as_deref();
    let tokens = tokens.filter(|path| variable(path).is_none());
    let read = [
        place("source.log", job.source.log.as_deref()),
        place("schemas.store", job.schemas.store.as_deref()),
        place("schemas.reader", job.schemas.reader.as_deref()),
        place("enrich.geoip", job.enrich.geoip.as_deref()),
        place("enrich.user_agents", job.enrich.user_agents.as_deref()),
        place("enrich.robots", job.enrich.robots.as_deref()),
        place("privacy.salts", job.privacy.salts.as_deref()),
        place("serve.tokens", tokens),
        place("profiles.forgotten", job.profiles.forgotten.as_deref()),
    ];
    let written = [
        place("outputs.log", job.outputs.log.as_deref()),
        place("outputs.files", job.outputs.files.as_deref()),
        place("state.dir", job.state.dir.as_deref()),
        place("observe.frontier_log", job.observe.frontier_log.as_deref()),
    ];
    let written: Vec<_> = written.into_iter().flatten().collect();
    for (i, output) in written.iter().enumerate() {
        for other in read.iter().flatten().chain(&written[..i]) {
            let other_is_later = weight(file.place(other.0)) > weight(file.place(output.0));
            let (blamed, apart) = if other_is_later {
                (other, output)
            } else {
                (output, other)
            };
            let relation = if blamed.2.starts_with(&apart.2) {
                "is not in"
            } else if apart.2.starts_with(&blamed.2) {
                "does not hold"
            } else {
                continue;
            };
            let apart = origin(file, apart.0, &printable(&apart.1.to_string_lossy()));
            errors.push(file.wrong(blamed.0, format!("a path that {relation} {apart}")));
        }
    }
}

/// The other side of a rule, with its value and where that comes from.
fn origin(file: &JobFile, name: &str, value: &str) -> String {
    format!("{name}, which is {value} ({})", file.place(name).short())
}

fn weight(place: &Place) -> u8 {
    match place {
        Place::Default => 0,
        Place::File { .. } => 1,
        Place::Option(_) => 2,
    }
}

/// A path that can be compared with others: absolute, without `.` and `..`, and without links as
/// far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for ancestor in absolute.ancestors() {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), absolute.strip_prefix(ancestor)) {
            let mut whole = real;
            for component in rest.components() {
                match component {
                    Component::ParentDir => {
                        whole.pop();
                    }
                    Component::CurDir => {}
                    other => whole.push(other),
                }
            }
            return whole;
        }
    }
    absolute
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_as_the_places_they_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("log")).unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(real.join("log"), real.join("link")).unwrap();
            assert_eq!(resolved(&real.join("link/new/../x")), real.join("log/x"));
        }
        assert_eq!(
            resolved(&real.join("./none/../log/a/./b")),
            real.join("log/a/b")
        );
        assert_eq!(
            resolved(Path::new("none")),
            resolved(Path::new("x/../none"))
        );
    }
}
