//! Packets that Linux Homa has sent (`tests/data/captures`): all are read, and what is read is
//! written again to the same bytes.

#[path = "support/capture.rs"]
mod capture;

use std::collections::BTreeMap;
use std::ops::Range;

use capture::{Captured, captured_packets, homa_packets};
use homa::wire::{
    Body, DATA_HEADER_LEN, DataForm, DataOffsets, MAX_HEADER_LEN, MAX_MESSAGE_LENGTH, Packet,
    PacketType, ParseError, RawData,
};
use zerocopy::FromBytes;

/// Homa packets per capture, as another reader has counted them. Three ACKs of b_multi_500k_oneway
/// are cut in their header and not among them.
const CAPTURES: [(&str, usize); 17] = [
    ("a_single_packet", 40),
    ("b_multi_500k_oneway", 378),
    ("b_multi_5k_50k", 106),
    ("c_ack_batch", 34),
    ("c_need_ack_idle_client", 4),
    ("c_piggyback_acks", 14),
    ("d1_loss_middle_packet_request", 16),
    ("d2_loss_single_packet_response", 10),
    ("d3_loss_single_packet_request", 6),
    ("d5_request_to_unbound_port", 2),
    ("d7_peer_unreachable_until_timeout", 20),
    ("e1_cutoffs_first_contact", 15),
    ("e1_cutoffs_first_contact_after_boot", 34),
    ("f_ipv6", 144),
    ("g2_hijack_tcp_tso", 97),
    ("g_hijack_tcp", 100),
    ("h1_concurrent_mixed_sizes", 2045),
];

fn all_packets() -> impl Iterator<Item = Captured> {
    CAPTURES.iter().flat_map(|(name, _)| homa_packets(name))
}

#[test]
fn every_packet_is_found_and_read() {
    let mut of_type = BTreeMap::new();
    for (name, count) in CAPTURES {
        let packets = homa_packets(name);
        assert_eq!(packets.len(), count, "{name}");
        for captured in packets {
            *of_type.entry(captured.packet().packet_type()).or_insert(0) += 1;
        }
    }
    let expected = [
        (PacketType::Data, 2658),
        (PacketType::Grant, 213),
        (PacketType::Resend, 34),
        (PacketType::RpcUnknown, 1),
        (PacketType::Busy, 2),
        (PacketType::Cutoffs, 5),
        (PacketType::NeedAck, 81),
        (PacketType::Ack, 71),
    ];
    assert_eq!(of_type, BTreeMap::from(expected));
}

#[test]
fn a_header_cut_by_the_capture_is_an_error() {
    let packets = captured_packets("b_multi_500k_oneway");
    let cut: Vec<_> = packets.iter().filter(|captured| captured.is_cut_in_header()).collect();
    assert_eq!(cut.len(), 3);
    for captured in cut {
        let error = ParseError::TooShort { packet_type: PacketType::Ack, length_bytes: 62 };
        assert_eq!(Packet::parse(&captured.bytes), Err(error));
    }
}

#[test]
fn emission_reproduces_what_linux_sent() {
    // The checksum: Linux computes one for native packets too, this layer leaves it at 0.
    const MASKED: Range<usize> = 16..18;
    for captured in all_packets() {
        let packet = captured.packet();
        let form = match packet.body {
            Body::Data(_) => RawData::ref_from_prefix(&captured.bytes).unwrap().0.form(),
            _ => DataForm::OURS,
        };
        let mut out = [0; MAX_HEADER_LEN];
        let written = packet.emit_as(form, &mut out);
        let mut expected = captured.bytes[..written].to_vec();
        expected[MASKED].fill(0);
        assert_eq!(out[..written], expected, "{packet}");
    }
}

#[test]
fn lengths_are_those_of_the_protocol() {
    for captured in all_packets() {
        let packet = captured.packet();
        let payload_bytes = captured.length_bytes - packet.emitted_len();
        match packet.body {
            Body::Data(data) => {
                assert!((1..=MAX_MESSAGE_LENGTH).contains(&data.message_length), "{packet}");
                let end = data.offset as usize + payload_bytes;
                assert!(payload_bytes > 0 && end <= data.message_length as usize, "{packet}");
            }
            _ => assert_eq!(payload_bytes, 0, "{packet}"),
        }
    }
}

#[test]
fn only_the_segment_offset_sets_our_form_apart_from_linux() {
    let mut first_transmissions = 0;
    for captured in all_packets() {
        let packet = captured.packet();
        let Body::Data(data) = packet.body else { continue };
        let form = RawData::ref_from_prefix(&captured.bytes).unwrap().0.form();
        let expected = if data.retransmit { DataForm::OURS } else { DataForm::LINUX };
        assert_eq!(form, expected, "{packet}");
        if data.retransmit {
            continue;
        }
        first_transmissions += 1;
        let mut out = [0; DATA_HEADER_LEN];
        packet.emit(&mut out);
        let differing = (0..DATA_HEADER_LEN).filter(|&index| out[index] != captured.bytes[index]);
        assert!(differing.clone().all(|index| matches!(index, 16 | 17 | 52..56)), "{packet}");
        assert_eq!(out[52..], data.offset.to_be_bytes());
    }
    assert!(first_transmissions > 2500, "{first_transmissions}");
    assert_eq!(DataForm::LINUX.offsets, DataOffsets::Sequence);
}

#[test]
fn a_lost_request_reads_as_the_protocol_tells_it() {
    let lines: Vec<_> =
        homa_packets("d3_loss_single_packet_request").iter().map(Captured::line).collect();
    let expected = [
        "RESEND 32782->4000 id=110 0..all prio=7",
        "RPC_UNKNOWN 4000->32782 id=111",
        "DATA 32782->4000 id=110 0..100/100 incoming=100 cutoffs=1 ack=108:4000 retransmit",
        "DATA 4000->32782 id=111 0..100/100 incoming=100 cutoffs=1",
        "NEED_ACK 4000->32782 id=111",
        "ACK 32782->4000 id=110",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn ack_packets_carry_the_records_that_were_due() {
    let packets = homa_packets("c_ack_batch");
    let acks = packets.iter().map(Captured::line).filter(|line| line.starts_with("ACK"));
    let expected = [
        "ACK 32779->4000 id=88 acks=78:4000,80:4000,82:4000,84:4000,86:4000",
        "ACK 32779->4000 id=100 acks=90:4000,94:4000,92:4000,96:4000,98:4000",
        "ACK 32779->4000 id=102 acks=102:4000,104:4000",
        "ACK 32779->4000 id=104",
    ];
    assert_eq!(acks.collect::<Vec<_>>(), expected);
}
