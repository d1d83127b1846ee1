//! From IP addresses to countries, by a MaxMind database that the user brings.
//!
//! Reads what country databases agree on: `country.iso_code` (GeoLite2, GeoIP2,
//! DB-IP), else `country_code` at the record's root (ip-location-db). All records
//! are read once when the database is opened, so that a broken one is refused at
//! the start instead of answering "unknown" for a part of the world. It is not a
//! geocoder: no cities, and no `registered_country` in place of a missing one.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use maxminddb::{LookupResult, MaxMindDbError, PathElement, Reader, WithinOptions};
use sha2::{Digest, Sha256};

use super::EnrichError;

/// A country by its ISO 3166-1 code: two ASCII capital letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// The country of a two-letter code in any case; `None` for anything else.
    pub fn new(code: &str) -> Option<Self> {
        let code: [u8; 2] = code.as_bytes().try_into().ok()?;
        let letters = code.iter().all(u8::is_ascii_alphabetic);
        letters.then(|| Self(code.map(|letter| letter.to_ascii_uppercase())))
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("two ASCII letters, by `new`")
    }

    /// The code's two bytes.
    pub fn as_bytes(&self) -> &[u8; 2] {
        &self.0
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A country database. Cheap to clone: the clones share the data.
///
/// Memory: the file's bytes, and 24 B for each distinct record (a few hundred to
/// some ten thousand). A look-up parses the address and walks at most 128 bits.
#[derive(Clone)]
pub struct Countries {
    shared: Arc<Shared>,
}

struct Shared {
    database: Reader<Vec<u8>>,
    /// By the record's place in the data section. A look-up that ends in another
    /// place does not exist: opening walks every leaf of the tree.
    by_record: HashMap<usize, Option<Country>>,
    fingerprint: [u8; 32],
}

impl Countries {
    /// Opens a database from the bytes of its file, and reads all of it once
    /// (4 MB: a few hundredths of a second).
    ///
    /// # Errors
    /// When the bytes are no MaxMind database, when its tree or a record is
    /// broken, and when no record names a country.
    pub fn from_mmdb(bytes: Vec<u8>) -> Result<Self, EnrichError> {
        let fingerprint = Sha256::digest(&bytes).into();
        let database = Reader::from_source(bytes).map_err(|error| EnrichError::NotADatabase {
            reason: error.to_string(),
        })?;
        let by_record = countries_by_record(&database)?;
        Ok(Self {
            shared: Arc::new(Shared {
                database,
                by_record,
                fingerprint,
            }),
        })
    }

    /// The country of an IP address, `None` if the string is no address or the
    /// database does not know.
    ///
    /// Taken as an address: IPv4, IPv6, IPv4 mapped into IPv6 (looked up as IPv4),
    /// each of them also with a port (`1.2.3.4:80`, `[::1]:80`) or in brackets, as
    /// some proxies log them. Not taken: white space, host names, zones
    /// (`fe80::1%eth0` is of no country anyway) and lists (`X-Forwarded-For`),
    /// since which entry is the visitor's depends on which proxies one trusts.
    pub fn of(&self, ip: &str) -> Option<Country> {
        let address = parse_address(ip)?.to_canonical();
        let record = self.shared.database.lookup(address).ok()?.offset()?;
        self.shared.by_record.get(&record).copied().flatten()
    }

    /// The database's own name for its type, such as `GeoLite2-Country`.
    pub fn kind(&self) -> &str {
        &self.shared.database.metadata().database_type
    }

    /// When the database was built, in seconds since 1970 UTC, by itself.
    pub fn built(&self) -> u64 {
        self.shared.database.metadata().build_epoch
    }

    /// SHA-256 of the file's bytes: equal data give equal countries.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.shared.fingerprint
    }
}

impl fmt::Debug for Countries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Countries({}, built {})", self.kind(), self.built())
    }
}

fn parse_address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    inner.parse().ok().filter(IpAddr::is_ipv6)
}

