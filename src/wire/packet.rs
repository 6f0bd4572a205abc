//! A whole packet: which type, checked and read, or written.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{
    ACK_LEN, Ack, COMMON_HEADER_LEN, CUTOFFS_LEN, Cutoffs, DATA_HEADER_LEN, Data, DataForm,
    GRANT_LEN, Grant, Header, PacketType, ParseError, RESEND_LEN, RESEND_SHORT_LEN, RawAck,
    RawCommon, RawCutoffs, RawData, RawGrant, RawResend, Resend,
};

/// One Homa packet without the payload of DATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Between which ports, about which RPC.
    pub header: Header,
    /// The type and what belongs to it.
    pub body: Body,
}

/// The type of a packet and what belongs to it. For the meaning of the types see [`PacketType`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// A part of a message.
    Data(Data),
    /// Permission to send more.
    Grant(Grant),
    /// Demand to send again.
    Resend(Resend),
    /// The RPC of a RESEND is not known.
    RpcUnknown,
    /// The message will come, later.
    Busy,
    /// Priorities for unscheduled bytes.
    Cutoffs(Cutoffs),
    /// Debugging aid of Linux Homa.
    Freeze,
    /// Demand for an ack.
    NeedAck,
    /// Finished RPCs.
    Ack(Ack),
}

impl Packet {
    /// Reads the packet in `bytes`, which start after the IP header and end where the IP header
    /// says. Bytes after the known fields are ignored; in DATA they are the payload.
    ///
    /// # Errors
    ///
    /// Checks length and type in the order of protocol.md section 3.1; see [`ParseError`].
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        if let Some((header, data)) = Self::parse_data(bytes) {
            return Ok(Self { header, body: Body::Data(data) });
        }
        Self::parse_any(bytes)
    }

    /// Does what [`Packet::parse`] does, if it is DATA that is in `bytes`.
    #[inline(always)]
    pub fn parse_data(bytes: &[u8]) -> Option<(Header, Data)> {
        let raw = prefix::<RawData>(bytes)?;
        let is_data = raw.common.packet_type == PacketType::Data.code();
        is_data.then(|| (raw.common.header(), raw.data()))
    }

    /// [`Packet::parse`] without its shortcut for DATA, which keeps the hot path small enough to be
    /// inlined.
    fn parse_any(bytes: &[u8]) -> Result<Self, ParseError> {
        let length_bytes = bytes.len();
        let (common, _) = RawCommon::ref_from_prefix(bytes)
            .map_err(|_| ParseError::NoCommonHeader { length_bytes })?;
        let code = common.packet_type;
        let packet_type = PacketType::from_code(code).ok_or(ParseError::UnknownType { code })?;
        let body = Body::view(packet_type, bytes)
            .ok_or(ParseError::TooShort { packet_type, length_bytes })?;
        Ok(Self { header: common.header(), body })
    }

    /// Writes the packet, for DATA its header, to the start of `out` and returns how many bytes
    /// that are ([`Packet::emitted_len`]). The checksum is 0, as native packets may have it; the
    /// offset of DATA is written in the form [`DataForm::OURS`].
    ///
    /// `out` must have room; [`MAX_HEADER_LEN`](super::MAX_HEADER_LEN) bytes always do. Without
    /// room nothing is written and the answer is 0; debug builds panic.
    #[inline(always)]
    pub fn emit(&self, out: &mut [u8]) -> usize {
        self.emit_as(DataForm::OURS, out)
    }

    /// Does what [`Packet::emit`] does, with the offset of DATA in the form `form`.
    #[inline(always)]
    pub fn emit_as(&self, form: DataForm, out: &mut [u8]) -> usize {
        if let Body::Data(data) = &self.body {
            return write(RawData::new(&self.header, data, form), out);
        }
        self.emit_any(form, out)
    }

    /// [`Packet::emit_as`] without its shortcut for DATA.
    fn emit_any(&self, form: DataForm, out: &mut [u8]) -> usize {
        let header = &self.header;
        match &self.body {
            Body::Data(data) => write(RawData::new(header, data, form), out),
            Body::Grant(grant) => write(RawGrant::new(header, grant), out),
            Body::Resend(resend) => emit_resend(header, resend, out),
            Body::Cutoffs(cutoffs) => write(RawCutoffs::new(header, cutoffs), out),
            Body::Ack(ack) => write(RawAck::new(header, ack), out),
            Body::RpcUnknown | Body::Busy | Body::Freeze | Body::NeedAck => {
                write(RawCommon::control(header, self.packet_type()), out)
            }
        }
    }

    /// Bytes that [`Packet::emit`] writes.
    #[inline]
    pub const fn emitted_len(&self) -> usize {
        match &self.body {
            Body::Data(_) => DATA_HEADER_LEN,
            Body::Grant(_) => GRANT_LEN,
            Body::Resend(Resend { priority: Some(_), .. }) => RESEND_LEN,
            Body::Resend(Resend { priority: None, .. }) => RESEND_SHORT_LEN,
            Body::Cutoffs(_) => CUTOFFS_LEN,
            Body::Ack(_) => ACK_LEN,
            Body::RpcUnknown | Body::Busy | Body::Freeze | Body::NeedAck => COMMON_HEADER_LEN,
        }
    }

    /// The type of the packet.
    #[inline]
    pub const fn packet_type(&self) -> PacketType {
        match &self.body {
            Body::Data(_) => PacketType::Data,
            Body::Grant(_) => PacketType::Grant,
            Body::Resend(_) => PacketType::Resend,
            Body::RpcUnknown => PacketType::RpcUnknown,
            Body::Busy => PacketType::Busy,
            Body::Cutoffs(_) => PacketType::Cutoffs,
            Body::Freeze => PacketType::Freeze,
            Body::NeedAck => PacketType::NeedAck,
            Body::Ack(_) => PacketType::Ack,
        }
    }
}

