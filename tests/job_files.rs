//! Job files and the command line, seen as a user sees them: each case is a file and options, and
//! what the program then prints and returns.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use visitflow::job::{
    JobFile, Override, SETTINGS, explain, settings_as_markdown, view_keys_as_markdown,
};

/// The least job there is, 4 lines.
const LEAST: &str = "[source]\nlog = 'log'\n[outputs]\nfiles = 'tables'\n";

/// A folder with a log, a file, and whatever a test writes as `job.toml`.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        Folder(dir)
    }

    fn check(&self, text: impl AsRef<[u8]>, options: &[&str]) -> Output {
        fs::write(self.0.path().join("job.toml"), text).unwrap();
        self.visitflow(&[&["check", "job.toml"], options].concat())
    }

    fn visitflow(&self, args: &[&str]) -> Output {
        let program = env!("CARGO_BIN_EXE_visitflow");
        Command::new(program)
            .current_dir(self.0.path())
            .args(args)
            .output()
            .unwrap()
    }
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Checks a file and options of which something is wrong, against the lines that a user sees.
#[track_caller]
fn wrong(file: impl AsRef<[u8]>, options: &[&str], seen: &[&str]) {
    let output = Folder::new().check(file, options);
    let lines: Vec<String> = text(&output.stderr).lines().map(str::to_owned).collect();
    let seen: Vec<String> = seen.iter().map(|line| format!("error: {line}")).collect();
    assert_eq!(lines, seen);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
}

/// As [`wrong`], with the least job in front, so that the file goes on in line 5.
#[track_caller]
fn wrong_after_least(more: &str, seen: &[&str]) {
    wrong(format!("{LEAST}{more}"), &[], seen);
}

#[test]
fn what_is_not_toml() {
    for (more, seen) in [
        (
            "[visits]\ninactivity = 30min\n",
            "job.toml:6:14: visits.inactivity = 30min: not TOML: a text needs quotes: \"30min\"",
        ),
        (
            "[schemas]\nstore = /srv/schemas # all of them\n",
            "job.toml:6:9: schemas.store = /srv/schemas: not TOML: a text needs quotes: \"/srv/schemas\"",
        ),
        (
            "[visits]\nmax_size =\n",
            "job.toml:6:11: visits.max_size = : not TOML: a value is missing, such as 100_000",
        ),
        (
            "[visits]\nmax_size = 1_\n",
            "job.toml:6:13: visits.max_size = 1_: not TOML: `_` may only go between digits, expected nothing",
        ),
        (
            "[visits]\ninactivity = \"1h\n",
            "job.toml:6:17: visits.inactivity = \"1h: not TOML: invalid basic string, expected `\"`",
        ),
        (
            "[limits]\nmax_record = 1_271KiB\n",
            "job.toml:6:14: limits.max_record = 1_271KiB: not TOML: a text needs quotes: \"1_271KiB\"",
        ),
        (
            "[visits\n",
            "job.toml:5:8: not TOML: unclosed table, expected `]`",
        ),
        (
            "visits\n",
            "job.toml:5:7: not TOML: key with no value, expected `=`",
        ),
        ("[outputs]\n", "job.toml:5:2: not TOML: duplicate key"),
        ("files = 'twice'\n", "job.toml:5:1: not TOML: duplicate key"),
    ] {
        wrong_after_least(more, &[seen]);
    }
}

#[test]
fn files_that_cannot_be_read() {
    let folder = Folder::new();
    for (file, seen) in [
        (
            "none.toml",
            "error: none.toml: expected a job file, but it cannot be read: No such file or directory (os error 2)\n",
        ),
        (
            "log",
            "error: log: expected a job file, but it cannot be read: Is a directory (os error 21)\n",
        ),
    ] {
        let output = folder.visitflow(&["check", file]);
        assert_eq!(text(&output.stderr), seen);
        assert_eq!(output.status.code(), Some(2));
    }
    wrong(
        b"[source]\nlog = 'l\xE4den'\n",
        &[],
        &["job.toml:2:9: expected a text file in UTF-8; this byte is not"],
    );
    wrong(
        vec![b'\n'; 300_000],
        &[],
        &["job.toml: expected a job file of at most 262144 bytes"],
    );
}

