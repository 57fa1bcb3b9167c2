//! Twirp: `POST /twirp/<service>/<method>` with a message as protobuf or as JSON.
//!
//! Knows envelopes alone: how a request is read, how an answer and an error are written. What methods do
//! is in `room_service`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::room_service;
use crate::auth::{AuthError, Denial};
use crate::context::Context;
use crate::livekit::query::Query;

/// Bytes of a request. LiveKit's own limit.
pub(crate) const MAX_BODY: usize = 10 << 20;

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/protobuf");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Codes of <https://twitchtv.github.io/twirp/docs/spec_v7.html#error-codes> that are answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    BadRoute,
    Malformed,
    InvalidArgument,
    Unauthenticated,
    PermissionDenied,
    NotFound,
    FailedPrecondition,
    Aborted,
    Unimplemented,
    Unavailable,
    DeadlineExceeded,
}

impl Code {
    fn name(self) -> &'static str {
        match self {
            Self::BadRoute => "bad_route",
            Self::Malformed => "malformed",
            Self::InvalidArgument => "invalid_argument",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::NotFound => "not_found",
            Self::FailedPrecondition => "failed_precondition",
            Self::Aborted => "aborted",
            Self::Unimplemented => "unimplemented",
            Self::Unavailable => "unavailable",
            Self::DeadlineExceeded => "deadline_exceeded",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::BadRoute | Self::NotFound => StatusCode::NOT_FOUND,
            Self::Malformed | Self::InvalidArgument => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::FailedPrecondition => StatusCode::PRECONDITION_FAILED,
            Self::Aborted => StatusCode::CONFLICT,
            Self::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::DeadlineExceeded => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

/// Why a call fails.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    message: String,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<AuthError> for Failure {
    fn from(error: AuthError) -> Self {
        let code = match error.denial() {
            Denial::Unauthorized => Code::Unauthenticated,
            Denial::Forbidden => Code::PermissionDenied,
            Denial::Invalid => Code::InvalidArgument,
        };
        Self::new(code, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        // Errors are JSON, whatever was asked in.
        let body = json!({ "code": self.code.name(), "msg": self.message });
        let kind = [(header::CONTENT_TYPE, JSON)];
        (self.code.status(), kind, body.to_string()).into_response()
    }
}

/// How bodies are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
}

/// A body and how it is written.
pub(crate) struct Request {
    encoding: Encoding,
    body: Bytes,
}

impl Request {
    pub(crate) fn read<T: Message + Default + DeserializeOwned>(&self) -> Result<T, Failure> {
        let malformed = |what: String| Failure::new(Code::Malformed, what);
        match self.encoding {
            Encoding::Protobuf => {
                T::decode(self.body.clone()).map_err(|error| malformed(error.to_string()))
            }
            Encoding::Json => {
                serde_json::from_slice(&self.body).map_err(|error| malformed(error.to_string()))
            }
        }
    }

    pub(crate) fn answer<T: Message + Serialize>(&self, message: &T) -> Response {
        match self.encoding {
            Encoding::Protobuf => {
                let kind = [(header::CONTENT_TYPE, PROTOBUF)];
                (kind, message.encode_to_vec()).into_response()
            }
            Encoding::Json => match serde_json::to_vec(message) {
                Ok(body) => ([(header::CONTENT_TYPE, JSON)], body).into_response(),
                // An enumeration of a number that has no name.
                Err(error) => {
                    Failure::new(Code::InvalidArgument, error.to_string()).into_response()
                }
            },
        }
    }
}

pub(crate) async fn call(
    State(context): State<Arc<Context>>,
    Path((service, method)): Path<(String, String)>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let kind = text(header::CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let encoding = match kind {
        "application/protobuf" => Encoding::Protobuf,
        "application/json" => Encoding::Json,
        _ => {
            let what = format!("the content type is {kind:?}, not application/json or /protobuf");
            return Failure::new(Code::BadRoute, what).into_response();
        }
    };
    let query = Query::parse(query.as_deref().unwrap_or_default());
    let grants = context
        .keys
        .api_grants(text(header::AUTHORIZATION), query.get("access_token"));
    let grants = match grants {
        Ok(grants) => grants,
        Err(error) => {
            let reason = error.reason();
            return refuse(&context, error.into(), Some(reason));
        }
    };
    let request = Request { encoding, body };
    if service != room_service::NAME {
        let what = format!("{service} is not offered");
        return Failure::new(Code::Unimplemented, what).into_response();
    }
    // A call goes on when its caller gives up: half of it must not stay.
    let calling = Arc::clone(&context);
    let called = context
        .tasks
        .spawn(async move { room_service::call(&calling, &grants, &method, &request).await });
    match called.await {
        Ok(Ok(response)) => response,
        Ok(Err(failure)) => {
            let reason = (failure.code == Code::PermissionDenied).then_some("not_granted");
            refuse(&context, failure, reason)
        }
        Err(fault) => {
            tracing::error!(%fault, "a call ended by a fault");
            context.metrics.panics.inc();
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn refuse(context: &Context, failure: Failure, reason: Option<&'static str>) -> Response {
    if let Some(reason) = reason {
        context.metrics.auth_failure(reason);
    }
    failure.into_response()
}
