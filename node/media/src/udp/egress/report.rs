//! What a flush tells.

/// A set of sockets by their number, below 64.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketSet(u64);

impl SocketSet {
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn contains(self, socket: u8) -> bool {
        self.iter().any(|member| member == socket)
    }

    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..64).filter(move |socket| self.0 & 1 << socket != 0)
    }

    pub(super) fn insert(&mut self, socket: u8) {
        self.0 |= 1 << socket;
    }
}

impl std::ops::BitOr for SocketSet {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What the caller of [`Egress::flush`](super::Egress::flush) may have to act on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct FlushReport {
    /// The kernel's buffer of these sockets is full. What is left stays for the next flush, which
    /// makes sense when the socket is writable.
    pub blocked: SocketSet,
    /// The device behind these sockets turned out not to do GSO, which is off from now on. Told once
    /// per socket, worth a log line.
    pub gso_lost: SocketSet,
}

/// What [`Egress`](super::Egress) has counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EgressStats {
    /// Datagrams given to the kernel.
    pub datagrams: u64,
    /// Their bytes, without UDP and IP headers.
    pub bytes: u64,
    /// Messages they were given in: fewer than datagrams where GSO worked.
    pub messages: u64,
    pub syscalls: u64,
    pub dropped: Drops,
}

/// Datagrams the kernel refused, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops {
    /// Longer than the path allows (`EMSGSIZE`).
    pub too_long: u64,
    /// No route, or one that says so (`ENETUNREACH`, `EHOSTUNREACH`, `EADDRNOTAVAIL`).
    pub unreachable: u64,
    /// By a packet filter (`EPERM`, `EACCES`).
    pub forbidden: u64,
    /// The peer's port is closed (`ECONNREFUSED`).
    pub refused: u64,
    /// The kernel is short of memory or its queues are full (`ENOBUFS`, `ENOMEM`).
    pub no_buffers: u64,
    /// For another reason, such as an IPv6 address on an IPv4 socket.
    pub other: u64,
}

impl Drops {
    /// What the reasons are called, in the order of [`Self::by_reason`].
    pub const REASONS: [&str; 6] = [
        "too_long",
        "unreachable",
        "forbidden",
        "refused",
        "no_buffers",
        "other",
    ];

    pub fn by_reason(&self) -> [(&'static str, u64); Self::REASONS.len()] {
        let Self {
            too_long,
            unreachable,
            forbidden,
            refused,
            no_buffers,
            other,
        } = *self;
        let counts = [too_long, unreachable, forbidden, refused, no_buffers, other];
        std::array::from_fn(|place| (Self::REASONS[place], counts[place]))
    }

    pub fn total(&self) -> u64 {
        self.by_reason().iter().map(|(_, count)| count).sum()
    }
}