#[test]
fn an_unreadable_file_does_not_hide_wrong_options() {
    let output = Folder::new().visitflow(&["check", "none.toml", "--set", "workers=0"]);
    let seen = "error: --set workers=0: expected a whole number from 1 to 256\n\
                error: none.toml: expected a job file, but it cannot be read: No such file or directory (os error 2)\n";
    assert_eq!(text(&output.stderr), seen);
}

#[test]
fn settings_that_do_not_exist() {
    let sections = "the sections are source, schemas, visits, time, limits, enrich, outputs, state, attribution, profiles, privacy, observe, serve";
    for (more, seen) in [
        (
            "[visits]\ninactivty = '1h'\n",
            "job.toml:6:1: unknown setting visits.inactivty; did you mean visits.inactivity?",
        ),
        (
            "[visits]\ngap = '1h'\n",
            "job.toml:6:1: unknown setting visits.gap; [visits] has inactivity, max_length, max_size, max_delay",
        ),
        (
            "[visit]\nmax_length = '1h'\n",
            "job.toml:6:1: unknown setting visit.max_length; did you mean visits.max_length?",
        ),
        (
            "[quux]\nquuz = []\n",
            &format!("job.toml:6:1: unknown setting quux.quuz; {sections}"),
        ),
        (
            "[quux]\n",
            &format!("job.toml:5:2: unknown setting quux; {sections}"),
        ),
        (
            "[visits.inactivity]\nlong = '1h'\n",
            "job.toml:5:1: visits.inactivity = [visits.inactivity]: expected a duration from 1ms to 366d, \
             such as \"30min\" or \"1h 30m\"",
        ),
        (
            "[[visits]]\ninactivity = '1h'\n",
            "job.toml:5:1: visits = [[visits]]: expected a section [visits] with settings in it",
        ),
        (
            "[visits]\ninactivity = '1h'\n\"\\u001b[2J\" = 1\n",
            "job.toml:7:1: unknown setting visits.\\u{1b}[2J; [visits] has inactivity, max_length, max_size, max_delay",
        ),
    ] {
        wrong_after_least(more, &[seen]);
    }
    wrong(
        "worker = 2\nvisits = '1h'\n[source]\nlog = 'log'\n[outputs]\nfiles = 'tables'\n",
        &[],
        &[
            "job.toml:1:1: unknown setting worker; did you mean workers?",
            "job.toml:2:10: visits = '1h': expected a section [visits] with settings in it",
        ],
    );
}

