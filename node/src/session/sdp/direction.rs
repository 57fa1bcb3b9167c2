//! Who sends on an m-section or uses a header extension.

/// `sendrecv`, `sendonly`, `recvonly` or `inactive`, from the point of view of whoever states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Direction {
    pub(super) send: bool,
    pub(super) receive: bool,
}

impl Direction {
    pub(super) const BOTH: Self = Self {
        send: true,
        receive: true,
    };

    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "sendrecv" => Some(Self::BOTH),
            "sendonly" => Some(Self {
                send: true,
                receive: false,
            }),
            "recvonly" => Some(Self {
                send: false,
                receive: true,
            }),
            "inactive" => Some(Self {
                send: false,
                receive: false,
            }),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match (self.send, self.receive) {
            (true, true) => "sendrecv",
            (true, false) => "sendonly",
            (false, true) => "recvonly",
            (false, false) => "inactive",
        }
    }

    /// The same from the other side.
    pub(super) fn reversed(self) -> Self {
        Self {
            send: self.receive,
            receive: self.send,
        }
    }
}