impl Body {
    /// The body of a packet of type `packet_type`; `None` if `bytes` are too short for it.
    fn view(packet_type: PacketType, bytes: &[u8]) -> Option<Self> {
        Some(match packet_type {
            PacketType::Data => Self::Data(prefix::<RawData>(bytes)?.data()),
            PacketType::Grant => Self::Grant(prefix::<RawGrant>(bytes)?.grant()),
            PacketType::Resend => {
                let priority = bytes.get(RESEND_SHORT_LEN).copied();
                Self::Resend(prefix::<RawResend>(bytes)?.resend(priority))
            }
            PacketType::Cutoffs => Self::Cutoffs(prefix::<RawCutoffs>(bytes)?.cutoffs()),
            PacketType::Ack => Self::Ack(prefix::<RawAck>(bytes)?.ack()),
            PacketType::RpcUnknown => Self::RpcUnknown,
            PacketType::Busy => Self::Busy,
            PacketType::Freeze => Self::Freeze,
            PacketType::NeedAck => Self::NeedAck,
        })
    }
}

#[inline]
fn prefix<T: FromBytes + KnownLayout + Immutable + Unaligned>(bytes: &[u8]) -> Option<&T> {
    T::ref_from_prefix(bytes).ok().map(|(raw, _)| raw)
}

/// Puts `raw` at the start of `out`; 0 if it does not fit.
#[inline(always)]
fn write<T: FromBytes + IntoBytes + KnownLayout + Unaligned>(raw: T, out: &mut [u8]) -> usize {
    let Ok((place, _)) = T::mut_from_prefix(out) else {
        debug_assert!(false, "a Homa header of {} bytes needs a longer buffer", size_of::<T>());
        return 0;
    };
    *place = raw;
    size_of::<T>()
}

fn emit_resend(header: &Header, resend: &Resend, out: &mut [u8]) -> usize {
    let raw = RawResend::new(header, resend);
    match resend.priority {
        None => write(raw, out),
        Some(priority) => {
            let mut bytes = [priority; RESEND_LEN];
            bytes[..RESEND_SHORT_LEN].copy_from_slice(raw.as_bytes());
            write(bytes, out)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{AckRecord, HomaPort, MAX_HEADER_LEN, RpcId};

    fn busy() -> Packet {
        let header = Header { sport: HomaPort(99), dport: HomaPort(32769), sender_id: RpcId(1235) };
        Packet { header, body: Body::Busy }
    }

    #[test]
    fn emission_leaves_the_rest_of_the_buffer_alone() {
        let mut out = [0xAA; MAX_HEADER_LEN];
        assert_eq!(busy().emit(&mut out), COMMON_HEADER_LEN);
        assert!(out[COMMON_HEADER_LEN..].iter().all(|&byte| byte == 0xAA));
        assert_eq!(Packet::parse(&out), Ok(busy()), "trailing bytes are ignored");
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "Homa header of 28 bytes"))]
    fn emission_without_room_writes_nothing() {
        let mut out = [0xAA; COMMON_HEADER_LEN - 1];
        assert_eq!(busy().emit(&mut out), 0);
        assert_eq!(out, [0xAA; COMMON_HEADER_LEN - 1]);
    }

    #[test]
    fn shortcuts_for_data_change_nothing() {
        let data = Data {
            message_length: 50_000,
            incoming: 40_000,
            ack: Some(AckRecord { client_id: RpcId(2), server_port: HomaPort(4000) }),
            cutoff_version: 3,
            retransmit: true,
            incast: false,
            offset: 12_848,
        };
        let packet = Packet { body: Body::Data(data), ..busy() };
        for form in [DataForm::OURS, DataForm::LINUX] {
            let mut bytes = [[0xAA; MAX_HEADER_LEN]; 2];
            assert_eq!(packet.emit_as(form, &mut bytes[0]), DATA_HEADER_LEN);
            assert_eq!(packet.emit_any(form, &mut bytes[1]), DATA_HEADER_LEN);
            assert_eq!(bytes[0], bytes[1]);
            assert_eq!(Packet::parse(&bytes[0]), Ok(packet));
            assert_eq!(Packet::parse_any(&bytes[0]), Ok(packet));
        }
    }

    #[test]
    fn a_packet_stays_small_enough_to_be_copied() {
        assert!(size_of::<Packet>() <= 128, "{} bytes", size_of::<Packet>());
    }
}
