//! Where addresses are, as a file says that others make.

use std::net::IpAddr;
use std::path::Path;

use maxminddb::{MaxMindDbError, Reader};
use pipemesh_topology::geo::Point;
use serde::Deserialize;

/// A MaxMind DB, such as GeoLite2 Country or City, in memory.
#[derive(Debug)]
pub struct Database(Reader<Vec<u8>>);

/// What the file says of an address.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    /// Two letters, of ISO 3166.
    pub(crate) country: Option<String>,
    pub(crate) point: Option<Point>,
}

/// A record, of which one file has more than another.
#[derive(Debug, Deserialize)]
struct Record {
    country: Option<Country>,
    location: Option<Location>,
}

#[derive(Debug, Deserialize)]
struct Country {
    iso_code: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Location {
    latitude: Option<f64>,
    longitude: Option<f64>,
}

impl Database {
    /// # Errors
    /// When there is no such file, or it is another kind of file.
    pub fn open(path: &Path) -> Result<Self, MaxMindDbError> {
        Reader::open_readfile(path).map(Self)
    }

    /// `None` for most private addresses, and for what cannot be read.
    pub(crate) fn find(&self, address: IpAddr) -> Option<Found> {
        let record: Record = self.0.lookup(address).ok()?.decode().ok()??;
        let point = record
            .location
            .and_then(|it| Point::new(it.latitude?, it.longitude?));
        Some(Found {
            country: record.country.and_then(|it| it.iso_code),
            point,
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
