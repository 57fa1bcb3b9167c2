use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[test]
fn what_was_found_stays_mended() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, run) in super::TARGETS {
        let entries = std::fs::read_dir(corpus.join(name)).unwrap();
        let mut inputs: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "nothing was kept for {name}");
        for input in inputs {
            let bytes = std::fs::read(&input).unwrap();
            let outcome = catch_unwind(AssertUnwindSafe(|| run(&bytes)));
            assert!(outcome.is_ok(), "{}", input.display());
        }
    }
}
