//! What a client can understand. Old clients are told less, never something they cannot decode.

use std::cmp::Ordering;

use livekit_protocol::ClientInfo;
use livekit_protocol::client_info::Sdk;

/// A client as it describes itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    info: ClientInfo,
}

impl Client {
    /// `user_agent` fills in which browser it is: LiveKit's JavaScript SDK does not say.
    pub(crate) fn new(mut info: ClientInfo, user_agent: &str) -> Self {
        if info.browser.is_empty() {
            info.browser = browser(user_agent).to_owned();
        }
        Self { info }
    }

    pub(crate) fn info(&self) -> &ClientInfo {
        &self.info
    }

    pub(crate) fn protocol(&self) -> i32 {
        self.info.protocol
    }

    fn sdk(&self) -> Sdk {
        Sdk::try_from(self.info.sdk).unwrap_or_default()
    }

    /// The node offers on a connection of its own, and that one is the important one.
    pub(crate) fn supports_subscriber_primary(&self) -> bool {
        self.protocol() >= 3
    }

    /// Older ones are only told whether to come back.
    pub(crate) fn supports_leave_action(&self) -> bool {
        self.protocol() >= 13
    }

    pub(crate) fn supports_quality_lost(&self) -> bool {
        self.protocol() >= 11
    }

    /// The Rust SDK fails to decode `track_subscribed` and `request_response` before protocol 10.
    pub(crate) fn supports_request_response(&self) -> bool {
        self.sdk() != Sdk::Rust || self.protocol() >= 10
    }

    /// Whether success may be reported, too.
    pub(crate) fn supports_ok_response(&self) -> bool {
        self.supports_request_response() && self.protocol() >= 15
    }

    /// The JavaScript SDK fails at unknown messages before 1.6.3.
    pub(crate) fn supports_reconnect_response(&self) -> bool {
        self.sdk() != Sdk::Js || self.is_at_least("1.6.3")
    }

    /// Redundant audio (RFC 2198) cannot be received by Firefox and Safari.
    pub(crate) fn receives_red(&self) -> bool {
        !["firefox", "firefox mobile", "safari"]
            .iter()
            .any(|browser| self.info.browser.eq_ignore_ascii_case(browser))
    }

    fn is_at_least(&self, version: &str) -> bool {
        let parts = |version: &str| {
            let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
            [(); 3].map(|()| parts.next().unwrap_or(0u32))
        };
        parts(&self.info.version).cmp(&parts(version)) != Ordering::Less
    }
}

/// Only what matters here: who cannot receive redundant audio.
fn browser(user_agent: &str) -> &'static str {
    let has = |word: &str| user_agent.contains(word);
    if has("Firefox/") || has("FxiOS/") {
        // Firefox on iOS is Safari's engine: the same limit.
        "firefox"
    } else if has("Safari/") && !has("Chrome/") && !has("Chromium/") && !has("Android") {
        "safari"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_told_apart() {
        let check = |user_agent: &str, red: bool| {
            let client = Client::new(ClientInfo::default(), user_agent);
            assert_eq!(client.receives_red(), red, "{user_agent}");
        };
        check("", true);
        check(
            "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
            false,
        );
        check(
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
             Chrome/147.0.0.0 Safari/537.36",
            true,
        );
        check(
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 \
             (KHTML, like Gecko) Version/17.4 Safari/605.1.15",
            false,
        );
        let named = ClientInfo {
            browser: "Firefox".to_owned(),
            ..Default::default()
        };
        assert!(!Client::new(named, "Chrome/1").receives_red());
    }

    #[test]
    fn versions_are_numbers() {
        let check = |version: &str, expected: bool| {
            let info = ClientInfo {
                sdk: Sdk::Js.into(),
                version: version.to_owned(),
                ..Default::default()
            };
            let client = Client::new(info, "");
            assert_eq!(client.supports_reconnect_response(), expected, "{version}");
        };
        check("2.23.0", true);
        check("1.6.3", true);
        check("1.10.0", true);
        check("1.6.2", false);
        check("", false);
    }
}
