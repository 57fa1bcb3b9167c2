//! Where a client connects to: the two dialects of the client protocol as URLs.

use std::fmt::Write as _;
use std::io::Write as _;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use flate2::Compression;
use flate2::write::GzEncoder;
use livekit_protocol::wrapped_join_request::Compression as Wrapping;
use livekit_protocol::{JoinRequest, WrappedJoinRequest};
use prost::Message;

/// How a client asks to join.
#[derive(Debug, Clone)]
pub enum Dialect {
    /// `/rtc/v1`: one peer connection, everything in `join_request`.
    Single {
        request: Box<JoinRequest>,
        wrapping: Wrapping,
    },
    /// `/rtc`: two peer connections, everything in query parameters of their own.
    Dual { parameters: Vec<(String, String)> },
}

impl Dialect {
    /// What a browser asks with: gzip.
    #[must_use]
    pub fn single(request: JoinRequest) -> Self {
        Self::Single {
            request: Box::new(request),
            wrapping: Wrapping::Gzip,
        }
    }

    #[must_use]
    pub fn dual<K: Into<String>, V: Into<String>>(
        parameters: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let parameters = parameters.into_iter();
        Self::Dual {
            parameters: parameters.map(|(k, v)| (k.into(), v.into())).collect(),
        }
    }
}

/// Path and query below `base`, e.g. `/rtc?sdk=js`. `suffix` is empty or `/validate`.
pub(super) fn target(
    base: &str,
    dialect: &Dialect,
    suffix: &str,
    token: Option<&str>,
    parameters: &[(String, String)],
) -> String {
    let base = base.trim_end_matches('/');
    let mut query: Vec<(&str, &str)> = Vec::new();
    if let Some(token) = token {
        query.push(("access_token", token));
    }
    let joined;
    let path = match dialect {
        Dialect::Single { request, wrapping } => {
            joined = wrap(request, *wrapping);
            query.push(("join_request", &joined));
            "/rtc/v1"
        }
        Dialect::Dual { parameters } => {
            query.extend(parameters.iter().map(|(k, v)| (k.as_str(), v.as_str())));
            "/rtc"
        }
    };
    query.extend(parameters.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    let mut target = format!("{base}{path}{suffix}");
    for (i, (name, value)) in query.into_iter().enumerate() {
        target.push(if i == 0 { '?' } else { '&' });
        target.push_str(name);
        target.push('=');
        escape(value, &mut target);
    }
    target
}

fn wrap(request: &JoinRequest, wrapping: Wrapping) -> String {
    let plain = request.encode_to_vec();
    let join_request = match wrapping {
        Wrapping::None => plain,
        Wrapping::Gzip => {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
            gzip.write_all(&plain)
                .and_then(|()| gzip.finish())
                .expect("writing to memory does not fail")
        }
    };
    let wrapped = WrappedJoinRequest {
        compression: wrapping.into(),
        join_request,
    };
    URL_SAFE.encode(wrapped.encode_to_vec())
}

/// RFC 3986 section 2.3: everything but unreserved characters is escaped.
fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => write!(out, "%{byte:02X}").expect("writing to a String does not fail"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_kept_and_values_are_escaped() {
        let none = Dialect::dual([("", ""); 0]);
        let dual = Dialect::dual([("sdk", "js"), ("attributes", "a b&c=é")]);
        assert_eq!(
            target("/mesh/", &dual, "", Some("t.o.k"), &[]),
            "/mesh/rtc?access_token=t.o.k&sdk=js&attributes=a%20b%26c%3D%C3%A9"
        );
        assert_eq!(target("", &none, "/validate", None, &[]), "/rtc/validate");
        let parameters = [("regions".to_owned(), "eu:12".to_owned())];
        assert_eq!(
            target("", &none, "", Some("t.o.k"), &parameters),
            "/rtc?access_token=t.o.k&regions=eu%3A12"
        );
    }

    #[test]
    fn a_join_request_is_wrapped_as_asked() {
        let request = JoinRequest {
            metadata: "m".repeat(1000),
            ..Default::default()
        };
        let plain = wrap(&request, Wrapping::None);
        let gzip = wrap(&request, Wrapping::Gzip);
        assert!(gzip.len() < plain.len() / 4);
        let wrapped = URL_SAFE.decode(plain).unwrap();
        let wrapped = WrappedJoinRequest::decode(wrapped.as_slice()).unwrap();
        let unwrapped = JoinRequest::decode(wrapped.join_request.as_slice()).unwrap();
        assert_eq!(unwrapped, request);
    }
}
