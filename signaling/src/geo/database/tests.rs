use std::io::Write;

use super::*;

/// 24 bits of addresses, their country, and its latitude and longitude.
type Known<'a> = ([u8; 3], &'a str, Option<(f64, f64)>);

/// A file with these networks, as the format's description has it:
/// a tree over the bits of addresses, 16 zeros, records, a marker, what is said of the file.
pub(crate) fn file(networks: &[Known<'_>]) -> tempfile::NamedTempFile {
    const NOTHING: usize = usize::MAX;
    let mut tree: Vec<[usize; 2]> = vec![[NOTHING; 2]];
    let mut records = Vec::new();
    let mut leaves = Vec::new();
    for (network, country, place) in networks {
        let bits: Vec<usize> = (0..24)
            .map(|bit| usize::from(network[bit / 8] >> (7 - bit % 8) & 1))
            .collect();
        let mut node = 0;
        for bit in &bits[..23] {
            if tree[node][*bit] == NOTHING {
                tree.push([NOTHING; 2]);
                tree[node][*bit] = tree.len() - 1;
            }
            node = tree[node][*bit];
        }
        leaves.push((node, bits[23], records.len()));
        map(&mut records, 1 + usize::from(place.is_some()));
        text(&mut records, "country");
        map(&mut records, 1);
        text(&mut records, "iso_code");
        text(&mut records, country);
        if let Some((latitude, longitude)) = place {
            text(&mut records, "location");
            map(&mut records, 2);
            for (name, degrees) in [("latitude", latitude), ("longitude", longitude)] {
                text(&mut records, name);
                records.push(3 << 5 | 8);
                records.extend(degrees.to_be_bytes());
            }
        }
    }
    let count = tree.len();
    for (node, bit, offset) in leaves {
        tree[node][bit] = count + 16 + offset;
    }
    let mut file = Vec::new();
    for entry in tree.iter().flatten() {
        let entry = u32::try_from(if *entry == NOTHING { count } else { *entry }).unwrap();
        file.extend(&entry.to_be_bytes()[1..]);
    }
    file.extend([0; 16]);
    file.extend(records);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    map(&mut file, 9);
    for (name, value) in [
        ("binary_format_major_version", 2_u16),
        ("binary_format_minor_version", 0),
        ("ip_version", 4),
        ("record_size", 24),
    ] {
        text(&mut file, name);
        file.push(5 << 5 | 2);
        file.extend(value.to_be_bytes());
    }
    text(&mut file, "node_count");
    file.push(6 << 5 | 4);
    file.extend(u32::try_from(count).unwrap().to_be_bytes());
    text(&mut file, "build_epoch");
    file.extend([8, 9 - 7]);
    file.extend(1_700_000_000_u64.to_be_bytes());
    text(&mut file, "database_type");
    text(&mut file, "Test");
    text(&mut file, "description");
    map(&mut file, 0);
    text(&mut file, "languages");
    file.extend([0, 11 - 7]);
    let mut on_disk = tempfile::NamedTempFile::new().unwrap();
    on_disk.write_all(&file).unwrap();
    on_disk
}

fn map(out: &mut Vec<u8>, pairs: usize) {
    out.push(7 << 5 | u8::try_from(pairs).unwrap());
}

fn text(out: &mut Vec<u8>, text: &str) {
    assert!(text.len() < 29, "longer ones are written otherwise");
    out.push(2 << 5 | u8::try_from(text.len()).unwrap());
    out.extend(text.as_bytes());
}

#[test]
fn addresses_are_found_with_what_the_file_has_of_them() {
    let file = file(&[
        ([203, 0, 113], "DE", Some((52.5, 13.4))),
        ([198, 51, 100], "US", None),
    ]);
    let database = Database::open(file.path()).unwrap();
    let check = |address: &str, expected: Option<(&str, Option<(f64, f64)>)>| {
        let found = database.find(address.parse().unwrap());
        let expected = expected.map(|(country, point)| Found {
            country: Some(country.to_owned()),
            point: point.and_then(|(latitude, longitude)| Point::new(latitude, longitude)),
        });
        assert_eq!(found, expected, "{address}");
    };
    check("203.0.113.7", Some(("DE", Some((52.5, 13.4)))));
    check("198.51.100.200", Some(("US", None)));
    check("203.0.112.7", None);
    check("10.0.0.1", None);
    check("2001:db8::1", None);
}

#[test]
fn what_is_no_database_is_refused() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"something else").unwrap();
    assert!(Database::open(file.path()).is_err());
    assert!(Database::open(Path::new("/nowhere/at.mmdb")).is_err());
}
