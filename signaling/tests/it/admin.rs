//! What operators are told of who is where, and what the clients' address has nothing of.

use serde_json::{Value, json};

use crate::fake_node::FakeNode;
use crate::fixture::*;

#[tokio::test]
async fn an_operator_is_told_why_somebody_is_where_they_are() {
    let node = FakeNode::start("node-a", "eu", 1);
    let fixture = Fixture::start(&[&node]).await;
    let (_alice, _) = fixture.join("standup", "alice").await;
    let (_bob, _) = fixture.join("standup", "bob").await;
    let answer = fixture.admin("/rooms/standup", &[]).await;
    let told: Value = serde_json::from_str(&answer.body).unwrap();
    let members = told["members"].as_array().unwrap();
    let placed = |identity: &str| {
        let member = members.iter().find(|member| member["identity"] == identity);
        member.map(|member| (&member["node"], &member["placed"]))
    };
    let node = json!("node-a");
    let (first, second) = (
        json!({ "by": "own", "reason": "ring" }),
        json!({ "by": "own", "reason": "sticky" }),
    );
    assert_eq!(placed("alice"), Some((&node, &first)), "{told}");
    assert_eq!(placed("bob"), Some((&node, &second)), "{told}");
}

#[tokio::test]
async fn clients_are_served_nothing_of_the_operators_page() {
    let fixture = Fixture::start(&[]).await;
    for target in ["/mesh", "/mesh.html", "/mesh.html.gz", "/nodes"] {
        let answer = fixture.http("GET", target, &[]).await;
        assert_eq!(answer.status, 404, "{target}: {}", answer.body);
    }
}