#[test]
fn values_of_the_wrong_form() {
    let duration = "expected a duration from 1ms to 366d, such as \"30min\" or \"1h 30m\"";
    let units = "one of ms, s, min, h, d, w";
    let roles = "expected one of browser_id, event_id, event_time, cause, entity, entity_id, effect, reason, \
                 customer_id, ip, user_agent, url, referrer, value, variant";
    for (more, seen) in [
        (
            "[visits]\ninactivity = 30\n",
            format!("job.toml:6:14: visits.inactivity = 30: {duration}; 30 has no unit, which is {units}"),
        ),
        (
            "[visits]\ninactivity = '30 parsecs'\n",
            format!(
                "job.toml:6:14: visits.inactivity = '30 parsecs': {duration}; parsecs is not a unit, which is {units}"
            ),
        ),
        (
            "[visits]\ninactivity = '5m 1h'\n",
            format!(
                "job.toml:6:14: visits.inactivity = '5m 1h': {duration}; \
                 1h comes after a part with the same or a smaller unit"
            ),
        ),
        ("[visits]\ninactivity = true\n", format!("job.toml:6:14: visits.inactivity = true: {duration}")),
        ("[visits]\ninactivity = 1.5\n", format!("job.toml:6:14: visits.inactivity = 1.5: {duration}")),
        (
            "[visits]\nmax_size = '5'\n",
            "job.toml:6:12: visits.max_size = '5': expected a whole number from 1 to 10_000_000, such as 100_000"
                .to_owned(),
        ),
        (
            "[limits]\nmax_record = '1 furlong'\n",
            "job.toml:6:14: limits.max_record = '1 furlong': expected a size from 1kB to 64MB, such as \"64MB\" or \
             \"1 GiB\"; furlong is not a unit, which is one of B, kB, MB, GB, TB, KiB, MiB, GiB, TiB"
                .to_owned(),
        ),
        (
            "[limits]\nmax_record = [1]\n",
            "job.toml:6:14: limits.max_record = [1]: expected a size from 1kB to 64MB, such as \"64MB\" or \"1 GiB\""
                .to_owned(),
        ),
        (
            "replace = 'yes'\n",
            "job.toml:5:11: outputs.replace = 'yes': expected true or false".to_owned(),
        ),
        (
            "[serve]\naddress = 8080\n",
            "job.toml:6:11: serve.address = 8080: expected HOST:PORT, such as \"127.0.0.1:8080\"".to_owned(),
        ),
        (
            "[serve]\naddress = 'localhost:http'\n",
            "job.toml:6:11: serve.address = 'localhost:http': expected HOST:PORT, such as \"127.0.0.1:8080\""
                .to_owned(),
        ),
        (
            "[serve]\naddress = '0.0.0.0:8080'\n",
            "job.toml:6:11: serve.address = '0.0.0.0:8080': expected a loopback address, such as \"127.0.0.1:8080\", \
             or serve.tokens, which say who may read"
                .to_owned(),
        ),
        (
            "log = 7\n",
            "job.toml:5:7: outputs.log = 7: expected the path of a folder, such as \"shop/log\"".to_owned(),
        ),
        (
            "log = ''\n",
            "job.toml:5:7: outputs.log = '': expected the path of a folder, such as \"shop/log\"".to_owned(),
        ),
        (
            "log = '~/results'\n",
            "job.toml:5:7: outputs.log = '~/results': expected the path of a folder, such as \"shop/log\"; \
             only a shell knows what ~ is"
                .to_owned(),
        ),
        (
            "[enrich]\ngeoip = 2024-01-01\n",
            "job.toml:6:9: enrich.geoip = 2024-01-01: expected the path of a file, such as \"data/countries.mmdb\""
                .to_owned(),
        ),
        (
            "[schemas]\nroles = 'browser_id'\n",
            format!(
                "job.toml:6:9: schemas.roles = 'browser_id': expected a section of field paths, each with {}, \
                 such as \"visitor.id\" = \"browser_id\"",
                roles.trim_start_matches("expected ")
            ),
        ),
        (
            "[schemas.roles]\nvisitor.id = 'browserid'\n",
            format!(
                "job.toml:6:14: schemas.roles.visitor.id = 'browserid': {roles}; did you mean browser_id?"
            ),
        ),
        (
            "[schemas.roles]\n'visitor.id' = 7\n",
            format!("job.toml:6:16: schemas.roles.visitor.id = 7: {roles}"),
        ),
        (
            "[schemas.privacy]\n'visitor.id' = 'mask'\n",
            "job.toml:6:16: schemas.privacy.visitor.id = 'mask': \
             expected one of keep, pseudonymize, generalize, drop"
                .to_owned(),
        ),
        (
            "[schemas.privacy]\n'visitor..id' = 'keep'\n",
            "job.toml:6:17: schemas.privacy.visitor..id = 'keep': expected a section of field paths, each with one of \
             keep, pseudonymize, generalize, drop, such as \"visitor.id\" = \"pseudonymize\""
                .to_owned(),
        ),
        (
            "[schemas]\nroles.a.b = 'ip'\nroles.'a.b' = 'url'\n",
            "job.toml:7:15: schemas.roles.a.b is set twice, first in line 6".to_owned(),
        ),
    ] {
        wrong_after_least(more, &[&seen]);
    }
    for (more, seen) in [
        (
            "topic = 'a/b'",
            "job.toml:3:9: source.topic = 'a/b': expected a name of letters, digits, `.`, `_` and `-`, at most 200",
        ),
        (
            "clock = 'logtime'",
            "job.toml:3:9: source.clock = 'logtime': expected one of log_time, event_time; did you mean log_time?",
        ),
    ] {
        let file = format!("[source]\nlog = 'log'\n{more}\n[outputs]\nfiles = 'tables'\n");
        wrong(file, &[], &[seen]);
    }
}

