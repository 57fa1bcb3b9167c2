use livekit_token::{AccessToken, VideoGrants};
use serde_json::json;

use super::*;

const SECRET: &str = "1f7e2d9c4b8a60537e1d2c3b4a5f6978";

pub(crate) fn keys() -> Keys {
    let key = |name: &str, secret: &str| ApiKey {
        name: name.to_owned(),
        secret: Secret::new(secret, 32).unwrap(),
    };
    Keys::new(vec![
        key("first", "c0ffee5ba11c0ffee5ba11c0ffee5ba1"),
        key("second", SECRET),
    ])
}

fn now() -> u64 {
    seconds(SystemTime::now())
}

/// Any claims at all, signed with the second key.
fn token(claims: Value) -> String {
    let mut all = json!({ "iss": "second", "exp": now() + 60, "nbf": now() });
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    signed(&all, SECRET)
}

fn signed(claims: &Value, secret: &str) -> String {
    // Makes the library install what signs.
    let _ = Claims::from_unverified("");
    let secret = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &secret).unwrap()
}

fn verify(token: &str) -> Result<Grants, AuthError> {
    keys().grants(None, Some(token))
}

pub(crate) fn grants(claims: Value) -> Grants {
    verify(&token(claims)).unwrap()
}

fn joins() -> Value {
    json!({ "sub": "alice", "video": { "roomJoin": true, "room": "standup" } })
}

#[test]
fn the_sdks_token_is_accepted_from_header_and_query() {
    let token = AccessToken::with_api_key("second", SECRET)
        .with_identity("alice")
        .with_name("Alice")
        .with_attributes([("seat", "12")])
        .with_grants(VideoGrants {
            room_join: true,
            room: "standup".to_owned(),
            can_publish_sources: vec!["microphone".to_owned()],
            ..Default::default()
        })
        .to_jwt()
        .unwrap();
    for (header, query) in [(Some(format!("Bearer {token}")), None), (None, Some(token))] {
        let grants = keys().grants(header.as_deref(), query.as_deref()).unwrap();
        assert_eq!(
            (grants.room.as_str(), grants.identity.as_str()),
            ("standup", "alice")
        );
        assert_eq!(grants.attributes["seat"], "12");
        assert!(grants.rights.may_publish(TrackSource::Microphone.into()));
        assert!(!grants.rights.may_publish(TrackSource::Camera.into()));
        assert!(grants.rights.publish_data && grants.rights.subscribe);
        assert!(!grants.rights.update_own_metadata);
    }
}

#[test]
fn what_is_wrong_with_a_token_is_said() {
    let check = |token: String, expected: AuthError| {
        assert_eq!(verify(&token).err(), Some(expected), "{token}");
    };
    check("nonsense".to_owned(), AuthError::Malformed);
    check("a.b.c".to_owned(), AuthError::Malformed);
    let with = |name: &str, value: Value| {
        let mut claims = joins();
        claims[name] = value;
        token(claims)
    };
    check(with("iss", json!("third")), AuthError::UnknownKey);
    check(with("exp", json!(now() - 120)), AuthError::Expired);
    check(with("nbf", json!(now() + 120)), AuthError::NotYetValid);
    // Later than any moment.
    check(with("exp", json!(u64::MAX)), AuthError::Malformed);
    check(with("exp", json!(1_u64 << 63)), AuthError::Malformed);
    check(
        with("video", json!({ "room": "standup" })),
        AuthError::NoJoin,
    );
    check(
        with("video", json!({ "roomJoin": true })),
        AuthError::NoRoom,
    );
    check(with("sub", json!("")), AuthError::NoIdentity);
    let long = with("sub", json!("x".repeat(257)));
    assert_eq!(verify(&long).unwrap_err().denial(), Denial::Invalid);
    let claims = json!({ "iss": "second", "exp": now() + 60, "sub": "a" });
    check(
        signed(&claims, &SECRET.to_uppercase()),
        AuthError::Signature,
    );
    let without_end = json!({ "iss": "second", "sub": "a", "video": { "roomJoin": true } });
    check(signed(&without_end, SECRET), AuthError::Malformed);
    // Within the leeway of a minute.
    assert!(verify(&with("exp", json!(now() - 30))).is_ok());
    assert_eq!(keys().grants(None, None).err(), Some(AuthError::Missing));
    assert_eq!(
        keys().grants(Some("Basic x"), None).err(),
        Some(AuthError::Scheme)
    );
}

