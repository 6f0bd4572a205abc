//! The test vectors of `tests/data/wire-vectors.json`: every field is read, every packet is written
//! again, and every vector is cut and dirtied in all ways that must not matter.

use homa::wire::{
    Body, COMMON_HEADER_LEN, DATA_HEADER_LEN, DataForm, HomaPort, IP_PROTOCOL, MAX_HEADER_LEN,
    MAX_MESSAGE_LENGTH, Packet, PacketType, ParseError, RawAck, RawCommon, RawData, is_marked,
};
use serde_json::Value;
use zerocopy::FromBytes;

struct Vector {
    name: String,
    ip_protocol: u8,
    bytes: Vec<u8>,
    expect: String,
    fields: serde_json::Map<String, Value>,
}

fn vectors() -> Vec<Vector> {
    let file: Value = serde_json::from_str(include_str!("data/wire-vectors.json")).unwrap();
    let vectors: Vec<_> = file["vectors"].as_array().unwrap().iter().map(vector).collect();
    assert_eq!(vectors.len(), 47);
    vectors
}

fn vector(json: &Value) -> Vector {
    let bytes = unhex(json["hex"].as_str().unwrap());
    assert_eq!(bytes.len() as u64, json["length"].as_u64().unwrap());
    Vector {
        name: json["name"].as_str().unwrap().to_owned(),
        ip_protocol: json["ip_protocol"].as_u64().unwrap() as u8,
        bytes,
        expect: json["expect"].as_str().unwrap().to_owned(),
        fields: json["fields"].as_object().cloned().unwrap_or_default(),
    }
}

/// The vectors that are packets to this layer.
fn packets() -> Vec<(Vector, Packet)> {
    let parsed = vectors().into_iter().filter(|v| v.expect != "not-homa");
    parsed.filter_map(|v| Packet::parse(&v.bytes).ok().map(|packet| (v, packet))).collect()
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|d| u8::from_str_radix(str::from_utf8(d).unwrap(), 16).unwrap()).collect()
}

/// To be dropped for the value of message_length, which the transport judges: a first response with
/// such a length must reach it, so that it can fail the RPC.
const DROPPED_BY_TRANSPORT: [&str; 3] =
    ["drop-message-too-long", "drop-message-length-negative", "drop-message-length-zero"];

#[test]
fn expectations_hold() {
    use PacketType::{Ack, Cutoffs, Data, Grant, Resend};
    let too_short = |packet_type, length_bytes| ParseError::TooShort { packet_type, length_bytes };
    for Vector { name, expect, bytes, .. } in vectors() {
        let result = Packet::parse(&bytes);
        match (expect.as_str(), name.as_str()) {
            // Clamping, ignoring and the discarding of payload are decided with the RPC's state at
            // hand; here such packets are packets.
            ("accept" | "accept-clamp" | "accept-ignore" | "drop-payload", _) => {
                assert!(result.is_ok(), "{name}: {result:?}");
            }
            ("drop", name) if DROPPED_BY_TRANSPORT.contains(&name) => {
                let Ok(Packet { body: Body::Data(data), .. }) = result else {
                    panic!("{name}: {result:?}")
                };
                assert!(!(1..=MAX_MESSAGE_LENGTH).contains(&data.message_length), "{name}");
            }
            ("drop", name) => {
                let error = match name {
                    "drop-short-common" => ParseError::NoCommonHeader { length_bytes: 27 },
                    "drop-type-below" => ParseError::UnknownType { code: 0x0f },
                    "drop-type-above" => ParseError::UnknownType { code: 0x19 },
                    "drop-data-truncated-header" => too_short(Data, 55),
                    "drop-grant-short" => too_short(Grant, 32),
                    "drop-resend-short" => too_short(Resend, 35),
                    "drop-cutoffs-short" => too_short(Cutoffs, 60),
                    "drop-ack-truncated" => too_short(Ack, 30),
                    _ => panic!("no expectation for {name}"),
                };
                assert_eq!(result, Err(error), "{name}");
            }
            ("not-homa", name) => assert!(!is_marked(&bytes), "{name}"),
            (expect, name) => panic!("{name}: unknown expectation {expect}"),
        }
    }
}

#[test]
fn hijacked_packets_are_marked() {
    let mut hijacked = 0;
    for v in vectors().iter().filter(|v| v.ip_protocol != IP_PROTOCOL && v.expect != "not-homa") {
        assert!(is_marked(&v.bytes), "{}", v.name);
        hijacked += 1;
    }
    assert_eq!(hijacked, 4);
}