#[test]
fn values_out_of_range() {
    for (more, seen) in [
        (
            "[visits]\ninactivity = '0s'\n",
            "job.toml:6:14: visits.inactivity = '0s': expected a duration from 1ms to 366d",
        ),
        (
            "[visits]\nmax_length = '99999999999999999999h'\n",
            "job.toml:6:14: visits.max_length = '99999999999999999999h': expected a duration from 1ms to 366d",
        ),
        (
            "[visits]\nmax_size = 0\n",
            "job.toml:6:12: visits.max_size = 0: expected a whole number from 1 to 10_000_000",
        ),
        (
            "[visits]\nmax_size = -1\n",
            "job.toml:6:12: visits.max_size = -1: expected a whole number from 1 to 10_000_000",
        ),
        (
            "[visits]\nmax_size = 99999999999999999999\n",
            "job.toml:6:12: visits.max_size = 99999999999999999999: expected a whole number from 1 to 10_000_000",
        ),
        (
            "[limits]\nmax_record = '1 GiB'\n",
            "job.toml:6:14: limits.max_record = '1 GiB': expected a size from 1kB to 64MB",
        ),
        (
            "partitions = 12\n",
            "job.toml:5:14: outputs.partitions = 12: expected a power of two from 1 to 256",
        ),
        (
            "partitions = 512\n",
            "job.toml:5:14: outputs.partitions = 512: expected a power of two from 1 to 256",
        ),
    ] {
        wrong_after_least(more, &[seen]);
    }
}

#[test]
fn settings_that_disagree() {
    for (more, seen) in [
        (
            "[visits]\ninactivity = '25h'\n",
            "job.toml:6:14: visits.inactivity = '25h': expected at most visits.max_length, which is 24h (default)",
        ),
        (
            "[visits]\nmax_length = '10min'\n",
            "job.toml:6:14: visits.max_length = '10min': expected at least visits.inactivity, which is 30min (default)",
        ),
        (
            "[visits]\nmax_length = '10min'\ninactivity = '20min'\n",
            "job.toml:7:14: visits.inactivity = '20min': expected at most visits.max_length, which is 10min \
             (job.toml:6)",
        ),
        (
            "[time]\nmax_lag = '50ms'\n",
            "job.toml:6:11: time.max_lag = '50ms': expected at least time.tick, which is 100ms (default)",
        ),
        (
            "[time]\ntick = '300ms'\n",
            "job.toml:6:8: time.tick = '300ms': expected a divisor of a second, such as \"100ms\" or \"250ms\"",
        ),
        (
            "log = 'log/results'\n",
            "job.toml:5:7: outputs.log = 'log/results': expected a path that is not in source.log, \
             which is log (job.toml:2)",
        ),
        (
            "log = './x/../log'\n",
            "job.toml:5:7: outputs.log = './x/../log': expected a path that is not in source.log, \
             which is log (job.toml:2)",
        ),
        (
            "log = 'tables/results'\n",
            "job.toml:4:9: outputs.files = 'tables': expected a path that does not hold outputs.log, \
             which is tables/results (job.toml:5)",
        ),
        (
            "[privacy]\nsalts = 'tables/salts'\n",
            "job.toml:4:9: outputs.files = 'tables': expected a path that does not hold privacy.salts, \
             which is tables/salts (job.toml:6)",
        ),
        (
            "[observe]\nfrontier_log = 'tables/frontier.jsonl'\n",
            "job.toml:6:16: observe.frontier_log = 'tables/frontier.jsonl': expected a path that is not in \
             outputs.files, which is tables (job.toml:4)",
        ),
    ] {
        wrong_after_least(more, &[seen]);
    }
}

