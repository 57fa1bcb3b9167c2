//! Datagrams of a handshake that nobody has authenticated: records, fragments, and what rtc-dtls makes
//! of them.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pipemesh_node::session::dtls::{Certificate, DtlsServer, DtlsTransport, Event};

pub fn run(input: &[u8]) {
    static CERTIFICATE: OnceLock<Arc<Certificate>> = OnceLock::new();
    let certificate =
        CERTIFICATE.get_or_init(|| Arc::new(Certificate::generate().expect("keys can be made")));
    let mut now = Instant::now();
    let mut server = DtlsServer::new(Arc::clone(certificate));
    let (mut received, mut sent) = (0, 0);
    for datagram in super::pieces(input).take(32) {
        received += datagram.len();
        server.handle_datagram(datagram, now);
        sent += drain(&mut server);
        // Nobody has echoed a cookie: what goes out in answer is not more than what came in.
        assert!(sent <= received, "{sent} bytes for {received}");
        while let Some(event) = server.poll_event() {
            assert!(!matches!(event, Event::Connected(_)), "nobody has a key");
        }
        now += Duration::from_millis(10);
        server.handle_timeout(now);
        // Unasked it says the same again, as far as an address is trusted: `session::ice` knows how far.
        let again = drain(&mut server);
        assert!(again <= sent, "{again} bytes again of {sent}");
    }
}

fn drain(server: &mut DtlsServer) -> usize {
    std::iter::from_fn(|| server.poll_transmit())
        .map(|datagram| datagram.len())
        .sum()
}