#[test]
fn an_unsigned_token_is_nobodys() {
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let mut claims = joins();
    claims["iss"] = json!("second");
    claims["exp"] = json!(now() + 60);
    let unsigned = format!(
        "{}.{}.",
        encode(json!({ "alg": "none", "typ": "JWT" })),
        encode(claims)
    );
    assert_eq!(verify(&unsigned).err(), Some(AuthError::Malformed));
}

#[test]
fn claims_are_read_as_livekit_means_them() {
    let by_jti = grants(json!({ "jti": "bob", "video": { "roomJoin": true, "room": "r" } }));
    assert_eq!(by_jti.identity.as_str(), "bob");
    let silent = grants(json!({
        "sub": "a", "kind": "agent", "kindDetails": ["forwarded", "unheard_of"],
        "video": { "roomJoin": true, "room": "r", "canPublish": false, "hidden": true,
                   "canSubscribeMetrics": true },
        "roomConfig": { "emptyTimeout": 7, "max_participants": 3 },
        "somethingNew": { "a": 1 },
    }));
    assert!(!silent.rights.publish && !silent.rights.publish_data && silent.rights.hidden);
    assert!(silent.rights.subscribe_metrics);
    assert_eq!(silent.kind, Kind::Agent);
    assert_eq!(silent.kind_details, [i32::from(KindDetail::Forwarded)]);
    assert_eq!(
        (
            silent.room_config.empty_timeout,
            silent.room_config.max_participants
        ),
        (7, 3)
    );
    let unknown_sources = grants(json!({
        "sub": "a", "video": { "roomJoin": true, "room": "r", "canPublishSources": ["hologram"] },
    }));
    assert!(
        !unknown_sources
            .rights
            .may_publish(TrackSource::Camera.into())
    );
}

#[test]
fn a_token_says_where_its_owner_may_be() {
    let with = |name: &str, value: &str| {
        let mut claims = joins();
        claims["attributes"] = json!({ name: value });
        verify(&token(claims))
    };
    let check = |value: &str, expected: Result<&[&str], AuthError>| {
        let grants = with("pipemesh.regions_allowed", value);
        let allowed = grants.map(|grants| grants.regions_allowed.unwrap());
        let expected: Result<BTreeSet<Region>, _> =
            expected.map(|names| names.iter().map(|it| it.parse().unwrap()).collect());
        assert_eq!(allowed, expected, "{value:?}");
    };
    check("eu", Ok(&["eu"]));
    check("us-east, eu,eu", Ok(&["eu", "us-east"]));
    for nonsense in ["", ",", "eu,", "e u", "eu;us"] {
        check(nonsense, Err(AuthError::RegionsAllowed));
    }
    assert_eq!(grants(joins()).regions_allowed, None);
    let region = |value| with("pipemesh.region", value).unwrap().region;
    assert_eq!(region("eu").unwrap().as_str(), "eu");
    // A wish that makes no sense is none.
    assert_eq!(region("e u"), None);
}