#[test]
fn settings_that_are_missing() {
    let log = "job.toml: source.log is missing: expected the path of a folder, such as \"shop/log\"; or \
               source.kafka";
    let outputs = "job.toml: outputs.files is missing: expected at least one of outputs.files, outputs.log and \
                   outputs.kafka";
    let store = "job.toml: schemas.store is missing: expected the path of a folder, since source.kafka is there";
    let state = "job.toml: state.dir is missing: expected the path of a folder, since outputs.kafka is there";
    wrong("", &[], &[log, outputs]);
    wrong("[outputs]\nlog = 'results'\n", &[], &[log]);
    wrong("[source]\nlog = 'log'\n", &[], &[outputs]);
    let kafka = "[source]\nkafka = 'b:9092'\n[outputs]\nkafka = 'b:9092'\n";
    wrong(kafka, &[], &[store, state]);
    let journal =
        "job.toml: state.dir is missing: expected the path of a folder, since state.kafka is there";
    wrong(
        "[source]\nlog = 'log'\n[outputs]\nfiles = 'tables'\n[state]\nkafka = 'b:9092'\n",
        &[],
        &[journal],
    );
}

#[test]
fn a_log_and_kafka_are_not_both_there() {
    wrong(
        "[source]\nlog = 'log'\nkafka = 'b:9092'\n[outputs]\nfiles = 'tables'\n[schemas]\nstore = 'log'\n",
        &[],
        &[
            "job.toml:3:9: source.kafka = 'b:9092': expected not both source.kafka and source.log (source.log: job.toml:2)",
        ],
    );
}

