//! Everybody gets in, however bad the network is.

use std::time::Duration;

use pipemesh_loadtest_client::{Layout, Network, Profile};

use crate::mesh::{Mesh, assert_sound};

const HANDSHAKES: usize = 40;

/// Of ICE and DTLS together, at this loss.
const WITHIN: Duration = Duration::from_secs(12);

#[tokio::test]
async fn forty_of_forty_handshakes_survive_a_fifth_of_all_packets_lost() {
    let mesh = Mesh::start();
    let network = Network::symmetric(Profile {
        loss: 0.2,
        delay: Duration::from_millis(5),
        ..Profile::default()
    });
    let mut joined = Vec::new();
    for number in 0..HANDSHAKES {
        let mut join = mesh.join("room", &format!("number-{number}"), Layout::Single);
        join.network = network;
        joined.push(mesh.generator.join(join).await.unwrap());
    }
    let mut times = Vec::new();
    for participant in joined {
        let secured = participant.until("it has keys", WITHIN, |stats| stats.connected);
        times.push(secured.await.unwrap().times.dtls.unwrap());
        assert_sound(&participant.leave().await.unwrap());
    }
    times.sort();
    println!(
        "p50 {:?}, longest {:?}",
        times[HANDSHAKES / 2],
        times[HANDSHAKES - 1]
    );
}
