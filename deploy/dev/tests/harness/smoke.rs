//! The scenario that everybody runs first.

use std::path::Path;

use crate::programs::{Mesh, run};

#[test]
fn smoke_is_green() {
    let mesh = Mesh::start(&["--media-port", "0"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../loadtest/scenarios/smoke.js");
    let run = run(&script, &mesh.url, &[]);
    assert_eq!(run.code, Some(0));
    assert!(run.value("checks", "value") >= 1.0);
    assert_eq!(run.value("rtc_integrity_errors", "count"), 0.0);
    assert!(run.value("rtc_packets_received", "count") > 500.0);
}
