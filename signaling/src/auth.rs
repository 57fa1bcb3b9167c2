//! Tokens: what they allow, and fresh ones for whom they were given to.
//!
//! The only file that sees a token. Nobody gets one out of here but the client it belongs to, and
//! no error or log line repeats any part of one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use livekit_protocol::participant_info::{Kind, KindDetail};
use livekit_protocol::{ParticipantPermission, RoomConfiguration, TrackSource};
use livekit_token::{AccessToken, AccessTokenError, Claims, TokenVerifier};
use pipemesh_proto::ids::Region;
use pipemesh_service::Secret;
use pipemesh_topology::{Identity, RoomName};
use serde_json::{Map, Value};

use crate::rooms::body::{InvalidTag, loudest_microphones};

/// A fresh token is good for at least this long: two refreshes may be lost.
const FRESH_LIFETIME: Duration = Duration::from_secs(600);

/// Names of attributes by which a token asks for something, and under which we say what it got.
/// Clients cannot set them.
pub(crate) const RESERVED_ATTRIBUTES: &str = "pipemesh.";

/// Where its owner should be, and, separated by commas, the only regions they may be in.
const REGION: &str = "pipemesh.region";
const REGIONS_ALLOWED: &str = "pipemesh.regions_allowed";

/// How long a body that was signed is to be believed.
const BODY_LIFETIME: Duration = Duration::from_secs(300);

/// How long a token of the demo is good for.
const DEMO_LIFETIME: Duration = Duration::from_secs(6 * 3600);

/// A key's name, as tokens carry it, and the secret they are signed with.
#[derive(Debug, Clone)]
pub struct ApiKey {
    pub name: String,
    pub secret: Secret,
}

impl ApiKey {
    /// A token that says of a body that it is ours. `None`: the key is none.
    pub(crate) fn sign_body(&self, body: &[u8]) -> Option<String> {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
        AccessToken::with_api_key(&self.name, self.secret.expose())
            .with_ttl(BODY_LIFETIME)
            .with_sha256(&STANDARD.encode(digest))
            .to_jwt()
            .ok()
    }
}

/// The keys tokens are accepted from.
#[derive(Debug, Clone)]
pub struct Keys(Vec<ApiKey>);

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    #[error("no permissions to access the room: the request has no token")]
    Missing,
    #[error("invalid authorization header. Must start with Bearer ")]
    Scheme,
    #[error("invalid authorization token")]
    Malformed,
    #[error("invalid API key")]
    UnknownKey,
    #[error("invalid authorization token: the signature does not match")]
    Signature,
    #[error("invalid authorization token: it has expired")]
    Expired,
    #[error("invalid authorization token: it is not valid yet")]
    NotYetValid,
    #[error("permissions denied: the token does not grant roomJoin")]
    NoJoin,
    #[error("permissions denied: the token does not grant {0}")]
    NotGranted(&'static str),
    #[error("no room name")]
    NoRoom,
    #[error("room name {0}")]
    Room(String),
    #[error("identity cannot be empty")]
    NoIdentity,
    #[error("identity {0}")]
    Identity(String),
    #[error("the token's attribute {REGIONS_ALLOWED} is not a list of regions")]
    RegionsAllowed,
    #[error("the token's room configuration: {0}")]
    RoomConfig(InvalidTag),
}

/// What kind of answer an [`AuthError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denial {
    /// 401: who this is could not be established.
    Unauthorized,
    /// 403: it could, and they may not.
    Forbidden,
    /// 400: the token grants something that makes no sense.
    Invalid,
}

impl AuthError {
    pub(crate) fn denial(&self) -> Denial {
        match self {
            Self::Missing
            | Self::Scheme
            | Self::Malformed
            | Self::UnknownKey
            | Self::Signature
            | Self::Expired
            | Self::NotYetValid => Denial::Unauthorized,
            Self::NoJoin | Self::NotGranted(_) => Denial::Forbidden,
            Self::NoRoom
            | Self::Room(_)
            | Self::NoIdentity
            | Self::Identity(_)
            | Self::RegionsAllowed
            | Self::RoomConfig(_) => Denial::Invalid,
        }
    }

    /// For a metric.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Scheme | Self::Malformed => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::NoJoin => "no_join",
            Self::NotGranted(_) => "not_granted",
            Self::NoRoom
            | Self::Room(_)
            | Self::NoIdentity
            | Self::Identity(_)
            | Self::RegionsAllowed
            | Self::RoomConfig(_) => "invalid_grant",
        }
    }
}

