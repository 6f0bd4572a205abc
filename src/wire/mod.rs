//! Homa headers and bytes.
//!
//! One received packet goes from bytes to meaning with [`Packet::parse`], one packet to send goes
//! from meaning to bytes with [`Packet::emit`]. "Bytes" are always those after the IP header,
//! trimmed to the length that the IP header states; Ethernet padding would otherwise be taken for
//! payload. In a DATA packet the payload follows the header at [`DATA_HEADER_LEN`].
//!
//! Two views of a packet exist:
//!
//! - [`Packet`] and the types in it hold what the protocol acts on. Reserved fields, the checksum
//!   and the redundant offset of DATA are gone: nothing above may depend on them.
//! - [`RawCommon`], [`RawData`] and the other `Raw` types lie directly over the bytes and show
//!   every field, for tracers and dissectors. Get one with `RawData::ref_from_prefix(bytes)` of
//!   [`zerocopy::FromBytes`].
//!
//! This module checks lengths and the type (protocol.md section 3.1). Whether a *value* makes sense
//! (a message length of 0, a priority of 200) depends on the state of the RPC, so all values pass,
//! and [`crate::transport`] judges them (protocol.md section 7.3).
//!
//! ```
//! use homa::wire::*;
//!
//! let header = Header { sport: HomaPort(32768), dport: HomaPort(99), sender_id: RpcId(2) };
//! let grant = Packet { header, body: Body::Grant(Grant { offset: 50_000, priority: 3 }) };
//! let mut bytes = [0; MAX_HEADER_LEN];
//! let written = grant.emit(&mut bytes);
//! assert_eq!(Packet::parse(&bytes[..written]), Ok(grant));
//! assert_eq!(grant.to_string(), "GRANT 32768->99 id=2 offset=50000 prio=3");
//! ```
#![forbid(unsafe_code)]

mod ack;
mod control;
mod data;
mod display;
mod error;
mod header;
mod id;
mod packet;

pub use ack::{Ack, AckRecord, RawAck, RawAckRecord};
pub use control::{Cutoffs, Grant, RawCutoffs, RawGrant, RawResend, Resend};
pub use data::{Data, DataForm, DataOffsets, RawData};
pub use display::WithPayload;
pub use error::ParseError;
pub use header::{Header, PacketType, RawCommon, is_marked};
pub use id::{HomaPort, RpcId};
pub use packet::{Body, Packet};

/// IP protocol number (IPv4) and next header value (IPv6) of native Homa (protocol.md section 2).
pub const IP_PROTOCOL: u8 = 146;

/// The value of the TCP flags byte (SYN and RST) in every Homa packet (protocol.md section 2.2).
pub const MARK_FLAGS: u8 = 0x06;

/// The value of the TCP urgent pointer in every Homa packet (protocol.md section 2.2).
pub const MARK_URGENT: u16 = 0xB97D;

/// Bytes of the header that every packet starts with, and the whole of RPC_UNKNOWN, BUSY, FREEZE
/// and NEED_ACK.
pub const COMMON_HEADER_LEN: usize = 28;

/// Bytes of a DATA header; the payload starts here.
pub const DATA_HEADER_LEN: usize = 56;

/// Bytes of a GRANT packet.
pub const GRANT_LEN: usize = 33;

/// Bytes of a RESEND packet.
pub const RESEND_LEN: usize = 37;

/// Bytes of the RESEND of the reduced version offered to mainline Linux, which has no priority
/// (protocol.md 1.2).
pub const RESEND_SHORT_LEN: usize = 36;

/// Bytes of a CUTOFFS packet.
pub const CUTOFFS_LEN: usize = 62;

/// Bytes of an ACK packet, however many records it carries.
pub const ACK_LEN: usize = 80;

/// Bytes of the longest header; a buffer this long is enough for every [`Packet::emit`].
pub const MAX_HEADER_LEN: usize = 80;

/// Ack records in an ACK packet (protocol.md section 19).
pub const MAX_ACK_RECORDS: usize = 5;

/// Bytes of the longest message (protocol.md section 1.1).
pub const MAX_MESSAGE_LENGTH: u32 = 1_000_000;

/// Priority levels (protocol.md section 19).
pub const NUM_PRIORITIES: usize = 8;
