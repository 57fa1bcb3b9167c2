//! The first bytes of a TCP connection: a check, and whom it is for.

use futures_util::FutureExt;

use crate::door::{Turned, first_frame};
use crate::session::ice::{Credentials, IceAgent};

pub fn run(input: &[u8]) {
    let mut rest = input;
    // A slice has all its bytes at once.
    let read = first_frame(&mut rest).now_or_never();
    match read.expect("nothing is waited for") {
        Ok(check) => {
            // What follows is for the shard to read.
            assert_eq!(input.len() - rest.len(), 2 + check.len());
            assert!(!check.is_empty());
            if let Some(ufrag) = IceAgent::local_ufrag(&check) {
                assert!(Credentials::shard(ufrag).is_none_or(|shard| shard < 64));
            }
        }
        Err(turned) => assert!(matches!(turned, Turned::Closed | Turned::Malformed)),
    }
}
