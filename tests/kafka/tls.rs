//! Kafka over TLS, with a client's certificate and with SCRAM: what is written is read, a whole job
//! runs, and whoever has set a property wrongly is told which one. No password is ever shown.
//!
//! Wants a program that was built with `--features tls`.

use std::process::{Command, Output};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use visitflow::kafka::{
    Batch, Connection, KafkaError, Options, Patience, Progress, Transactions, create, describe,
    fence,
};

use crate::broker::{open, patience, progress_topic, read_all};
use crate::cluster::Cluster;

/// What no output may hold.
pub const PASSWORD: &str = "hush-hush";

static CLUSTER: OnceLock<Option<Secured>> = OnceLock::new();

/// A broker with TLS, and a client's key that is encrypted with [`PASSWORD`].
pub struct Secured {
    cluster: Cluster,
    key: tempfile::NamedTempFile,
}

pub fn secured() -> Option<&'static Secured> {
    let start = || {
        let cluster = Cluster::start(&["--tls"], "scram_password")?;
        let key = tempfile::NamedTempFile::new().unwrap();
        let encrypted = Command::new("openssl")
            .args(["pkey", "-aes256", "-passout"])
            .arg(format!("pass:{PASSWORD}"))
            .args(["-in", cluster.said("ssl_key"), "-out"])
            .arg(key.path())
            .status();
        assert!(encrypted.unwrap().success());
        Some(Secured { cluster, key })
    };
    CLUSTER.get_or_init(start).as_ref()
}

impl Secured {
    /// A client that trusts the broker and has nothing to show itself.
    fn anonymous(&self) -> Connection {
        Connection::to(self.cluster.said("ssl_bootstrap"))
            .with("security.protocol", "ssl")
            .with("ssl.ca.location", self.cluster.said("ssl_ca"))
    }

    fn key(&self) -> &str {
        self.key.path().to_str().unwrap()
    }

    fn certified(&self, password: &str) -> Connection {
        let certificate = self.cluster.said("ssl_certificate");
        self.anonymous()
            .with("ssl.certificate.location", certificate)
            .with("ssl.key.location", self.key())
            .with("ssl.key.password", password)
    }

    pub fn by_password(&self, password: &str) -> Connection {
        Connection::to(self.cluster.said("scram_bootstrap"))
            .with("security.protocol", "sasl_ssl")
            .with("ssl.ca.location", self.cluster.said("ssl_ca"))
            .with("sasl.mechanism", "SCRAM-SHA-256")
            .with("sasl.username", self.cluster.said("scram_user"))
            .with("sasl.password", password)
    }
}

/// Creates topics, writes with transactions that others are fenced from, and reads committed records.
pub fn all_of_it(connection: &Connection, name: &str) {
    let settings = [("message.timestamp.type", "LogAppendTime")];
    create(connection, name, 1, &settings, &patience()).unwrap();
    assert!(
        describe(connection, name, &patience())
            .unwrap()
            .log_append_time
    );
    let progress = progress_topic(connection, &format!("{name}-progress"));
    let ids = [format!("{name}-0")];
    fence(connection, &ids, &progress, 1, &patience()).unwrap();
    let mut writer = Transactions::open(connection, &ids[0], &progress, 1, &patience()).unwrap();
    let mut batch = Batch::default();
    batch.push(&Arc::from(name), 0, 1, b"key", &[b"hidden ", b"on its way"]);
    batch.progress = Progress {
        until: 2,
        shards: vec![(0, 1)],
    };
    writer.commit(&batch).unwrap();
    let (_consumer, mut readers) = open(connection, name, &[(0, 0)], Options::default());
    assert_eq!(read_all(&mut readers[0]), [b"hidden on its way"]);
}

/// What is said of a connection that never comes about.
fn waited_in_vain(connection: &Connection) -> String {
    // The first attempt takes longer, and is the last then.
    let patience = Patience::until(Arc::default()).limit(Duration::from_secs(1));
    let error = describe(connection, "any", &patience).unwrap_err();
    assert!(matches!(error, KafkaError::Failed { .. }), "{error:?}");
    let all = format!("{error} {error:?} {connection} {connection:?}");
    assert!(!all.contains("hush"), "{all}");
    error.to_string()
}

#[test]
fn records_are_written_and_read_with_a_certificate_whose_key_has_a_password() {
    let Some(secured) = secured() else { return };
    all_of_it(&secured.certified(PASSWORD), "certified");
}

#[test]
fn records_are_written_and_read_with_scram() {
    let Some(secured) = secured() else { return };
    all_of_it(
        &secured.by_password(secured.cluster.said("scram_password")),
        "scram",
    );
}

