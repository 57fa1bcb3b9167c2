//! How a client asks to join: `join_request` of `/rtc/v1`, or the query parameters of `/rtc`.

use std::collections::HashMap;
use std::io::Read;

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use flate2::read::GzDecoder;
use livekit_protocol::wrapped_join_request::Compression;
use livekit_protocol::{
    AddTrackRequest, ClientInfo, JoinRequest, SessionDescription, SyncState, WrappedJoinRequest,
    client_info,
};
use pipemesh_proto::node::ConnectionLayout;
use prost::Message;

use super::client::Client;
use super::query::Query;

/// A decompressed join request may have this many bytes. A small URL can hold a gzip of gigabytes.
pub(crate) const MAX_JOIN_REQUEST: usize = 1 << 20;

/// What a client asks for, whichever way it asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Join {
    pub(crate) layout: ConnectionLayout,
    pub(crate) client: Client,
    pub(crate) auto_subscribe: bool,
    pub(crate) adaptive_stream: bool,
    /// Rather a bad picture than none.
    pub(crate) never_pause: bool,
    /// Replaces that of the token if not empty.
    pub(crate) metadata: String,
    /// Added to those of the token.
    pub(crate) attributes: HashMap<String, String>,
    pub(crate) add_tracks: Vec<AddTrackRequest>,
    pub(crate) offer: Option<SessionDescription>,
    /// The client believes to be in the room and lost only its connection to us.
    pub(crate) resume: Option<Resume>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Resume {
    /// Who it was; empty for clients that rely on their identity.
    pub(crate) participant_sid: String,
    pub(crate) sync_state: Option<SyncState>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidJoin {
    #[error("join_request is required")]
    Missing,
    #[error("cannot base64 decode wrapped join request")]
    Base64,
    #[error("cannot unmarshal wrapped join request")]
    Wrapped,
    #[error("join request too large, at most {MAX_JOIN_REQUEST} bytes are allowed")]
    TooLarge,
    #[error("cannot read decompressed join request")]
    Gzip,
    #[error("cannot unmarshal join request")]
    Unmarshal,
    #[error("cannot decode attributes")]
    Attributes,
    #[error("publish is not supported")]
    Publish,
}

/// URL-safe; the padding is optional.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Join {
    /// `needs_request`: on `/rtc/v1` everything is in the join request; `/rtc` has it from some.
    pub(crate) fn parse(
        query: &Query,
        needs_request: bool,
        user_agent: &str,
    ) -> Result<Self, InvalidJoin> {
        match query.get("join_request") {
            Some(text) => Ok(Self::of_request(unwrap(text)?, user_agent)),
            None if needs_request => Err(InvalidJoin::Missing),
            None => Self::of_parameters(query, user_agent),
        }
    }

    fn of_request(request: JoinRequest, user_agent: &str) -> Self {
        let settings = request.connection_settings.unwrap_or_default();
        Self {
            layout: ConnectionLayout::Single,
            client: Client::new(request.client_info.unwrap_or_default(), user_agent),
            auto_subscribe: settings.auto_subscribe,
            adaptive_stream: settings.adaptive_stream,
            never_pause: settings.subscriber_allow_pause == Some(false),
            metadata: request.metadata,
            attributes: request.participant_attributes,
            add_tracks: request.add_track_requests,
            offer: request.publisher_offer,
            resume: request.reconnect.then_some(Resume {
                participant_sid: request.participant_sid,
                sync_state: request.sync_state,
            }),
        }
    }

    fn of_parameters(query: &Query, user_agent: &str) -> Result<Self, InvalidJoin> {
        if query.get("publish").is_some() {
            // A second, publishing connection under a made-up identity; no SDK asks for it today.
            return Err(InvalidJoin::Publish);
        }
        let attributes = query.get("attributes").map(|text| {
            let json = BASE64.decode(text).map_err(|_| InvalidJoin::Attributes)?;
            serde_json::from_slice(&json).map_err(|_| InvalidJoin::Attributes)
        });
        Ok(Self {
            layout: ConnectionLayout::Dual,
            client: Client::new(client_info(query), user_agent),
            auto_subscribe: query.flag("auto_subscribe").unwrap_or(true),
            adaptive_stream: query.flag("adaptive_stream").unwrap_or(false),
            never_pause: query.flag("subscriber_allow_pause") == Some(false),
            attributes: attributes.transpose()?.unwrap_or_default(),
            resume: query.flag("reconnect").unwrap_or(false).then(|| Resume {
                participant_sid: query.text("sid"),
                sync_state: None,
            }),
            ..Self::default()
        })
    }
}

fn unwrap(text: &str) -> Result<JoinRequest, InvalidJoin> {
    let wrapped = BASE64.decode(text).map_err(|_| InvalidJoin::Base64)?;
    let wrapped =
        WrappedJoinRequest::decode(wrapped.as_slice()).map_err(|_| InvalidJoin::Wrapped)?;
    let plain = match Compression::try_from(wrapped.compression) {
        Ok(Compression::None) => wrapped.join_request,
        Ok(Compression::Gzip) => gunzip(&wrapped.join_request)?,
        Err(_) => return Err(InvalidJoin::Wrapped),
    };
    if plain.len() > MAX_JOIN_REQUEST {
        return Err(InvalidJoin::TooLarge);
    }
    JoinRequest::decode(plain.as_slice()).map_err(|_| InvalidJoin::Unmarshal)
}

/// At most one byte more than is allowed.
fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, InvalidJoin> {
    let mut plain = Vec::new();
    GzDecoder::new(bytes)
        .take(MAX_JOIN_REQUEST as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(|_| InvalidJoin::Gzip)?;
    Ok(plain)
}

fn client_info(query: &Query) -> ClientInfo {
    use client_info::Sdk;
    let sdk = match query.get("sdk").unwrap_or_default() {
        "js" => Sdk::Js,
        "ios" | "swift" => Sdk::Swift,
        "android" => Sdk::Android,
        "flutter" => Sdk::Flutter,
        "go" => Sdk::Go,
        "unity" => Sdk::Unity,
        "reactnative" => Sdk::ReactNative,
        "rust" => Sdk::Rust,
        "python" => Sdk::Python,
        "cpp" => Sdk::Cpp,
        "unityweb" => Sdk::UnityWeb,
        "node" => Sdk::Node,
        "esp32" => Sdk::Esp32,
        _ => Sdk::Unknown,
    };
    let capabilities = query.get("capabilities").unwrap_or_default().split(',');
    let capabilities = capabilities
        .filter_map(|name| client_info::Capability::from_str_name(name.trim()))
        .map(i32::from);
    ClientInfo {
        sdk: sdk.into(),
        version: query.text("version"),
        protocol: query.number("protocol"),
        client_protocol: query.number("client_protocol"),
        os: query.text("os"),
        os_version: query.text("os_version"),
        device_model: query.text("device_model"),
        browser: query.text("browser"),
        browser_version: query.text("browser_version"),
        network: query.text("network"),
        capabilities: capabilities.collect(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;
