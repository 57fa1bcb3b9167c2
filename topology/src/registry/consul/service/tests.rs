use super::*;
use crate::snapshot::tests::record;

/// What Consul 1.8.7 answers, without what nobody reads.
fn entry(node: &str, boot: &str, generation: &str, checks: &[(&str, &str)]) -> Entry {
    let checks: Vec<Value> = checks
        .iter()
        .map(|(id, status)| json!({ "Node": "vm", "CheckID": id, "Status": status, "Output": "" }))
        .collect();
    serde_json::from_value(json!({
        "Node": { "Node": "vm", "Address": "10.0.0.1" },
        "Service": {
            "ID": format!("pipemesh-node-{node}"),
            "Service": "pipemesh-node",
            "Tags": ["x"],
            "Address": "127.0.0.1",
            "Port": 7901,
            "Meta": {
                "node_id": node, "region": "eu", "boot_id": boot, "generation": generation,
                "weight": "1", "version": "9", "of_a_later_version": "?",
            },
            "CreateIndex": 13,
        },
        "Checks": checks,
    }))
    .unwrap()
}

#[test]
fn states_are_read_from_checks() {
    let check = |checks: &[(&str, &str)], expected: Option<NodeState>| {
        let listing = Listing::read(&[entry("a", "1", "5", checks)]);
        let state = listing.living.values().next().map(|node| node.state);
        assert_eq!(state, expected, "{checks:?}");
        assert_eq!(listing.holders.len(), 1);
    };
    let heartbeat = "pipemesh-node-a:ttl:1";
    let probe = "pipemesh-node-a:grpc:1";
    let maintenance = ("_service_maintenance:pipemesh-node-a", "critical");
    let (serf, passing, critical) = ("serfHealth", "passing", "critical");
    let serving = Some(NodeState::Serving);
    check(&[], serving);
    check(
        &[(serf, passing), (heartbeat, passing), (probe, passing)],
        serving,
    );
    check(&[(heartbeat, "warning")], Some(NodeState::Full));
    check(&[maintenance], Some(NodeState::Draining));
    check(
        &[("_node_maintenance", critical)],
        Some(NodeState::Draining),
    );
    check(
        &[maintenance, (heartbeat, "warning")],
        Some(NodeState::Draining),
    );
    check(&[(heartbeat, critical), maintenance], None);
    check(&[maintenance, (probe, critical)], None);
    check(&[(serf, critical), (heartbeat, passing)], None);
    check(&[("pipemesh-node-a:ttl:0", critical)], serving);
    check(&[("disk", critical)], Some(NodeState::Draining));
    check(&[("disk", "warning"), (serf, "warning")], serving);
}

#[test]
fn the_last_process_of_a_node_counts() {
    let critical = [("serfHealth", "critical")];
    let old = entry("a", "900", "5", &[]);
    let new = entry("a", "100", "6", &critical);
    for entries in [[old.clone(), new.clone()], [new, old.clone()]] {
        let listing = Listing::read(&entries);
        assert!(listing.living.is_empty(), "the old one must not serve");
        let boots: Vec<u64> = listing.holders.values().map(|c| c.boot_id).collect();
        assert_eq!(boots, [100]);
    }
    let of_an_earlier_version = entry("a", "7", "0", &[]);
    let listing = Listing::read(&[of_an_earlier_version, old]);
    assert_eq!(listing.living.values().next().unwrap().boot_id, 900);
}

#[test]
fn what_cannot_be_read_is_named() {
    let mut entries = vec![entry("b", "1", "5", &[])];
    entries.push(entry("not valid", "1", "5", &[]));
    entries.push(entry("a", "-1", "5", &[]));
    let mut bare = entry("c", "1", "5", &[]);
    bare.service.meta = None;
    entries.push(bare);
    let listing = Listing::read(&entries);
    assert_eq!(listing.living.len(), 1);
    let expected = ["a", "c", "not valid"].map(|id| format!("pipemesh-node-{id}"));
    assert_eq!(listing.unreadable, expected.into());
    assert!(!listing.is_empty());
    assert!(Listing::read(&[]).is_empty());
}