#[test]
fn every_field_is_read() {
    let mut checked = 0;
    for v in vectors() {
        let packet = Packet::parse(&v.bytes).ok();
        for (field, expected) in &v.fields {
            let actual = read_field(field, &v.bytes, packet.as_ref());
            assert_eq!(&actual, expected, "{}: {field}", v.name);
            checked += 1;
        }
    }
    assert!(checked > 700, "only {checked} fields");
}

/// The value of `field` in the notation of the vectors.
fn read_field(field: &str, bytes: &[u8], packet: Option<&Packet>) -> Value {
    let (raw, _) = RawCommon::ref_from_prefix(bytes).unwrap();
    let header = raw.header();
    let local_id = header.sender_id.flip();
    match field {
        "sport" => header.sport.0.into(),
        "dport" => header.dport.0.into(),
        "sequence" => raw.sequence.get().into(),
        "type" => raw.packet_type.into(),
        "type_name" => {
            PacketType::from_code(raw.packet_type).map_or("invalid", |t| t.name()).into()
        }
        "doff_byte" => raw.doff.into(),
        "flags" => raw.flags.into(),
        "window" => raw.window.get().into(),
        "checksum" => raw.checksum.get().into(),
        "urgent" => raw.urgent.get().into(),
        "sender_id" => header.sender_id.0.into(),
        "sender_id_hex" => format!("{:016x}", header.sender_id.0).into(),
        "local_id" => local_id.0.into(),
        "receiver_role" => if local_id.is_client() { "client" } else { "server" }.into(),
        _ => read_body_field(field, bytes, packet.expect(field)),
    }
}

fn read_body_field(field: &str, bytes: &[u8], packet: &Packet) -> Value {
    let payload = || &bytes[DATA_HEADER_LEN..];
    match (&packet.body, field) {
        (Body::Data(data), "message_length") => data.message_length.into(),
        (Body::Data(data), "incoming") => data.incoming.into(),
        (Body::Data(data), "ack_client_id") => data.ack.map_or(0, |ack| ack.client_id.0).into(),
        (Body::Data(data), "ack_server_port") => data.ack.map_or(0, |ack| ack.server_port.0).into(),
        (Body::Data(data), "cutoff_version") => data.cutoff_version.into(),
        (Body::Data(data), "retransmit") => u8::from(data.retransmit).into(),
        (Body::Data(data), "effective_offset") => data.offset.into(),
        (Body::Data(_), "seg_offset") => {
            RawData::ref_from_prefix(bytes).unwrap().0.seg_offset.get().into()
        }
        (Body::Data(_), "payload_length") => payload().len().into(),
        (Body::Data(_), "payload_hex") => {
            payload().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
        }
        (Body::Grant(grant), "offset") => grant.offset.into(),
        (Body::Grant(grant), "priority") => grant.priority.into(),
        (Body::Resend(resend), "offset") => resend.offset.into(),
        (Body::Resend(resend), "length") => (resend.length as i32).into(),
        (Body::Resend(resend), "priority") => resend.priority.into(),
        (Body::Cutoffs(cutoffs), "unsched_cutoffs") => cutoffs.cutoffs.to_vec().into(),
        (Body::Cutoffs(cutoffs), "cutoff_version") => cutoffs.version.into(),
        (Body::Ack(_), "num_acks") => {
            RawAck::ref_from_prefix(bytes).unwrap().0.num_acks.get().into()
        }
        (Body::Ack(ack), "acks") => {
            let records = ack.iter().map(|record| {
                serde_json::json!({
                    "client_id": record.client_id.0, "server_port": record.server_port.0
                })
            });
            records.collect()
        }
        (body, field) => panic!("{body:?} has no field {field}"),
    }
}

/// Bytes that differ although the packet is the same, and why.
fn masked(name: &str) -> &'static [usize] {
    match name {
        // The checksum is computed over the whole packet by a later layer.
        "data-hijack-segment-0"
        | "data-hijack-segment-1"
        | "data-hijack-ipv6-single"
        | "grant-hijack" => &[16, 17],
        // That version does not mark its packets; we always do.
        "data-upstream-stripped" | "resend-36-bytes-mainline" => &[13, 18, 19],
        // We never write a count above 5.
        "ack-count-too-large" => &[28, 29],
        _ => &[],
    }
}

#[test]
fn emission_reproduces_every_vector() {
    for (v, packet) in packets() {
        let form = RawData::ref_from_prefix(&v.bytes).map_or(DataForm::OURS, |(raw, _)| raw.form());
        let mut out = [0xAA; MAX_HEADER_LEN];
        let written = packet.emit_as(form, &mut out);
        assert_eq!(written, packet.emitted_len(), "{}", v.name);
        let trailing = match packet.packet_type() {
            PacketType::Data => v.bytes.len() - DATA_HEADER_LEN,
            PacketType::Grant if v.name == "grant-legacy-34-bytes" => 1,
            _ => 0,
        };
        assert_eq!(written + trailing, v.bytes.len(), "{}", v.name);
        for (index, byte) in out[..written].iter().enumerate() {
            let same = *byte == v.bytes[index];
            assert!(same || masked(&v.name).contains(&index), "{}: byte {index}", v.name);
        }
    }
}