/// What a token allows.
#[derive(Debug, Clone)]
pub(crate) struct Grants {
    pub(crate) room: RoomName,
    pub(crate) identity: Identity,
    pub(crate) name: String,
    pub(crate) metadata: String,
    pub(crate) attributes: BTreeMap<String, String>,
    /// Where they should be.
    pub(crate) region: Option<Region>,
    /// The only regions they may be in.
    pub(crate) regions_allowed: Option<BTreeSet<Region>>,
    pub(crate) kind: Kind,
    pub(crate) kind_details: Vec<i32>,
    pub(crate) rights: Rights,
    pub(crate) room_config: RoomConfiguration,
    /// What a fresh token is made from.
    renewal: Renewal,
}

/// What somebody may do in a room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(crate) publish: bool,
    /// Empty: all sources.
    pub(crate) publish_sources: BTreeSet<i32>,
    pub(crate) subscribe: bool,
    pub(crate) publish_data: bool,
    pub(crate) update_own_metadata: bool,
    pub(crate) hidden: bool,
    pub(crate) recorder: bool,
    pub(crate) agent: bool,
    pub(crate) subscribe_metrics: bool,
}

impl Rights {
    pub(crate) fn may_publish(&self, source: i32) -> bool {
        self.publish && (self.publish_sources.is_empty() || self.publish_sources.contains(&source))
    }

    #[expect(deprecated, reason = "older SDKs set recorder and agent")]
    pub(crate) fn of(permission: &ParticipantPermission) -> Self {
        Self {
            publish: permission.can_publish,
            publish_sources: permission.can_publish_sources.iter().copied().collect(),
            subscribe: permission.can_subscribe,
            publish_data: permission.can_publish_data,
            update_own_metadata: permission.can_update_metadata,
            hidden: permission.hidden,
            recorder: permission.recorder,
            agent: permission.agent,
            subscribe_metrics: permission.can_subscribe_metrics,
        }
    }

    /// As a token grants them.
    fn to_grants(&self) -> Map<String, Value> {
        let sources = self.publish_sources.iter();
        let sources = sources.filter_map(|source| TrackSource::try_from(*source).ok());
        let sources: Vec<Value> = sources
            .map(|source| source.as_str_name().to_lowercase().into())
            .collect();
        let grants: [(&str, Value); 9] = [
            ("canPublish", self.publish.into()),
            ("canPublishSources", sources.into()),
            ("canSubscribe", self.subscribe.into()),
            ("canPublishData", self.publish_data.into()),
            ("canUpdateOwnMetadata", self.update_own_metadata.into()),
            ("hidden", self.hidden.into()),
            ("recorder", self.recorder.into()),
            ("agent", self.agent.into()),
            ("canSubscribeMetrics", self.subscribe_metrics.into()),
        ];
        grants
            .map(|(name, may)| (name.to_owned(), may))
            .into_iter()
            .collect()
    }

    #[expect(deprecated, reason = "older SDKs read recorder and agent")]
    pub(crate) fn to_permission(&self) -> ParticipantPermission {
        ParticipantPermission {
            can_subscribe: self.subscribe,
            can_publish: self.publish,
            can_publish_data: self.publish_data,
            can_publish_sources: self.publish_sources.iter().copied().collect(),
            hidden: self.hidden,
            recorder: self.recorder,
            can_update_metadata: self.update_own_metadata,
            agent: self.agent,
            can_subscribe_metrics: self.subscribe_metrics,
            can_manage_agent_session: false,
        }
    }
}

/// The claims as they were, those that we do not know included, and who signed them.
#[derive(Clone)]
struct Renewal {
    claims: Map<String, Value>,
    key: String,
    expires: SystemTime,
}

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renewal")
    }
}

/// What may have changed since the token was given out.
#[derive(Debug, Clone)]
pub(crate) struct Current<'a> {
    pub(crate) name: &'a str,
    pub(crate) metadata: &'a str,
    pub(crate) attributes: &'a BTreeMap<String, String>,
    pub(crate) rights: Rights,
}

/// What a token allows to ask of the server API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiGrants {
    create: bool,
    list: bool,
    /// The room that it administers.
    admin: Option<String>,
}

impl ApiGrants {
    /// Rooms may be opened and deleted.
    pub(crate) fn may_create(&self) -> Result<(), AuthError> {
        self.create
            .then_some(())
            .ok_or(AuthError::NotGranted("roomCreate"))
    }

    pub(crate) fn may_list(&self) -> Result<(), AuthError> {
        self.list
            .then_some(())
            .ok_or(AuthError::NotGranted("roomList"))
    }

