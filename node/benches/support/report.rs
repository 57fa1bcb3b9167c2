//! Results as JSON: `target/bench/latest.json`, where every benchmark has a section of its own.

use std::io;
use std::path::Path;

use serde_json::{Map, Value};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench");

/// Puts a benchmark's results in place of those of its last run; other sections stay.
pub(crate) fn write(section: &str, results: Value) -> io::Result<()> {
    let file = Path::new(FOLDER).join("latest.json");
    std::fs::create_dir_all(FOLDER)?;
    // Of a file that is missing or broken nothing is kept.
    let former = std::fs::read(&file).unwrap_or_default();
    let mut sections: Map<String, Value> = serde_json::from_slice(&former).unwrap_or_default();
    sections.insert(section.to_owned(), results);
    std::fs::write(file, format!("{:#}\n", Value::Object(sections)))
}