#[test]
fn our_form_of_every_data_packet_has_both_offsets() {
    let mut seen = 0;
    for (v, packet) in packets() {
        let Body::Data(data) = packet.body else { continue };
        let mut out = [0xAA; DATA_HEADER_LEN];
        packet.emit(&mut out);
        let raw = RawData::ref_from_bytes(&out).unwrap();
        assert_eq!(raw.common.sequence.get(), data.offset, "{}", v.name);
        assert_eq!(raw.seg_offset.get(), data.offset, "{}", v.name);
        assert_eq!((raw.common.doff, raw.common.checksum.get()), (0xE0, 0), "{}", v.name);
        assert_eq!(Packet::parse(&out), Ok(packet), "{}", v.name);
        seen += 1;
    }
    assert_eq!(seen, 21);
}

#[test]
fn truncation_is_noticed_at_every_length() {
    for (v, packet) in packets() {
        let packet_type = packet.packet_type();
        for length_bytes in 0..v.bytes.len() {
            let result = Packet::parse(&v.bytes[..length_bytes]);
            if length_bytes < COMMON_HEADER_LEN {
                assert_eq!(result, Err(ParseError::NoCommonHeader { length_bytes }), "{}", v.name);
            } else if length_bytes < packet_type.min_len() {
                let error = ParseError::TooShort { packet_type, length_bytes };
                assert_eq!(result, Err(error), "{}", v.name);
            } else if let (Body::Resend(mut resend), 36) = (packet.body, length_bytes) {
                resend.priority = None;
                let body = Body::Resend(resend);
                assert_eq!(result, Ok(Packet { body, ..packet }), "{}", v.name);
            } else {
                assert_eq!(result, Ok(packet), "{} cut to {length_bytes}", v.name);
            }
        }
    }
}

/// The bytes of the packet that must not change its meaning.
fn reserved(bytes: &[u8], packet: &Packet) -> Vec<usize> {
    let mut reserved: Vec<usize> = (8..11).chain(12..20).collect();
    match &packet.body {
        Body::Data(data) => {
            reserved.extend(49..52);
            if bytes[52..56] != [0xFF; 4] {
                reserved.extend(4..8);
            }
            if data.ack.is_none() {
                reserved.extend(44..46);
            }
        }
        Body::Ack(ack) => reserved.extend((4..8).chain(30 + 10 * ack.len()..80)),
        _ => reserved.extend(4..8),
    }
    reserved
}

#[test]
fn reserved_fields_are_ignored() {
    for (v, packet) in packets() {
        let mut all = v.bytes.clone();
        for index in reserved(&v.bytes, &packet) {
            let mut one = v.bytes.clone();
            one[index] ^= 0xFF;
            assert_eq!(Packet::parse(&one), Ok(packet), "{}: byte {index}", v.name);
            all[index] ^= 0xFF;
        }
        assert_eq!(Packet::parse(&all), Ok(packet), "{}", v.name);
    }
}

#[test]
fn bytes_after_the_known_fields_are_ignored() {
    for (v, packet) in packets() {
        if matches!(packet.body, Body::Resend(resend) if resend.priority.is_none()) {
            continue; // A 37th byte is the priority.
        }
        let longer = [&v.bytes[..], &[0xFF; 40]].concat();
        assert_eq!(Packet::parse(&longer), Ok(packet), "{}", v.name);
    }
}

#[test]
fn every_significant_byte_matters() {
    for (v, packet) in packets() {
        let reserved = reserved(&v.bytes, &packet);
        for index in (0..packet.emitted_len()).filter(|index| !reserved.contains(index)) {
            let mut other = v.bytes.clone();
            other[index] ^= 0xFF;
            let result = Packet::parse(&other);
            // A count of acks above 5 means 5, any count of empty records means none, and a
            // retransmit byte above 1 means 1.
            let clamped = match packet.body {
                Body::Ack(_) => matches!(index, 28 | 29),
                Body::Data(data) => data.retransmit && index == 48,
                _ => false,
            };
            assert!(clamped || result != Ok(packet), "{}: byte {index}", v.name);
        }
        let mut other = v.bytes.clone();
        other[2..4].copy_from_slice(&[0x12, 0x34]);
        assert_eq!(Packet::parse(&other).unwrap().header.dport, HomaPort(0x1234));
    }
}