    pub(crate) fn may_administer(&self, room: &str) -> Result<(), AuthError> {
        (self.admin.as_deref() == Some(room))
            .then_some(())
            .ok_or(AuthError::NotGranted("roomAdmin for this room"))
    }
}

impl Keys {
    /// The first signs what none of them signed before. There has to be one.
    #[must_use]
    pub fn new(keys: Vec<ApiKey>) -> Self {
        assert!(!keys.is_empty(), "without a key nobody can join");
        Self(keys)
    }

    /// The key of that name; without one the first.
    pub(crate) fn named(&self, name: Option<&str>) -> Option<&ApiKey> {
        match name {
            Some(name) => self.0.iter().find(|key| key.name == name),
            None => self.0.first(),
        }
    }

    /// Checks the value of an `Authorization` header, or else the query's `access_token`.
    pub(crate) fn grants(
        &self,
        authorization: Option<&str>,
        parameter: Option<&str>,
    ) -> Result<Grants, AuthError> {
        self.verify(token(authorization, parameter)?)
    }

    /// The same, for the server API: who asks there is nobody in particular.
    pub(crate) fn api_grants(
        &self,
        authorization: Option<&str>,
        parameter: Option<&str>,
    ) -> Result<ApiGrants, AuthError> {
        let (claims, _) = self.claims(token(authorization, parameter)?)?;
        let video = claims.video;
        Ok(ApiGrants {
            create: video.room_create,
            list: video.room_list,
            admin: (video.room_admin && !video.room.is_empty()).then_some(video.room),
        })
    }

    fn claims(&self, token: &str) -> Result<(Claims, &ApiKey), AuthError> {
        let unverified = Claims::from_unverified(token).map_err(|_| AuthError::Malformed)?;
        let key = self.0.iter().find(|key| key.name == unverified.iss);
        let key = key.ok_or(AuthError::UnknownKey)?;
        let verifier = TokenVerifier::with_api_key(&key.name, key.secret.expose());
        let claims = verifier.verify(token).map_err(|error| refusal(&error))?;
        Ok((claims, key))
    }

    fn verify(&self, token: &str) -> Result<Grants, AuthError> {
        let (claims, key) = self.claims(token)?;
        // What follows reads the same token again, whose signature is known to be right.
        let all = payload(token).ok_or(AuthError::Malformed)?;
        let expires = UNIX_EPOCH.checked_add(Duration::from_secs(claims.exp as u64));
        let expires = expires.ok_or(AuthError::Malformed)?;
        let renewal = Renewal {
            claims: all,
            key: key.name.clone(),
            expires,
        };
        grants(claims, renewal)
    }

    /// A token like the one that was given, good for a while from `now`, with what has changed.
    pub(crate) fn renew(
        &self,
        grants: &Grants,
        current: &Current<'_>,
        now: SystemTime,
    ) -> Option<String> {
        let renewal = &grants.renewal;
        let key = self.0.iter().find(|key| key.name == renewal.key);
        let key = key.or(self.0.first())?;
        // What we say of somebody with reserved names is not what a token asks for with them.
        let reserved = |name: &str| name.starts_with(RESERVED_ATTRIBUTES);
        let theirs = current
            .attributes
            .iter()
            .filter(|(name, _)| !reserved(name));
        let asked = grants.attributes.iter().filter(|(name, _)| reserved(name));
        let attributes: BTreeMap<&String, &String> = theirs.chain(asked).collect();
        let mut claims = renewal.claims.clone();
        let mut set = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        let expires = renewal.expires.max(now + FRESH_LIFETIME);
        set("iss", key.name.as_str().into());
        set("sub", grants.identity.as_str().into());
        set("nbf", seconds(now).into());
        set("exp", seconds(expires).into());
        set("name", current.name.into());
        set("metadata", current.metadata.into());
        set("attributes", serde_json::to_value(attributes).ok()?);
        let video = claims.get_mut("video").and_then(Value::as_object_mut);
        video?.extend(current.rights.to_grants());
        sign(&claims, key)
    }

    /// A token for the demo: everything in one room.
    pub(crate) fn demo_token(&self, room: &str, identity: &str, name: &str) -> Option<String> {
        use livekit_token::VideoGrants;
        let key = self.0.first()?;
        AccessToken::with_api_key(&key.name, key.secret.expose())
            .with_identity(identity)
            .with_name(name)
            .with_ttl(DEMO_LIFETIME)
            .with_grants(VideoGrants {
                room_join: true,
                room: room.to_owned(),
                can_update_own_metadata: Some(true),
                ..Default::default()
            })
            .to_jwt()
            .ok()
    }
}