#[test]
fn options_that_are_wrong() {
    for (option, seen) in [
        (
            "visits.inactivity",
            "expected --set key=value, such as --set visits.inactivity=1h",
        ),
        (
            "=1h",
            "expected --set key=value, such as --set visits.inactivity=1h",
        ),
        (
            "visits inactivity=1h",
            "expected --set key=value, such as --set visits.inactivity=1h",
        ),
        (
            "visits.inactivity=0s",
            "expected a duration from 1ms to 366d",
        ),
        (
            "visits.inactivity=",
            "expected a duration from 1ms to 366d, such as \"30min\" or \"1h 30m\"; \
             nothing is written there",
        ),
        (
            "visits.inactivty=1h",
            "unknown setting visits.inactivty; did you mean visits.inactivity?",
        ),
        ("outputs.replace=yes", "expected true or false"),
        (
            "outputs=3",
            "outputs = 3: expected a section [outputs] with settings in it",
        ),
        (
            "visits={max_size=0}",
            "visits.max_size = 0: expected a whole number from 1 to 10_000_000",
        ),
        (
            "visits.inactivity=25h",
            "expected at most visits.max_length, which is 24h (default)",
        ),
        (
            "source.log=tables/log",
            "expected a path that is not in outputs.files, which is tables (job.toml:4)",
        ),
        (
            "outputs.files=file",
            "expected a folder, but DIR/file is a file",
        ),
    ] {
        let output = Folder::new();
        let here = output.0.path().canonicalize().unwrap();
        let output = output.check(LEAST, &["--set", option]);
        // What does not exist is a second error of source.log.
        let first = text(&output.stderr)
            .lines()
            .next()
            .unwrap()
            .replace(here.to_str().unwrap(), "DIR");
        assert_eq!(first, format!("error: --set {option}: {seen}"));
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn an_option_that_stands_for_a_setting_is_named_as_it_was_written() {
    for (workers, seen) in [
        ("0", "--workers 0: expected a whole number from 1 to 256"),
        (
            "two",
            "--workers two: expected a whole number from 1 to 256, such as 4",
        ),
    ] {
        let over = Override::option("--workers", "workers", workers);
        let errors = JobFile::parse(LEAST, Path::new("job.toml"), &[over]).unwrap_err();
        assert_eq!(errors.to_string(), seen);
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let folder = Folder::new();
    for (args, first) in [
        (&["fly"][..], "error: unrecognized subcommand 'fly'"),
        (&["chekc"], "error: unrecognized subcommand 'chekc'"),
        (
            &["check"],
            "error: the following required arguments were not provided:",
        ),
        (
            &["run", "job.toml", "--wrokers", "2"],
            "error: unexpected argument '--wrokers' found",
        ),
        (
            &["generate", "--log", "made", "--events", "many"],
            "error: invalid value 'many' for '--events <N>': expected a whole number, such as 1_000_000",
        ),
        (
            &[
                "import",
                "combined",
                "a.log",
                "--log",
                "made",
                "--partitions",
                "12",
            ],
            "error: invalid value '12' for '--partitions <N>': expected a power of two from 1 to 256",
        ),
    ] {
        let output = folder.visitflow(args);
        assert_eq!(text(&output.stderr).lines().next(), Some(first));
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn places_that_are_not_there() {
    for (more, seen) in [
        (
            "[schemas]\nstore = 'none'\n",
            "job.toml:6:9: schemas.store = 'none': expected a folder that can be read, but there is none",
        ),
        (
            "[schemas]\nstore = 'file'\n",
            "job.toml:6:9: schemas.store = 'file': expected a folder that can be read, \
             but this, or what it is in, is a file",
        ),
        (
            "[enrich]\nrobots = 'none.json'\n",
            "job.toml:6:10: enrich.robots = 'none.json': expected a file that can be read, but there is none",
        ),
        (
            "[enrich]\nrobots = 'log'\n",
            "job.toml:6:10: enrich.robots = 'log': expected a file that can be read, but this is a folder",
        ),
        (
            "[observe]\nfrontier_log = '.'\n",
            "job.toml:6:16: observe.frontier_log = '.': expected a path that does not hold source.log, \
             which is log (job.toml:2)",
        ),
    ] {
        let output = Folder::new().check(format!("{LEAST}{more}"), &[]);
        let first = text(&output.stderr).lines().next().unwrap().to_owned();
        assert_eq!(first, format!("error: {seen}"));
    }
}

#[test]
fn everything_is_said_at_once_in_the_order_of_the_file_then_of_the_options() {
    wrong(
        "name = 'a b'\n[source]\nlgo = 'log'\n[visits]\ninactivity = 30min\nmax_size = 0\n[outputs]\nfiles = 'tables'\n",
        &[
            "--set",
            "source.log=none",
            "--set",
            "time.tick=7ms",
            "--set",
            "nothing",
        ],
        &[
            "job.toml:1:8: name = 'a b': expected a name of letters, digits, `.`, `_` and `-`, at most 200",
            "job.toml:3:1: unknown setting source.lgo; did you mean source.log?",
            "job.toml:5:14: visits.inactivity = 30min: not TOML: a text needs quotes: \"30min\"",
            "job.toml:6:12: visits.max_size = 0: expected a whole number from 1 to 10_000_000",
            "--set nothing: expected --set key=value, such as --set visits.inactivity=1h",
            "--set time.tick=7ms: expected a divisor of a second, such as \"100ms\" or \"250ms\"",
            "--set source.log=none: expected a folder that can be read, but there is none",
        ],
    );
}

#[test]
fn columns_count_characters() {
    wrong(
        "[source]\nlog = 'log'\n[outputs]\nfiles = 'tables'\n[schemas.roles]\n'läden.ä' = 'x'\n",
        &["--set", "workers=0"],
        &[
            "job.toml:6:13: schemas.roles.läden.ä = 'x': expected one of browser_id, event_id, event_time, cause, \
             entity, entity_id, effect, reason, customer_id, ip, user_agent, url, referrer, value, variant",
            "--set workers=0: expected a whole number from 1 to 256",
        ],
    );
}

#[test]
fn what_is_in_force_and_where_it_comes_from() {
    let file = format!(
        "{LEAST}[visits]\nmax_length = '36 hours'\n[schemas.roles]\nbrowser_id = 'browser_id'\n"
    );
    let options = ["--set", "visits.inactivity=1h 30m", "--set", "workers=3"];
    let output = Folder::new().check(file, &options);
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
    let seen = "\
ok

setting                   value                                        from
name                      job                                          default
workers                   3                                            --set
kafka                     librdkafka's own                             default
source.log                log                                          job.toml:2
source.kafka              no Kafka                                     default
source.topic              measurements                                 default
source.follow             false                                        default
source.clock              log_time                                     default
schemas.store             log/schemas                                  default
schemas.reader            the built-in measurement                     default
schemas.roles.browser_id  browser_id                                   job.toml:8
schemas.privacy           as the schemas say                           default
visits.inactivity         1h 30min                                     --set
visits.max_length         36h                                          job.toml:6
visits.max_size           100_000                                      default
visits.max_delay          2min                                         default
time.tick                 100ms                                        default
time.max_lag              5s                                           default
time.max_ahead            5min                                         default
limits.max_record         1MB                                          default
enrich.geoip              no countries                                 default
enrich.user_agents        the built-in rules                           default
enrich.robots             the built-in list                            default
enrich.robots_over        2_000                                        default
outputs.log               no topics                                    default
outputs.kafka             no Kafka                                     default
outputs.schemas           `schemas` in outputs.log, else in state.dir  default
outputs.partitions        16                                           default
outputs.files             tables                                       job.toml:4
outputs.file_size         256MB                                        default
outputs.file_age          5min                                         default
outputs.replace           false                                        default
state.dir                 none: a run cannot go on where another was   default
state.kafka               `journal` in state.dir                       default
state.memory              1GB                                          default
state.snapshots           1min                                         default
attribution.look_back     30d                                          default
attribution.browsers      1_000_000                                    default
attribution.customers     1_000_000                                    default
profiles.enabled          false                                        default
profiles.retention        365d                                         default
profiles.forgotten        nobody                                       default
privacy.salts             no anonymized twins                          default
observe.frontier_log      not written                                  default
serve.address             not served                                   default
serve.tokens              none: only this machine is answered          default
serve.history             5min                                         default
serve.subscribers         1_000                                        default
serve.rows                10_000                                       default
serve.timeout             10s                                          default
";
    assert_eq!(text(&output.stdout), seen);
}

#[test]
fn an_option_goes_before_the_file_and_a_later_one_before_an_earlier() {
    let file = format!("{LEAST}[visits]\ninactivity = '1h'\nmax_size = 7\n");
    let sets = [
        "visits.inactivity=2h",
        "visits={inactivity='3h', max_delay=0}",
        "outputs.log=12",
        "limits.max_record=1_271KiB",
    ]
    .map(Override::set);
    let job = JobFile::parse(&file, Path::new("job.toml"), &sets)
        .unwrap()
        .job;
    assert_eq!(job.visits.inactivity, 3 * 3_600_000);
    assert_eq!((job.visits.max_size, job.visits.max_delay), (7, 0));
    assert_eq!(job.limits.max_record, 1_271 * 1_024);
    // It looks like a number, but a folder may have that name.
    assert_eq!(job.outputs.log, Some("12".into()));
}

#[test]
fn a_right_option_does_not_excuse_a_wrong_line() {
    let sets = [Override::set("visits.inactivity=2h")];
    let file = format!("{LEAST}[visits]\ninactivity = 'soon'\n");
    let errors = JobFile::parse(&file, Path::new("job.toml"), &sets).unwrap_err();
    assert!(
        errors
            .to_string()
            .starts_with("job.toml:6:14: visits.inactivity = 'soon'"),
        "{errors}"
    );
}

#[test]
fn every_example_is_right_in_itself() {
    let mut seen = 0;
    for entry in fs::read_dir(root("examples/jobs")).unwrap() {
        let path = entry.unwrap().path();
        let file = JobFile::load(&path, &[]).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(
            Some(file.job.name.as_str()),
            path.file_stem().unwrap().to_str()
        );
        seen += 1;
    }
    assert!(seen >= 3, "{seen} examples");
}

/// Holds a table in a page against what the program says; `UPDATE_DOCS=1` writes it there.
fn table_of_page(page: &str, from: &str, to: &str, table: &str) {
    let page = root(page);
    let text = fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(from).expect("the beginning of the table");
    let (_, after) = rest.split_once(to).expect("the end of the table");
    let right = format!("{before}{from}{table}{to}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&page, &right).unwrap();
    } else {
        assert_eq!(
            text, right,
            "UPDATE_DOCS=1 cargo test --test job_files writes the table"
        );
    }
}

#[test]
fn the_page_about_job_files_has_the_table_of_settings() {
    let from = "cargo test --test job_files -->\n";
    let to = "<!-- end of settings -->";
    table_of_page("docs/job-file.md", from, to, &settings_as_markdown());
}

#[test]
fn the_page_about_views_has_the_table_of_keys() {
    let from = "cargo test --test job_files -->\n";
    table_of_page(
        "docs/views.md",
        from,
        "<!-- end of keys -->",
        &view_keys_as_markdown(),
    );
}

#[test]
fn everything_that_is_wrong_with_views_is_said_at_once_and_where() {
    let text = "[source]\nlog = 'l'\n[outputs]\nfiles = 'f'\n\
        [[view]]\nname = 'a b'\nkey = ['entity_id', 'entry']\nvalues = ['count', 'orders']\nwindw = '1h'\n\
        [[view]]\nof = 'funnel'\ntop = 0\n\
        [[view]]\nname = 'c'\nvalues = ['count', 'usual']\nwindow = '10min'\nstep = '7s'\npeople = 'yes'\n\
        [[view]]\nname = 'd'\n[[view]]\nname = 'd'\n";
    let errors = JobFile::parse(text, "shop.toml".as_ref(), &[]).unwrap_err();
    let said: Vec<String> = errors.to_string().lines().map(str::to_owned).collect();
    for expected in [
        "shop.toml:6:8: view.name = 'a b': expected a name",
        "view.key = ['entity_id', 'entry']: expected fields of such a view: effect, entity,",
        "view.values = ['count', 'orders']: expected count, count:EFFECT,",
        "shop.toml:9:1: unknown setting view.windw; did you mean window?",
        "view.name is missing",
        "view.steps is missing: expected the steps of a funnel",
        "view.top = 0: expected a whole number from 1 to 10,000",
        "view.c.window = '10min': expected a multiple of 7s",
        "view.c.people = 'yes': expected true or false",
        "view.c.against is missing",
        "view.name = d: expected a name that no other view has",
    ] {
        assert!(
            said.iter().any(|line| line.contains(expected)),
            "{expected}\n{errors}"
        );
    }
}

#[test]
fn the_explanation_names_every_setting() {
    let output = Folder::new().visitflow(&["check", "--explain"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), explain());
    for setting in SETTINGS {
        assert!(
            explain().lines().any(|line| line == setting.name),
            "{}",
            setting.name
        );
    }
    assert!(explain().lines().all(|line| line.chars().count() <= 100));
}
