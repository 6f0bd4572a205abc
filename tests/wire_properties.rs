//! Properties of the wire format: what is written is read back, and no input makes the parser
//! panic.

use homa::wire::{
    Ack, AckRecord, Body, COMMON_HEADER_LEN, Cutoffs, Data, DataForm, DataOffsets, Grant, Header,
    HomaPort, MAX_HEADER_LEN, Packet, PacketType, ParseError, Resend, RpcId, is_marked,
};
use proptest::array::uniform8;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

prop_compose! {
    fn header()(sport: u16, dport: u16, sender_id: u64) -> Header {
        Header { sport: HomaPort(sport), dport: HomaPort(dport), sender_id: RpcId(sender_id) }
    }
}

prop_compose! {
    fn record()(client_id in 1u64.., server_port: u16) -> AckRecord {
        AckRecord { client_id: RpcId(client_id), server_port: HomaPort(server_port) }
    }
}

prop_compose! {
    fn data()(
        message_length: u32,
        incoming: u32,
        ack in option::of(record()),
        cutoff_version: u16,
        retransmit: bool,
        incast: bool,
        offset in 0..u32::MAX, // All ones means "no segment offset".
    ) -> Data {
        Data { message_length, incoming, ack, cutoff_version, retransmit, incast, offset }
    }
}

prop_compose! {
    fn ack()(records in vec(record(), 0..=5)) -> Ack {
        let mut ack = Ack::new();
        for record in records {
            assert!(ack.push(record));
        }
        ack
    }
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        4 => data().prop_map(Body::Data),
        2 => any::<(u32, u8)>()
            .prop_map(|(offset, priority)| Body::Grant(Grant { offset, priority })),
        2 => any::<(u32, u32, Option<u8>)>().prop_map(|(offset, length, priority)| {
            Body::Resend(Resend { offset, length, priority })
        }),
        1 => (uniform8(any::<u32>()), any::<u16>())
            .prop_map(|(cutoffs, version)| Body::Cutoffs(Cutoffs { cutoffs, version })),
        1 => ack().prop_map(Body::Ack),
        1 => prop::sample::select(vec![Body::RpcUnknown, Body::Busy, Body::Freeze, Body::NeedAck]),
    ]
}

fn packet() -> impl Strategy<Value = Packet> {
    (header(), body()).prop_map(|(header, body)| Packet { header, body })
}

fn form() -> impl Strategy<Value = DataForm> {
    let offsets = prop_oneof![
        Just(DataOffsets::Both),
        Just(DataOffsets::Sequence),
        any::<u32>().prop_map(|sequence| DataOffsets::Segment { sequence }),
    ];
    (offsets, any::<u8>()).prop_map(|(offsets, doff)| DataForm { offsets, doff })
}

/// Bytes with a type that is mostly valid, since random ones would nearly always fail there.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    (vec(any::<u8>(), 0..120), 0x0Eu8..0x1B, any::<bool>()).prop_map(|(mut bytes, code, valid)| {
        if let (Some(byte), true) = (bytes.get_mut(11), valid) {
            *byte = code;
        }
        bytes
    })
}

/// The check of protocol.md section 3.1, written down once more as its table.
fn expected_check(bytes: &[u8]) -> Result<PacketType, ParseError> {
    let length_bytes = bytes.len();
    if length_bytes < COMMON_HEADER_LEN {
        return Err(ParseError::NoCommonHeader { length_bytes });
    }
    let code = bytes[11];
    let (packet_type, min_len) = match code {
        0x10 => (PacketType::Data, 56),
        0x11 => (PacketType::Grant, 33),
        0x12 => (PacketType::Resend, 36),
        0x13 => (PacketType::RpcUnknown, 28),
        0x14 => (PacketType::Busy, 28),
        0x15 => (PacketType::Cutoffs, 62),
        0x16 => (PacketType::Freeze, 28),
        0x17 => (PacketType::NeedAck, 28),
        0x18 => (PacketType::Ack, 80),
        code => return Err(ParseError::UnknownType { code }),
    };
    if length_bytes < min_len {
        return Err(ParseError::TooShort { packet_type, length_bytes });
    }
    Ok(packet_type)
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        packet in packet(),
        form in form(),
        payload in vec(any::<u8>(), 0..100),
    ) {
        for form in [DataForm::OURS, DataForm::LINUX, form] {
            let mut out = [0; MAX_HEADER_LEN];
            let written = packet.emit_as(form, &mut out);
            prop_assert_eq!(written, packet.emitted_len());
            prop_assert!(written >= packet.packet_type().min_len());
            let mut bytes = out[..written].to_vec();
            prop_assert!(is_marked(&bytes));
            if packet.packet_type() == PacketType::Data {
                bytes.extend_from_slice(&payload);
            }
            prop_assert_eq!(Packet::parse(&bytes), Ok(packet));
        }
    }

    #[test]
    fn our_form_can_hold_every_offset(data in data(), offset: u32, header in header()) {
        let packet = Packet { header, body: Body::Data(Data { offset, ..data }) };
        let mut out = [0; MAX_HEADER_LEN];
        let written = packet.emit(&mut out);
        prop_assert_eq!(Packet::parse(&out[..written]), Ok(packet));
    }

    #[test]
    fn any_bytes_pass_exactly_the_check_of_the_protocol(bytes in bytes()) {
        let parsed = Packet::parse(&bytes);
        prop_assert_eq!(parsed.map(|packet| packet.packet_type()), expected_check(&bytes));
        let Ok(packet) = parsed else { return Ok(()) };

        let mut out = [0; MAX_HEADER_LEN];
        let written = packet.emit(&mut out);
        prop_assert_eq!(Packet::parse(&out[..written]), Ok(packet), "meaning survives a rewrite");
        for line in [packet.to_string(), packet.with_payload(usize::MAX).to_string()] {
            prop_assert!(line.starts_with(packet.packet_type().name()) && !line.contains('\n'));
        }
    }

    #[test]
    fn errors_are_one_line(bytes in bytes()) {
        if let Err(error) = Packet::parse(&bytes) {
            let text = error.to_string();
            prop_assert!(text.contains("; ") && !text.contains('\n'), "{}", text);
        }
    }

    #[test]
    fn marks_are_exact(segment in vec(any::<u8>(), 0..40), put_mark: bool) {
        let mut segment = segment;
        if put_mark && segment.len() >= 20 {
            segment[13] = 0x06;
            segment[18..20].copy_from_slice(&[0xB9, 0x7D]);
        }
        let expected = segment.len() >= 20
            && segment[13] == 0x06
            && segment[18] == 0xB9
            && segment[19] == 0x7D;
        prop_assert_eq!(is_marked(&segment), expected);
    }
}
