//! The countries of the made shop's visitors as a database in MaxMind's format, for jobs that look up
//! where somebody is. It knows the networks that people come from, and no other: robots are nowhere.
//!
//! The format: <https://maxmind.github.io/MaxMind-DB/>.

use super::world::NETWORKS;

/// How many bits of an IPv6 address come before those of an IPv4 address.
const BEFORE_IPV4: usize = 96;
/// The bytes between the tree and the data.
const BETWEEN: usize = 16;

/// Where one goes on from a node, for a bit.
#[derive(Clone, Copy)]
enum To {
    Nowhere,
    Node(usize),
    /// An offset in the data.
    Data(usize),
}

/// The database, as the bytes of its file.
#[must_use]
pub fn countries() -> Vec<u8> {
    let mut nodes = vec![[To::Nowhere; 2]];
    let mut data = Vec::new();
    let mut places: Vec<(&str, usize)> = Vec::new();
    for (network, _, country) in NETWORKS {
        let known = places.iter().find(|(known, _)| *known == country);
        let place = known.map_or(data.len(), |(_, place)| *place);
        if place == data.len() {
            map(&mut data, 1);
            text(&mut data, "country");
            map(&mut data, 1);
            text(&mut data, "iso_code");
            text(&mut data, country);
            places.push((country, place));
        }
        insert(&mut nodes, &bits(network), place);
    }

    let count = nodes.len();
    let mut bytes = Vec::new();
    for to in nodes.iter().flatten() {
        let record = match to {
            To::Nowhere => count,
            To::Node(node) => *node,
            To::Data(place) => count + BETWEEN + place,
        };
        bytes.extend(&(record as u32).to_be_bytes()[1..]);
    }
    bytes.extend([0; BETWEEN]);
    bytes.extend(data);
    bytes.extend(b"\xab\xcd\xefMaxMind.com");
    map(&mut bytes, 9);
    text(&mut bytes, "node_count");
    bytes.push(0xc4);
    bytes.extend((count as u32).to_be_bytes());
    for (key, value) in [
        ("record_size", 24_u16),
        ("ip_version", 6),
        ("binary_format_major_version", 2),
        ("binary_format_minor_version", 0),
    ] {
        text(&mut bytes, key);
        bytes.push(0xa2);
        bytes.extend(value.to_be_bytes());
    }
    text(&mut bytes, "build_epoch");
    // A number of 64 bits, none of them said: the same bytes, whenever they are made.
    bytes.extend([0x00, 0x02]);
    text(&mut bytes, "database_type");
    text(&mut bytes, "a made shop's countries");
    text(&mut bytes, "description");
    map(&mut bytes, 0);
    text(&mut bytes, "languages");
    bytes.extend([0x00, 0x04]);
    bytes
}

/// Appends the beginning of a map of so many keys, fewer than 29.
fn map(bytes: &mut Vec<u8>, keys: u8) {
    bytes.push(0xe0 | keys);
}

/// Appends a text of fewer than 29 bytes.
fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(0x40 | text.len() as u8);
    bytes.extend(text.as_bytes());
}

/// The bits with which the addresses of a network begin, as IPv6 has them.
fn bits(network: &str) -> Vec<bool> {
    let of = |number: u16, bits: u32| (0..bits).rev().map(move |n| number >> n & 1 == 1);
    let parts = network.split_terminator(['.', ':']);
    if network.ends_with(':') {
        let parts = parts.map(|part| u16::from_str_radix(part, 16).unwrap_or_default());
        return parts.flat_map(|part| of(part, 16)).collect();
    }
    let parts = parts.map(|part| part.parse().unwrap_or_default());
    let before = std::iter::repeat_n(false, BEFORE_IPV4);
    before.chain(parts.flat_map(|part| of(part, 8))).collect()
}

fn insert(nodes: &mut Vec<[To; 2]>, bits: &[bool], place: usize) {
    let Some((last, way)) = bits.split_last() else {
        return;
    };
    let mut node = 0;
    for bit in way {
        node = match nodes[node][usize::from(*bit)] {
            To::Node(next) => next,
            _ => {
                let next = nodes.len();
                nodes.push([To::Nowhere; 2]);
                nodes[node][usize::from(*bit)] = To::Node(next);
                next
            }
        };
    }
    nodes[node][usize::from(*last)] = To::Data(place);
}

#[cfg(test)]
mod tests {
    use visitflow_dataflows::enrich::Countries;

    use super::*;

    #[test]
    fn every_network_is_in_its_country_and_the_rest_of_the_world_in_none() {
        let known = Countries::from_mmdb(countries()).unwrap();
        for (network, _, country) in NETWORKS {
            let host = if network.ends_with(':') {
                "7::9"
            } else {
                "7.9"
            };
            let address = format!("{network}{host}");
            let found = known.of(&address).map(|country| country.to_string());
            assert_eq!(found.as_deref(), Some(country), "{address}");
        }
        for address in ["84.131.7.9", "66.249.66.1", "2003:e1::1", "::1", "0.0.0.0"] {
            assert!(known.of(address).is_none(), "{address}");
        }
    }
}
