//! Two regions, each with nodes and signaling of its own.

#[path = "../../../../signaling/tests/it/geo/cases.rs"]
mod cases;

use self::cases::{Door, PROXY};
use crate::mesh::{Mesh, Variable};
use crate::people::{KEY, SECRET};
use crate::process::Build;

const NODES: [(&str, &str); 4] = [
    ("eu-1", "eu"),
    ("eu-2", "eu"),
    ("us-1", "us"),
    ("us-2", "us"),
];
const REGIONS: [&str; 2] = ["eu", "us"];

/// Signaling that knows where regions are and believes one proxy.
fn settings() -> Vec<Variable> {
    [
        (
            "PIPEMESH_SIGNALING_GEO_PLACES",
            "eu/53.3/-6.3, us/39.0/-77.5",
        ),
        ("PIPEMESH_SIGNALING_GEO_HEADER", "CF-IPCountry"),
        ("PIPEMESH_SIGNALING_GEO_AREAS", "DE=eu, US=us"),
        ("PIPEMESH_SIGNALING_HTTP_TRUSTED_PROXIES", PROXY),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

#[tokio::test]
async fn a_hundred_people_land_where_the_rules_say_on_nodes_of_two_regions() {
    let mesh = Mesh::start_in(Build::This, &NODES, &REGIONS, &[], &settings()).await;
    mesh.until_one_ring(&NODES.map(|(id, _)| id)).await;
    let doors = mesh.signaling.iter().zip(REGIONS);
    let doors: Vec<Door> = doors
        .map(|(signaling, region)| Door {
            address: signaling.clients,
            region,
            key: (KEY, SECRET),
        })
        .collect();
    cases::a_hundred_people(&doors).await;
    for signaling in &mesh.signaling {
        // What was counted is what was answered, by each process of those it was asked by.
        let routes = signaling.sum("pipemesh_routes_total{").await.unwrap();
        let joins = signaling
            .metric("pipemesh_joins_total{result=\"ok\"}")
            .await;
        assert_eq!(Some(routes), joins);
    }
}
