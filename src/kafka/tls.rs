//! What OpenSSL and brokers say of certificates and keys, with what can be done about it: for people
//! whose properties are not right yet. Knows no secrets: not what a file holds, nor a password.

use std::collections::BTreeMap;
use std::fs;

use super::KafkaError;
use super::config::shown;

/// The error of a client that could not load what a property names, if that is what librdkafka says.
pub(super) fn unloadable(said: &str, properties: &BTreeMap<String, String>) -> Option<KafkaError> {
    let (property, why) = said.split_once(" failed: ")?;
    if !property.starts_with("ssl.") {
        return None;
    }
    let value = properties.get(property)?;
    let reason = match property.ends_with(".location").then(|| fs::metadata(value)) {
        Some(Err(error)) => format!("cannot read {}: {error}", shown(property, value)),
        _ => format!(
            "cannot load {}: expected {} ({why})",
            shown(property, value),
            expected(property)
        ),
    };
    Some(KafkaError::Property {
        property: property.to_owned(),
        reason,
    })
}

fn expected(property: &str) -> &'static str {
    match property {
        "ssl.key.location" | "ssl.key.pem" => {
            "the private key of the certificate, as PEM; if it is encrypted, ssl.key.password must be its password"
        }
        "ssl.keystore.location" => "a PKCS#12 file whose password is ssl.keystore.password",
        "ssl.crl.location" => "a list of revoked certificates, as PEM",
        _ => "certificates, as PEM",
    }
}

/// What a user can do about a complaint of the client, if it is one of those.
pub(super) fn advice(said: &str) -> Option<&'static str> {
    let says = |text| said.contains(text);
    if says("alert bad certificate") || says("alert certificate required") {
        Some(
            "the broker wants a client's certificate: set ssl.certificate.location and ssl.key.location",
        )
    } else if says("alert unknown ca") || says("alert certificate unknown") {
        Some(
            "the broker does not trust this client's certificate: look at ssl.certificate.location",
        )
    } else if says("certificate verify failed") && !says("ssl.ca.location") {
        // It says so itself where the handshake ends with its first step.
        Some("verify that ssl.ca.location is correctly configured")
    } else if says("SASL authentication error") {
        Some("look at sasl.mechanism, sasl.username and sasl.password")
    } else {
        None
    }
}
