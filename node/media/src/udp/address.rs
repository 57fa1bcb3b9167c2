//! Socket addresses between Rust's form and the kernel's, without allocation.

#![allow(
    unsafe_code,
    reason = "the kernel's form is a union told apart by its first field"
)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use libc::{
    AF_INET, AF_INET6, in_addr, in6_addr, sa_family_t, sockaddr_in, sockaddr_in6, socklen_t,
};

/// An IPv4 or IPv6 socket address, or nothing, as system calls take and give it.
///
/// All bytes are initialised and all fields are integers, so any field may be read.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) union Name {
    family: sa_family_t,
    v4: sockaddr_in,
    v6: sockaddr_in6,
    bytes: [u8; size_of::<sockaddr_in6>()],
}

impl Name {
    /// Room for any name, in bytes.
    pub(super) const CAPACITY: socklen_t = size_of::<Self>() as socklen_t;

    /// No address.
    pub(super) const EMPTY: Self = Self {
        bytes: [0; size_of::<sockaddr_in6>()],
    };

    /// Bytes that belong to the address, by its family.
    pub(super) fn len(&self) -> socklen_t {
        // SAFETY: see the type.
        if i32::from(unsafe { self.family }) == AF_INET {
            size_of::<sockaddr_in>() as socklen_t
        } else {
            Self::CAPACITY
        }
    }

    /// The address, or `None` if it is neither IPv4 nor IPv6.
    pub(super) fn to_socket_addr(self) -> Option<SocketAddr> {
        // SAFETY: see the type.
        let (family, v4, v6) = unsafe { (self.family, self.v4, self.v6) };
        match i32::from(family) {
            AF_INET => {
                let ip = Ipv4Addr::from_bits(u32::from_be(v4.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            AF_INET6 => {
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                // The flow label is no part of who the peer is: it must not make two of one.
                let flow = 0;
                let port = u16::from_be(v6.sin6_port);
                Some(SocketAddrV6::new(ip, port, flow, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

impl From<SocketAddr> for Name {
    fn from(addr: SocketAddr) -> Self {
        let mut name = Self::EMPTY;
        match addr {
            SocketAddr::V4(addr) => {
                name.v4 = sockaddr_in {
                    sin_family: AF_INET as sa_family_t,
                    sin_port: addr.port().to_be(),
                    sin_addr: in_addr {
                        s_addr: addr.ip().to_bits().to_be(),
                    },
                    sin_zero: [0; 8],
                };
            }
            SocketAddr::V6(addr) => {
                name.v6 = sockaddr_in6 {
                    sin6_family: AF_INET6 as sa_family_t,
                    sin6_port: addr.port().to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: in6_addr {
                        s6_addr: addr.ip().octets(),
                    },
                    sin6_scope_id: addr.scope_id(),
                };
            }
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn addresses_survive(v4: [u8; 4], v6: [u8; 16], port: u16, scope: u32, flow: u32) {
            let v4 = SocketAddr::from((v4, port));
            prop_assert_eq!(Name::from(v4).to_socket_addr(), Some(v4));
            prop_assert_eq!(Name::from(v4).len(), 16);

            let with_flow = SocketAddrV6::new(v6.into(), port, flow, scope);
            let without = SocketAddrV6::new(v6.into(), port, 0, scope);
            let name = Name::from(SocketAddr::from(with_flow));
            prop_assert_eq!(name.to_socket_addr(), Some(without.into()));
            prop_assert_eq!(name.len(), 28);
        }
    }

    #[test]
    fn nothing_is_no_address() {
        assert_eq!(Name::EMPTY.to_socket_addr(), None);
    }
}