#[test]
fn who_has_no_certificate_is_told_that_the_broker_wants_one() {
    let Some(secured) = secured() else { return };
    let said = waited_in_vain(&secured.anonymous());
    let advice = "the broker wants a client's certificate: set ssl.certificate.location and ssl.key.location";
    assert!(said.contains(advice), "{said}");
}

#[test]
fn who_does_not_know_the_broker_s_authority_is_told_which_property_says_so() {
    let Some(secured) = secured() else { return };
    let mut connection = secured.certified(PASSWORD);
    connection.properties.remove("ssl.ca.location");
    let said = waited_in_vain(&connection);
    assert!(
        said.contains("verify that ssl.ca.location is correctly configured"),
        "{said}"
    );
}

#[test]
fn who_has_another_password_is_told_so_and_does_not_see_it() {
    let Some(secured) = secured() else { return };
    let said = waited_in_vain(&secured.by_password("hush-wrong"));
    let advice = "look at sasl.mechanism, sasl.username and sasl.password";
    assert!(said.contains(advice), "{said}");
}

#[test]
fn a_key_that_its_password_does_not_open_is_named_without_the_password() {
    let Some(secured) = secured() else { return };
    let connection = secured.certified("hush-wrong");
    let error = connection.check().unwrap_err();
    let expected = format!(
        "Kafka property \"ssl.key.location\": cannot load {}: expected the private key of the certificate, as PEM; \
         if it is encrypted, ssl.key.password must be its password (",
        secured.key()
    );
    assert!(error.to_string().starts_with(&expected), "{error}");
    let all = format!("{error} {error:?} {connection} {connection:?}");
    assert!(!all.contains("hush"), "{all}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let Some(secured) = secured() else { return };
    for property in [
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
    ] {
        let connection = secured
            .certified(PASSWORD)
            .with(property, "/nowhere/at/all.pem");
        let said = connection.check().unwrap_err().to_string();
        let expected = format!("Kafka property {property:?}: cannot read /nowhere/at/all.pem: ");
        assert!(said.starts_with(&expected), "{said}");
    }
}

/// The program, with the password in its environment only.
fn visitflow(args: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_visitflow"))
        .env("KEY_PASSWORD", PASSWORD)
        .args(args)
        .output()
        .unwrap();
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let said = said.concat();
    assert!(!said.contains(PASSWORD), "{said}");
    (output, said)
}

#[test]
fn a_whole_job_runs_over_tls_and_keeps_the_password_to_itself() {
    let Some(secured) = secured() else { return };
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let log = at("log");
    let made = visitflow(&[
        "generate",
        "--log",
        &log,
        "--events",
        "2000",
        "--partitions",
        "2",
    ]);
    assert!(made.0.status.success(), "{}", made.1);
    let text = format!(
        "name = \"shop\"\nworkers = 1\n[source]\nlog = {log:?}\n[schemas]\nstore = {schemas:?}\n\
         [outputs]\nkafka = {brokers:?}\npartitions = 2\n[state]\ndir = {state:?}\n\
         [kafka]\n\"security.protocol\" = \"ssl\"\n\"ssl.ca.location\" = {ca:?}\n\
         \"ssl.certificate.location\" = {certificate:?}\n\"ssl.key.location\" = {key:?}\n\
         \"ssl.key.password\" = \"env:KEY_PASSWORD\"\n",
        schemas = at("log/schemas"),
        brokers = secured.cluster.said("ssl_bootstrap"),
        state = at("state"),
        ca = secured.cluster.said("ssl_ca"),
        certificate = secured.cluster.said("ssl_certificate"),
        key = secured.key(),
    );
    let job = at("job.toml");
    std::fs::write(&job, text).unwrap();
    for command in ["check", "run", "status", "journal"] {
        let (output, said) = visitflow(&[command, &job]);
        assert!(output.status.success(), "{command}: {said}");
    }
    for entry in walk(dir.path()) {
        let bytes = std::fs::read(&entry).unwrap();
        let found = bytes
            .windows(PASSWORD.len())
            .any(|at| at == PASSWORD.as_bytes());
        assert!(!found, "{}", entry.display());
    }
    let connection = secured.certified(PASSWORD);
    let partitions = [(0, 0), (1, 0)];
    let (_consumer, mut readers) =
        open(&connection, "shop-tagged", &partitions, Options::default());
    let tagged: usize = readers
        .iter_mut()
        .map(|reader| read_all(reader).len())
        .sum();
    assert!(tagged > 1_000, "{tagged}");
}

/// All files below a folder.
fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let paths = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let below = |path: std::path::PathBuf| {
        if path.is_dir() {
            walk(&path)
        } else {
            vec![path]
        }
    };
    paths.flat_map(below).collect()
}
