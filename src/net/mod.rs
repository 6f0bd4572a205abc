//! The frames around Homa: Ethernet, 802.1Q, ARP, Neighbour Discovery, IPv4, IPv6 and ICMP.
//!
//! A [`Stack`] is one network interface with its addresses. It says where in a received frame the
//! Homa packet lies ([`Stack::receive`]), gives out prebuilt headers to send with ([`Stack::path`],
//! [`Path::write`]), and keeps the conversations a host must keep on its own: it answers ARP,
//! Neighbour Solicitations and ping, resolves and watches its neighbours, sends and understands ICMP
//! errors. It is sans-IO: frames and the time come in as arguments, its own frames and its news are
//! polled.
//!
//! Several cores may share one network port, each with a stack of its own. Then every frame that
//! [`is_neighbor_discovery`] recognises goes to all of them, and all but one have
//! [`Config::arp_responder`] off, so that every stack learns and one answers.
#![forbid(unsafe_code)]

mod address;
mod arp;
mod checksum;
mod claim;
mod config;
mod counters;
mod egress;
mod ethernet;
mod event;
mod icmp;
mod icmpv6;
mod ipv4;
mod ipv6;
mod mac;
mod marked_tcp;
mod ndp;
mod neighbor;
mod outbox;
mod path;
mod path_mtu;
mod stack;
mod steering;
mod token_bucket;

pub use address::{InterfaceAddr, InterfaceAddrParseError};
pub use config::{Config, ConfigError};
pub use counters::{Counters, DropReason};
pub use ethernet::is_neighbor_discovery;
pub use event::{NetEvent, QuotedPacket, UnreachableCause};
pub use mac::{MacAddr, MacAddrParseError};
pub use path::Path;
pub use stack::{
    Datagram, Encapsulation, IpChecksum, PathState, Received, Stack, UnreachableReason,
};
pub use steering::{
    HeaderBytes, PORT_BLOCK, RSS_KEY, STEERING_ENTRIES, Steering, concerns_all_shards,
};

/// The IP protocol number of Homa (protocol.md section 2).
pub const HOMA_PROTOCOL: u8 = 146;