fn countries_by_record(
    database: &Reader<Vec<u8>>,
) -> Result<HashMap<usize, Option<Country>>, EnrichError> {
    let kind = &database.metadata().database_type;
    let broken = |place: String, reason: String| EnrichError::BrokenDatabase {
        kind: kind.clone(),
        place,
        reason,
    };
    let whole = |error: MaxMindDbError| broken("its search tree".to_owned(), error.to_string());
    // A tree of n nodes has n + 1 leaves. Shared subtrees may make them more, but
    // a made-up file could share so often that they were never all visited.
    let most_leaves = 16 * (u64::from(database.metadata().node_count) + 1);

    let mut by_record = HashMap::new();
    let leaves = WithinOptions::default().include_networks_without_data();
    for (leaf, network) in (0u64..).zip(database.networks(leaves).map_err(whole)?) {
        if leaf > most_leaves {
            let reason = format!("has over {most_leaves} networks, more than its nodes allow");
            return Err(broken("its search tree".to_owned(), reason));
        }
        let network = network.map_err(whole)?;
        let Some(record) = network.offset() else {
            continue;
        };
        if by_record.contains_key(&record) {
            continue;
        }
        let country = country_in(&network).map_err(|reason| {
            let place = network.network().map_or_else(
                |_| "a network".to_owned(),
                |network| format!("network {network}"),
            );
            broken(place, reason)
        })?;
        by_record.insert(record, country);
    }
    if by_record.values().all(Option::is_none) {
        return Err(EnrichError::NoCountries { kind: kind.clone() });
    }
    Ok(by_record)
}

