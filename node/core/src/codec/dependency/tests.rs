#![allow(clippy::indexing_slicing, reason = "tests may panic")]

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(
        structure in prop::collection::vec(any::<u8>(), 0..200),
        later in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let known = read(&structure, None).and_then(|(_, brought)| brought);
        let _ = read(&later, known.as_ref());
        let mut copy = later.clone();
        shift_number(&mut copy, 1);
        prop_assert_eq!(copy.len(), later.len());
    }
}