#[test]
fn a_fresh_token_says_what_the_old_one_did_and_what_changed() {
    let mut claims = joins();
    claims["roomPreset"] = json!("webinar");
    let old = grants(claims);
    let attributes = BTreeMap::from([("hand".to_owned(), "up".to_owned())]);
    let current = Current {
        name: "Alice",
        metadata: "{}",
        attributes: &attributes,
        rights: old.rights.clone(),
    };
    let token = keys().renew(&old, &current, SystemTime::now()).unwrap();
    let new = verify(&token).unwrap();
    assert_eq!((new.name.as_str(), new.metadata.as_str()), ("Alice", "{}"));
    assert_eq!(new.attributes, attributes);
    assert_eq!(
        (new.rights, new.room, new.identity),
        (old.rights, old.room, old.identity)
    );
    let claims = payload(&token).unwrap();
    assert_eq!(claims["roomPreset"], "webinar");
    assert_eq!(
        claims["iss"], "second",
        "signed with the key it was signed with"
    );
    let expires = claims["exp"].as_u64().unwrap();
    assert!(expires >= now() + 599 && expires <= now() + 601);
}

#[test]
fn a_fresh_token_asks_for_what_the_old_one_did() {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let owned = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        owned.collect()
    };
    let asked = [
        ("pipemesh.region", "mars"),
        ("pipemesh.regions_allowed", "eu"),
    ];
    let mut claims = joins();
    claims["attributes"] = json!(map(&[asked[0], asked[1], ("hand", "down")]));
    let old = grants(claims);
    // As others are told.
    let attributes = map(&[
        ("pipemesh.region", "local"),
        ("pipemesh.node", "node-a"),
        ("hand", "up"),
    ]);
    let current = Current {
        name: "",
        metadata: "",
        attributes: &attributes,
        rights: old.rights.clone(),
    };
    let token = keys().renew(&old, &current, SystemTime::now()).unwrap();
    let expected = map(&[asked[0], asked[1], ("hand", "up")]);
    assert_eq!(verify(&token).unwrap().attributes, expected);
}

#[test]
fn the_demos_token_lets_people_in() {
    let token = keys().demo_token("standup", "bob", "Bob").unwrap();
    let grants = verify(&token).unwrap();
    assert_eq!(
        (grants.room.as_str(), grants.name.as_str()),
        ("standup", "Bob")
    );
    assert!(grants.rights.publish && grants.rights.update_own_metadata);
}

#[test]
fn grants_do_not_print_what_a_token_is_made_from() {
    let mut claims = joins();
    claims["somethingNew"] = json!("7f3a");
    let printed = format!("{:?}", grants(claims));
    assert!(!printed.contains("7f3a"), "{printed}");
}

#[test]
fn a_fresh_token_grants_what_somebody_may_do_since() {
    let old = grants(joins());
    let rights = Rights {
        publish: true,
        publish_sources: [TrackSource::Microphone.into()].into(),
        subscribe: false,
        update_own_metadata: true,
        ..Default::default()
    };
    let current = Current {
        name: "",
        metadata: "",
        attributes: &BTreeMap::new(),
        rights: rights.clone(),
    };
    let token = keys().renew(&old, &current, SystemTime::now()).unwrap();
    assert_eq!(verify(&token).unwrap().rights, rights);
}

#[test]
fn the_server_api_is_for_whom_it_was_granted_to() {
    let granted = |video: Value| {
        let token = token(json!({ "video": video }));
        keys()
            .api_grants(Some(&format!("Bearer {token}")), None)
            .unwrap()
    };
    let create = granted(json!({ "roomCreate": true }));
    assert!(create.may_create().is_ok() && create.may_list().is_err());
    let list = granted(json!({ "roomList": true }));
    assert!(list.may_list().is_ok() && list.may_create().is_err());
    let admin = granted(json!({ "roomAdmin": true, "room": "standup" }));
    assert!(admin.may_administer("standup").is_ok());
    assert!(admin.may_administer("another").is_err());
    // One that names no room administers none.
    let nowhere = granted(json!({ "roomAdmin": true }));
    assert!(nowhere.may_administer("").is_err() && nowhere.may_administer("standup").is_err());
    let joins = granted(json!({ "roomJoin": true, "room": "standup" }));
    assert!(joins.may_administer("standup").is_err());
}