/// The country that a record names. A code that is not two letters (`-`, an empty
/// string) is how some databases say that they do not know.
fn country_in(record: &LookupResult<'_, Vec<u8>>) -> Result<Option<Country>, String> {
    const PLACES: [&[PathElement<'static>]; 2] = [
        &[PathElement::Key("country"), PathElement::Key("iso_code")],
        &[PathElement::Key("country_code")],
    ];
    for place in PLACES {
        match record.decode_path::<&str>(place) {
            Ok(Some(code)) => return Ok(Country::new(code)),
            Ok(None) => {}
            Err(error) => return Err(format!("{error}; expected a map with a country's code")),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn test_database() -> Countries {
        let bytes = include_bytes!("../../tests/data/GeoIP2-Country-Test.mmdb");
        Countries::from_mmdb(bytes.to_vec()).expect("a sound database")
    }

    fn string(text: &str) -> Vec<u8> {
        let mut bytes = vec![0x40 | text.len() as u8];
        bytes.extend(text.as_bytes());
        bytes
    }

    /// A database of IPv4 in which the lower half of all addresses has the record
    /// `{key: value}`, and the upper half none.
    fn database_of(key: &str, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 1 + 16, 0, 0, 1];
        bytes.extend([0; 16]);
        bytes.push(0xe1);
        bytes.extend(string(key));
        bytes.extend(value);
        bytes.extend(b"\xab\xcd\xefMaxMind.com\xe9");
        for (key, number) in [
            ("node_count", &[0xc1, 1][..]),
            ("record_size", &[0xa1, 24]),
            ("ip_version", &[0xa1, 4]),
            ("binary_format_major_version", &[0xa1, 2]),
            ("binary_format_minor_version", &[0xa0]),
            ("build_epoch", &[0x01, 0x02, 7]),
            ("database_type", &string("made-here")),
            ("description", &[0xe0]),
            ("languages", &[0x00, 0x04]),
        ] {
            bytes.extend(string(key));
            bytes.extend(number);
        }
        bytes
    }

    #[test]
    fn a_code_at_the_root_is_read_too() {
        let countries = Countries::from_mmdb(database_of("country_code", &string("nl")));
        let countries = countries.expect("a sound database");
        assert_eq!(countries.of("1.2.3.4"), Country::new("NL"));
        assert_eq!(countries.of("200.2.3.4"), None);
        assert_eq!(countries.of("2001:218::1"), None, "it is of IPv4 alone");
        assert_eq!((countries.kind(), countries.built()), ("made-here", 7));
    }

    #[test]
    fn a_database_of_something_else_is_refused() {
        for (key, value) in [("asn", "AS1"), ("country_code", "-"), ("country_code", "")] {
            let error = Countries::from_mmdb(database_of(key, &string(value))).unwrap_err();
            assert!(matches!(&error, EnrichError::NoCountries { kind } if kind == "made-here"));
            assert!(
                error
                    .to_string()
                    .contains("expected a country or city database")
            );
        }
    }

    #[test]
    fn a_record_of_another_shape_is_refused_with_its_network() {
        for (key, value) in [("country", string("NL")), ("country_code", vec![0xa1, 7])] {
            let error = Countries::from_mmdb(database_of(key, &value))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("`made-here`, at network 0.0.0.0/1"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_code_is_two_letters_in_capitals() {
        assert_eq!(Country::new("de").map(|c| c.to_string()), Some("DE".into()));
        for wrong in ["", "-", "D", "DEU", "D1", "ä", "日"] {
            assert_eq!(Country::new(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn addresses_are_taken_as_servers_and_proxies_write_them() {
        let countries = test_database();
        let gb = Country::new("GB");
        for ip in [
            "2.125.160.216",
            "::ffff:2.125.160.216",
            "::ffff:027d:a0d8",
            "2.125.160.216:51234",
            "[::ffff:2.125.160.216]",
            "[::ffff:2.125.160.216]:443",
        ] {
            assert_eq!(countries.of(ip), gb, "{ip}");
        }
        assert_eq!(countries.of("2001:218::1"), Country::new("JP"));
        assert_eq!(countries.of("[2001:218::1]:80"), Country::new("JP"));
    }

    #[test]
    fn what_is_no_address_has_no_country() {
        let countries = test_database();
        for ip in [
            "",
            "-",
            " 2.125.160.216",
            "2.125.160.216 ",
            "2.125.160",
            "2.125.160.216.1",
            "2.125.160.216, 2.125.160.217",
            "[2.125.160.216]",
            "localhost",
            "fe80::1%eth0",
            "2.125.160.216:",
            "2.125.160.216:99999",
            "[]",
            "[",
            "]",
            "02.125.160.216",
        ] {
            assert_eq!(countries.of(ip), None, "{ip}");
        }
    }

    #[test]
    fn private_addresses_have_no_country() {
        let countries = test_database();
        for ip in ["127.0.0.1", "10.1.2.3", "192.168.0.1", "::1", "fe80::1"] {
            assert_eq!(countries.of(ip), None, "{ip}");
        }
    }

    #[test]
    fn a_broken_database_is_refused_when_it_is_opened() {
        let pointers: &[u8] =
            include_bytes!("../../tests/data/MaxMind-DB-test-broken-pointers-24.mmdb");
        let error = Countries::from_mmdb(pointers.to_vec()).unwrap_err();
        assert!(
            matches!(error, EnrichError::BrokenDatabase { .. }),
            "{error}"
        );

        let tree: &[u8] =
            include_bytes!("../../tests/data/MaxMind-DB-test-broken-search-tree-24.mmdb");
        let error = Countries::from_mmdb(tree.to_vec()).unwrap_err();
        assert!(
            matches!(error, EnrichError::BrokenDatabase { .. }),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_database_is_refused() {
        for bytes in [&b""[..], b"<html>404</html>", b"\xab\xcd\xefMaxMind.com"] {
            let error = Countries::from_mmdb(bytes.to_vec()).unwrap_err();
            assert!(matches!(error, EnrichError::NotADatabase { .. }), "{error}");
            assert!(error.to_string().contains("expected a MaxMind database"));
        }
    }

    #[test]
    fn equal_data_have_equal_fingerprints() {
        assert_eq!(test_database().fingerprint(), test_database().fingerprint());
        let mut other = include_bytes!("../../tests/data/GeoIP2-Country-Test.mmdb").to_vec();
        let key = b"build_epoch";
        let date = other.windows(key.len()).rposition(|bytes| bytes == key);
        // After the key two bytes say that a number follows, and how long it is.
        other[date.expect("a date of building") + key.len() + 2] ^= 1;
        let other = Countries::from_mmdb(other).expect("another build");
        assert_ne!(test_database().fingerprint(), other.fingerprint());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn no_string_panics(ip in ".{0,60}") {
            test_database().of(&ip);
        }

        #[test]
        fn no_damage_panics(
            places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            length in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut bytes = include_bytes!("../../tests/data/GeoIP2-Country-Test.mmdb").to_vec();
            for (place, byte) in places {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            if let Some(length) = length {
                bytes.truncate(length.index(bytes.len()));
            }
            if let Ok(countries) = Countries::from_mmdb(bytes) {
                for ip in ["2.125.160.216", "2001:218::1", "255.255.255.255"] {
                    countries.of(ip);
                }
            }
        }
    }
}