/// A record comes back as it went, whatever the address looks like.
#[test]
fn records_survive_the_way() {
    for address in ["10.0.0.5:7901", "node-a.example:1", "[2001:db8::1]:65535"] {
        let node = NodeRecord {
            grpc_address: address.to_owned(),
            boot_id: u64::MAX,
            weight: 3,
            ..record("a", "eu-west")
        };
        let initial = Initial {
            heartbeat: Status::Passing,
            probe: Status::Critical,
        };
        let mut sent = registration(&ServiceName::default(), &node, 77, true, initial).unwrap();
        let Value::Object(service) = &mut sent else {
            panic!("an object");
        };
        let checks = service.remove("Checks").unwrap();
        assert_eq!(checks[0]["Status"], "passing");
        assert_eq!(checks[1]["GRPC"], address);
        assert!(service["Meta"].get("pipe_addrs").is_none(), "it has none");
        let answer = json!({ "Service": service, "Checks": [] });
        let entry: Entry = serde_json::from_value(answer).unwrap();
        let listing = Listing::read(&[entry]);
        assert_eq!(listing.living.values().next(), Some(&node));
        let claim = Claim {
            generation: 77,
            boot_id: u64::MAX,
        };
        assert_eq!(listing.holders.values().next(), Some(&claim));
    }
}

#[test]
fn pipes_are_read_as_they_were_written() {
    let key = "5a".repeat(32);
    let pipe = PipeAddress::parse("10.0.0.5:7902,[2001:db8::1]:7902", &key).unwrap();
    let node = NodeRecord {
        pipe: Some(pipe.clone()),
        ..record("a", "eu")
    };
    let initial = Initial {
        heartbeat: Status::Passing,
        probe: Status::Passing,
    };
    let sent = registration(&ServiceName::default(), &node, 1, false, initial).unwrap();
    let meta = &sent["Meta"];
    assert_eq!(meta["pipe_addrs"], "10.0.0.5:7902,[2001:db8::1]:7902");
    assert_eq!(meta["pipe_key"], key);
    let read = |change: &dyn Fn(&mut Value)| {
        let mut answer = json!({ "Service": sent.clone(), "Checks": [] });
        change(&mut answer["Service"]["Meta"]);
        let entry: Entry = serde_json::from_value(answer).unwrap();
        let mut listing = Listing::read(&[entry]);
        assert!(listing.unreadable.is_empty());
        listing.living.pop_first().unwrap().1
    };
    assert_eq!(read(&|_| {}), node);
    // Of a version that has none, or has another kind: whoever has no use for them is served.
    let bare = NodeRecord {
        pipe: None,
        ..node.clone()
    };
    let unknown: [(&str, Value); 4] = [
        ("pipe_addrs", "".into()),
        ("pipe_addrs", "quic://10.0.0.5".into()),
        ("pipe_key", "5a".into()),
        ("pipe_key", "ed25519:5a".into()),
    ];
    for (name, value) in unknown {
        assert_eq!(read(&|meta| meta[name] = value.clone()), bare, "{name}");
    }
    for name in ["pipe_addrs", "pipe_key"] {
        let without = |meta: &mut Value| drop(meta.as_object_mut().unwrap().remove(name));
        assert_eq!(read(&without), bare, "{name}");
    }
}

#[test]
fn an_address_without_a_port_is_refused() {
    for address in ["10.0.0.5", "host:http", ":7901", ""] {
        let node = NodeRecord {
            grpc_address: address.to_owned(),
            ..record("a", "eu")
        };
        let initial = Initial {
            heartbeat: Status::Passing,
            probe: Status::Passing,
        };
        let error = registration(&ServiceName::default(), &node, 1, false, initial).unwrap_err();
        assert!(error.to_string().contains("host:port"), "{error}");
    }
}

#[test]
fn service_names_are_checked() {
    let check = |text: &str, valid: bool| {
        assert_eq!(text.parse::<ServiceName>().is_ok(), valid, "{text:?}");
    };
    check("pipemesh-node", true);
    check("sfu2", true);
    check(&"x".repeat(63), true);
    check(&"x".repeat(64), false);
    for invalid in ["", "-a", "a-", "A", "a_b", "a.b", "a/b", "ä"] {
        check(invalid, false);
    }
}
