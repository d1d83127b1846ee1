//! Properties of a connection. None of this needs a broker.

use std::fs;

use visitflow::kafka::{Connection, KafkaError};

fn base() -> Connection {
    Connection::to("127.0.0.1:1")
}

fn refused(property: &str, value: &str) -> String {
    let error = base().with(property, value).check().unwrap_err();
    error.to_string()
}

#[test]
fn whatever_librdkafka_knows_can_be_set() {
    let connection = base()
        .with("socket.timeout.ms", "1234")
        .with("compression.codec", "zstd")
        .with("client.rack", "a")
        .with("fetch.wait.max.ms", "50");
    assert_eq!(connection.check(), Ok(()));
}

#[test]
fn where_the_brokers_are_must_be_said() {
    let error = Connection::default().check().unwrap_err();
    assert_eq!(
        error.to_string(),
        "Kafka property \"bootstrap.servers\": is missing: expected HOST:PORT, or several with commas between"
    );
}

#[test]
fn a_property_that_librdkafka_does_not_know_is_named() {
    assert_eq!(
        refused("sokcet.timeout.ms", "1"),
        "Kafka property \"sokcet.timeout.ms\": librdkafka has no such property"
    );
}

#[test]
fn a_value_that_librdkafka_does_not_take_is_explained() {
    assert_eq!(
        refused("socket.timeout.ms", "soon"),
        "Kafka property \"socket.timeout.ms\": librdkafka does not take \"soon\": Invalid value for configuration property \"socket.timeout.ms\""
    );
}

#[test]
fn what_exactness_depends_on_cannot_be_set() {
    for property in [
        "isolation.level",
        "enable.auto.commit",
        "transactional.id",
        "enable.idempotence",
        "auto.offset.reset",
        "acks",
        "group.id",
    ] {
        let error = base().with(property, "1").check().unwrap_err();
        assert!(matches!(error, KafkaError::Owned { .. }), "{error:?}");
        assert!(error.to_string().contains(property), "{error}");
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn tls_in_a_program_without_it_is_an_error_that_says_how_to_build_one() {
    for (property, value) in [
        ("security.protocol", "ssl"),
        ("security.protocol", "sasl_ssl"),
        ("ssl.ca.location", "/ca.pem"),
        ("ssl.key.pem", "secret"),
    ] {
        assert_eq!(
            refused(property, value),
            format!(
                "Kafka property {property:?}: this program was built without TLS; expected one that was built with `--features tls`"
            )
        );
    }
    let scram = base()
        .with("security.protocol", "sasl_plaintext")
        .with("sasl.mechanism", "SCRAM-SHA-256")
        .with("sasl.username", "u")
        .with("sasl.password", "p");
    let error = scram.check().unwrap_err();
    let property = "sasl.mechanism".to_owned();
    assert_eq!(error, KafkaError::NeedsTls { property });
}

#[cfg(not(feature = "oauthbearer"))]
#[test]
fn tokens_in_a_program_without_them_are_an_error_that_says_how_to_build_one() {
    for (property, value) in [
        ("sasl.mechanism", "OAUTHBEARER"),
        ("sasl.oauthbearer.method", "oidc"),
        ("sasl.oauthbearer.client.secret", "hush"),
    ] {
        // With TLS and without libcurl the mechanism is known, for tokens that nobody signs.
        if cfg!(feature = "tls") && property == "sasl.mechanism" {
            continue;
        }
        let connection = base().with("security.protocol", "sasl_plaintext");
        let error = connection.with(property, value).check().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "Kafka property {property:?}: this program was built without OAUTHBEARER; expected one that was built with `--features oauthbearer`"
            )
        );
    }
}

#[test]
fn a_value_may_lie_in_a_file_or_in_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("timeout");
    fs::write(&file, "4321\n").unwrap();
    let from = format!("file:{}", file.display());
    let connection = base().with("socket.timeout.ms", &from);
    assert_eq!(connection.check(), Ok(()));
    // What was read is not shown, even when it is wrong.
    fs::write(&file, "hush\n").unwrap();
    let error = connection.check().unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
    assert!(error.to_string().contains("socket.timeout.ms"));
    assert!(!format!("{connection} {connection:?}").contains("hush"));

    let connection = base().with("client.id", "env:PATH");
    assert_eq!(connection.check(), Ok(()));
    assert_eq!(
        refused("client.id", "env:NOT_SET_ANYWHERE"),
        "Kafka property \"client.id\": cannot read env:NOT_SET_ANYWHERE: environment variable not found"
    );
    let gone = refused("client.id", "file:/nowhere/at/all");
    assert!(
        gone.starts_with("Kafka property \"client.id\": cannot read file:/nowhere/at/all: "),
        "{gone}"
    );
}

#[test]
fn secrets_are_not_shown() {
    let secrets = [
        "sasl.password",
        "sasl.username",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl.keystore.password",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.config",
    ];
    let mut connection = base().with("sasl.mechanism", "PLAIN");
    for name in secrets {
        connection = connection.with(name, "hush");
    }
    let shown = format!("{connection} {connection:?} {connection:#?}");
    assert!(!shown.contains("hush"), "{shown}");
    for name in secrets {
        assert!(shown.contains(&format!("{name}=***")), "{shown}");
    }
    for text in ["127.0.0.1:1", "PLAIN"] {
        assert!(shown.contains(text), "{shown}");
    }
    let error = connection.with("ssl.key.password", "hush").check();
    assert!(!format!("{error:?}").contains("hush"), "{error:?}");
}
