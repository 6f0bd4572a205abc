//! Control packets with fields of their own: GRANT, RESEND and CUTOFFS (protocol.md section 3.5).

use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{
    CUTOFFS_LEN, GRANT_LEN, Header, NUM_PRIORITIES, PacketType, RESEND_SHORT_LEN, RawCommon,
};

/// What a GRANT means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The sender of the message may send all bytes below this offset.
    pub offset: u32,
    /// Priority of the message's scheduled packets from now on; from the network this is any value.
    pub priority: u8,
}

/// The bytes of a GRANT packet.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawGrant {
    /// The common header.
    pub common: RawCommon,
    /// All bytes below this offset may be sent.
    pub offset: U32,
    /// Priority of scheduled packets.
    pub priority: u8,
}

impl RawGrant {
    /// The bytes of a GRANT packet.
    #[inline]
    pub fn new(header: &Header, grant: &Grant) -> Self {
        Self {
            common: RawCommon::control(header, PacketType::Grant),
            offset: grant.offset.into(),
            priority: grant.priority,
        }
    }

    /// What the packet means.
    #[inline]
    pub const fn grant(&self) -> Grant {
        Grant { offset: self.offset.get(), priority: self.priority }
    }
}

/// What a RESEND means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resend {
    /// First byte that is wanted.
    pub offset: u32,
    /// Bytes that are wanted, or [`Resend::ALL`]. From the network `offset + length` may exceed 32
    /// bits.
    pub length: u32,
    /// Priority of the packets sent again; from the network this is any value. `None` is the form
    /// of 36 bytes, which stands for the highest priority; Linux Homa drops it as too short, so do
    /// not send it.
    pub priority: Option<u8>,
}

impl Resend {
    /// The length that means: nothing has come yet, send again all that was sent.
    pub const ALL: u32 = u32::MAX;
}

/// The bytes of a RESEND packet but for the priority, which is missing in the short form and is the
/// next byte in the usual one.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawResend {
    /// The common header.
    pub common: RawCommon,
    /// First byte that is wanted.
    pub offset: U32,
    /// Bytes that are wanted.
    pub length: U32,
}

impl RawResend {
    /// The bytes of a RESEND packet but for the priority.
    pub fn new(header: &Header, resend: &Resend) -> Self {
        Self {
            common: RawCommon::control(header, PacketType::Resend),
            offset: resend.offset.into(),
            length: resend.length.into(),
        }
    }

    /// What the packet means if `priority` follows.
    pub const fn resend(&self, priority: Option<u8>) -> Resend {
        Resend { offset: self.offset.get(), length: self.length.get(), priority }
    }
}

/// What a CUTOFFS means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cutoffs {
    /// Entry i: bytes of the longest message whose unscheduled packets use priority i. Entry 0 as
    /// it came may be 0 and stands for "any length" (protocol.md section 7.3).
    pub cutoffs: [u32; NUM_PRIORITIES],
    /// To be echoed in DATA to the host that sent this.
    pub version: u16,
}

/// The bytes of a CUTOFFS packet.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RawCutoffs {
    /// The common header.
    pub common: RawCommon,
    /// Longest message per priority.
    pub cutoffs: [U32; NUM_PRIORITIES],
    /// Version of these cutoffs.
    pub version: U16,
}

impl RawCutoffs {
    /// The bytes of a CUTOFFS packet.
    pub fn new(header: &Header, cutoffs: &Cutoffs) -> Self {
        Self {
            common: RawCommon::control(header, PacketType::Cutoffs),
            cutoffs: cutoffs.cutoffs.map(U32::new),
            version: cutoffs.version.into(),
        }
    }

    /// What the packet means.
    pub fn cutoffs(&self) -> Cutoffs {
        Cutoffs { cutoffs: self.cutoffs.map(U32::get), version: self.version.get() }
    }
}

const _: () = assert!(size_of::<RawGrant>() == GRANT_LEN);
const _: () = assert!(size_of::<RawResend>() == RESEND_SHORT_LEN);
const _: () = assert!(size_of::<RawCutoffs>() == CUTOFFS_LEN);