fn token<'a>(
    authorization: Option<&'a str>,
    parameter: Option<&'a str>,
) -> Result<&'a str, AuthError> {
    match authorization {
        Some(header) => header.strip_prefix("Bearer ").ok_or(AuthError::Scheme),
        None => parameter.ok_or(AuthError::Missing),
    }
}

fn refusal(error: &AccessTokenError) -> AuthError {
    let AccessTokenError::Encoding(error) = error else {
        return AuthError::Malformed;
    };
    match error.kind() {
        ErrorKind::ExpiredSignature => AuthError::Expired,
        ErrorKind::ImmatureSignature => AuthError::NotYetValid,
        ErrorKind::InvalidSignature => AuthError::Signature,
        _ => AuthError::Malformed,
    }
}

/// The middle of a token.
fn payload(token: &str) -> Option<Map<String, Value>> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

fn sign(claims: &Map<String, Value>, key: &ApiKey) -> Option<String> {
    // The library that verifies tokens installs the one that signs them, at its first use; a
    // grant was verified before anything is signed.
    let secret = EncodingKey::from_secret(key.secret.expose().as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &secret).ok()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

fn grants(claims: Claims, renewal: Renewal) -> Result<Grants, AuthError> {
    let video = claims.video;
    if !video.room_join {
        return Err(AuthError::NoJoin);
    }
    if video.room.is_empty() {
        return Err(AuthError::NoRoom);
    }
    let room: RoomName = video
        .room
        .parse()
        .map_err(|what| AuthError::Room(format!("{what}")))?;
    let identity = match claims.sub.as_str() {
        "" => renewal
            .claims
            .get("jti")
            .and_then(Value::as_str)
            .unwrap_or_default(),
        identity => identity,
    };
    if identity.is_empty() {
        return Err(AuthError::NoIdentity);
    }
    let identity: Identity = identity
        .parse()
        .map_err(|what| AuthError::Identity(format!("{what}")))?;
    let in_video = |name: &str| {
        let video = renewal.claims.get("video").and_then(Value::as_object);
        video
            .and_then(|video| video.get(name))
            .and_then(Value::as_bool)
            .unwrap_or(false)
    };
    let rights = Rights {
        publish: video.can_publish(),
        publish_sources: video
            .can_publish_sources
            .iter()
            .filter_map(|source| TrackSource::from_str_name(&source.to_uppercase()))
            .map(i32::from)
            .collect(),
        subscribe: video.can_subscribe(),
        publish_data: video.can_publish_data(),
        update_own_metadata: video.can_update_own_metadata(),
        hidden: video.hidden,
        recorder: video.recorder,
        agent: video.agent,
        subscribe_metrics: in_video("canSubscribeMetrics"),
    };
    // A list of sources that names none we know allows none, not all.
    let publish = rights.publish
        && (video.can_publish_sources.is_empty() || !rights.publish_sources.is_empty());
    let kind_details = renewal.claims.get("kindDetails").and_then(Value::as_array);
    let kind_details = kind_details.into_iter().flatten().filter_map(|detail| {
        KindDetail::from_str_name(&detail.as_str()?.to_uppercase()).map(i32::from)
    });
    let asked = |name| claims.attributes.get(name);
    // Who cannot be told from whom nothing is asked must not be let in anywhere.
    let regions_allowed = asked(REGIONS_ALLOWED).map(|text| {
        let regions = text.split(',').map(|region| region.trim().parse());
        let regions: Result<BTreeSet<Region>, _> = regions.collect();
        regions.map_err(|_| AuthError::RegionsAllowed)
    });
    let regions_allowed = regions_allowed.transpose()?;
    let room_config = claims.room_config.unwrap_or_default();
    loudest_microphones(&room_config).map_err(AuthError::RoomConfig)?;
    Ok(Grants {
        room,
        identity,
        region: asked(REGION).and_then(|region| region.parse().ok()),
        regions_allowed,
        name: claims.name,
        metadata: claims.metadata,
        attributes: claims.attributes.into_iter().collect(),
        kind: kind(&claims.kind, &rights),
        kind_details: kind_details.collect(),
        rights: Rights { publish, ..rights },
        room_config,
        renewal,
    })
}

fn kind(kind: &str, rights: &Rights) -> Kind {
    match Kind::from_str_name(&kind.to_uppercase()) {
        Some(kind) => kind,
        // Tokens from before there were kinds.
        None if rights.agent => Kind::Agent,
        None if rights.recorder => Kind::Egress,
        None => Kind::Standard,
    }
}

#[cfg(test)]
pub(crate) mod tests;
