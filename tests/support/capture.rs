//! Recorded traffic: classic pcap files of Ethernet frames, and the Homa packets in them.
#![allow(dead_code, reason = "each test file uses a part")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use homa::time::Nanos;
use homa::wire::{IP_PROTOCOL, Packet, PacketType, is_marked};

/// The IP protocol number of TCP, which marked Homa packets carry.
const TCP: u8 = 6;

/// A frame, as far as the capture has kept it.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// Its place in the file, from 1.
    pub(crate) number: usize,
    /// Time since the first frame.
    pub(crate) at: Nanos,
    /// From the Ethernet header on.
    pub(crate) bytes: Vec<u8>,
}

/// What IP carries: bytes that the capture has kept, and how many there were.
#[derive(Clone, Debug)]
pub(crate) struct Captured {
    /// The place of the frame in the file, from 1.
    pub(crate) number: usize,
    /// Time since the first frame.
    pub(crate) at: Nanos,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    /// The upper three bits of TOS or traffic class.
    pub(crate) priority: u8,
    /// Whether it travelled as TCP.
    pub(crate) is_marked: bool,
    pub(crate) bytes: Vec<u8>,
    pub(crate) length_bytes: usize,
}

impl Captured {
    pub(crate) fn packet(&self) -> Packet {
        Packet::parse(&self.bytes).unwrap_or_else(|error| panic!("{error}: {:02x?}", self.bytes))
    }

    /// Whether the capture has kept too little of the packet to read it.
    pub(crate) fn is_cut_in_header(&self) -> bool {
        let packet_type = PacketType::from_code(self.bytes[11]).unwrap();
        self.bytes.len() < self.length_bytes && self.bytes.len() < packet_type.min_len()
    }

    /// Bytes after the header, before the capture cut them.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.length_bytes - self.packet().emitted_len()
    }

    /// One line, with the range that the packet had before the capture cut it.
    pub(crate) fn line(&self) -> String {
        self.packet().with_payload(self.payload_bytes()).to_string()
    }
}

/// All captures and what is in them: see `tests/data/README.md`.
pub(crate) const CAPTURES: [&str; 17] = [
    "a_single_packet",
    "b_multi_500k_oneway",
    "b_multi_5k_50k",
    "c_ack_batch",
    "c_need_ack_idle_client",
    "c_piggyback_acks",
    "d1_loss_middle_packet_request",
    "d2_loss_single_packet_response",
    "d3_loss_single_packet_request",
    "d5_request_to_unbound_port",
    "d7_peer_unreachable_until_timeout",
    "e1_cutoffs_first_contact",
    "e1_cutoffs_first_contact_after_boot",
    "f_ipv6",
    "g2_hijack_tcp_tso",
    "g_hijack_tcp",
    "h1_concurrent_mixed_sizes",
];

/// The file of the capture `name`.
pub(crate) fn path(name: &str) -> PathBuf {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/data/captures", name].iter().collect();
    path.with_extension("pcap")
}

/// The Homa packets of the capture `name`, native and marked, whose headers are whole.
pub(crate) fn homa_packets(name: &str) -> Vec<Captured> {
    captured_packets(name).into_iter().filter(|captured| !captured.is_cut_in_header()).collect()
}

/// The Homa packets of the capture `name`, also those whose headers are cut.
pub(crate) fn captured_packets(name: &str) -> Vec<Captured> {
    frames(&std::fs::read(path(name)).unwrap()).iter().filter_map(homa_in_frame).collect()
}

/// The frames of a pcap file: magic number of microseconds in little endian, link type Ethernet.
pub(crate) fn frames(file: &[u8]) -> Vec<Frame> {
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    assert_eq!(word(&file[..4]), 0xa1b2_c3d4, "not a little-endian classic pcap");
    assert_eq!(word(&file[20..24]), 1, "link type is not Ethernet");
    let mut rest = &file[24..];
    let mut frames = Vec::new();
    let mut first = None;
    while let Some((record_header, records)) = rest.split_at_checked(16) {
        let seconds = Nanos::from_secs(word(&record_header[..4]).into());
        let at = seconds + Nanos::from_us(word(&record_header[4..8]).into());
        let (frame, next) = records.split_at(word(&record_header[8..12]) as usize);
        let at = at.since(*first.get_or_insert(at));
        frames.push(Frame { number: frames.len() + 1, at, bytes: frame.to_vec() });
        rest = next;
    }
    frames
}

/// The Homa packet of an untagged frame, if it holds one.
pub(crate) fn homa_in_frame(frame: &Frame) -> Option<Captured> {
    let Frame { number, at, bytes: frame } = frame;
    let u16_at = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    let (src, dst, traffic_class, protocol, payload) = match u16_at(12) {
        0x0800 => {
            let addr = |at: usize| {
                let octets: [u8; 4] = frame[at..at + 4].try_into().unwrap();
                IpAddr::V4(Ipv4Addr::from(octets))
            };
            let start = 14 + 4 * usize::from(frame[14] & 0x0F);
            (addr(26), addr(30), frame[15], frame[23], start..14 + u16_at(16))
        }
        0x86dd => {
            let addr = |at: usize| {
                let octets: [u8; 16] = frame[at..at + 16].try_into().unwrap();
                IpAddr::V6(Ipv6Addr::from(octets))
            };
            let class = frame[14] << 4 | frame[15] >> 4;
            (addr(22), addr(38), class, frame[20], 54..54 + u16_at(18))
        }
        _ => return None,
    };
    let bytes = frame[payload.start..payload.end.min(frame.len())].to_vec();
    let is_marked = protocol == TCP && is_marked(&bytes);
    (protocol == IP_PROTOCOL || is_marked).then(|| Captured {
        number: *number,
        at: *at,
        src,
        dst,
        priority: traffic_class >> 5,
        is_marked,
        bytes,
        length_bytes: payload.len(),
    })
}
