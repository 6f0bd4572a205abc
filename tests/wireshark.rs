//! The Wireshark dissector against our parser: recorded traffic of Linux Homa and the test vectors, field
//! by field. Needs tshark; without it these tests say so and check nothing.

#[path = "support/capture.rs"]
mod capture;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use capture::{CAPTURES, Captured, captured_packets};
use homa::wire::{AckRecord, Body, Packet, ParseError, RawData, RpcId};
use serde_json::Value;
use zerocopy::FromBytes;

/// What is compared, in this order.
const FIELDS: [&str; 28] = [
    "frame.number",
    "homa.encapsulation",
    "homa.priority",
    "homa.srcport",
    "homa.dstport",
    "homa.type",
    "homa.sender_id",
    "homa.rpc_id",
    "homa.from_server",
    "homa.sequence",
    "homa.data.message_length",
    "homa.data.incoming",
    "homa.data.cutoff_version",
    "homa.data.retransmit",
    "homa.data.incast",
    "homa.data.seg_offset",
    "homa.data.offset",
    "homa.data.payload_length",
    "homa.grant.offset",
    "homa.grant.priority",
    "homa.resend.offset",
    "homa.resend.length",
    "homa.resend.priority",
    "homa.cutoffs.cutoff",
    "homa.cutoffs.version",
    "homa.ack.count",
    "homa.ack.client_id",
    "homa.ack.server_port",
];

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/wireshark/homa.lua");

/// Whether tshark is there; says so if not.
fn has_tshark() -> bool {
    let status = Command::new("tshark")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let found = status.is_ok_and(|status| status.success());
    if !found {
        println!("not checked: tshark is not installed (scripts/setup.sh --tests installs it)");
    }
    found
}

/// The values of `fields` in the frames of `file` that `filter` lets through, one row per frame.
fn tshark(file: &Path, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    // Twice over the file: a request names its response only after that was seen.
    command.arg("-n").arg("-2").arg("-X").arg(format!("lua_script:{SCRIPT}")).arg("-r").arg(file);
    command.args(["-Y", filter, "-T", "fields", "-E", "separator=|", "-E", "aggregator=,"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().expect("tshark runs");
    let (said, complaints) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{complaints}");
    assert!(!complaints.contains("Lua"), "{complaints}");
    said.lines().map(|line| line.split('|').map(normal).collect()).collect()
}

/// Versions of tshark differ in how they write what is true.
fn normal(value: &str) -> String {
    match value {
        "True" => "1".to_owned(),
        "False" => "0".to_owned(),
        _ => value.to_owned(),
    }
}

fn hex_type(packet: &Packet) -> String {
    format!("0x{:02x}", packet.packet_type().code())
}

/// What the dissector must say of a packet, by our parser.
fn expected(captured: &Captured) -> Vec<String> {
    let packet = captured.packet();
    let header = packet.header;
    let mut row = vec![String::new(); FIELDS.len()];
    let mut set = |name: &str, value: String| {
        let at = FIELDS.iter().position(|field| *field == name).expect("a field");
        row[at] = value;
    };
    set("frame.number", captured.number.to_string());
    set("homa.encapsulation", u8::from(captured.is_marked).to_string());
    set("homa.priority", captured.priority.to_string());
    set("homa.srcport", header.sport.0.to_string());
    set("homa.dstport", header.dport.0.to_string());
    set("homa.type", hex_type(&packet));
    set("homa.sender_id", header.sender_id.0.to_string());
    set("homa.rpc_id", (header.sender_id.0 & !1).to_string());
    set("homa.from_server", u8::from(!header.sender_id.is_client()).to_string());
    set("homa.sequence", "0".to_owned());
    let mut acks = Vec::new();
    match packet.body {
        Body::Data(data) => {
            let raw = RawData::ref_from_prefix(&captured.bytes).expect("a whole header").0;
            set("homa.sequence", raw.common.sequence.to_string());
            set("homa.data.message_length", data.message_length.to_string());
            set("homa.data.incoming", data.incoming.to_string());
            set("homa.data.cutoff_version", data.cutoff_version.to_string());
            set("homa.data.retransmit", u8::from(data.retransmit).to_string());
            set("homa.data.incast", u8::from(data.incast).to_string());
            set("homa.data.seg_offset", raw.seg_offset.to_string());
            set("homa.data.offset", data.offset.to_string());
            set("homa.data.payload_length", captured.payload_bytes().to_string());
            // An empty record is shown as well.
            let none = AckRecord { client_id: RpcId(0), server_port: homa::wire::HomaPort(0) };
            acks.push(data.ack.unwrap_or(none));
        }
        Body::Grant(grant) => {
            set("homa.grant.offset", grant.offset.to_string());
            set("homa.grant.priority", grant.priority.to_string());
        }
        Body::Resend(resend) => {
            set("homa.resend.offset", resend.offset.to_string());
            set("homa.resend.length", resend.length.to_string());
            let priority = resend.priority.map(|priority| priority.to_string());
            set("homa.resend.priority", priority.unwrap_or_default());
        }
        Body::Cutoffs(cutoffs) => {
            set("homa.cutoffs.cutoff", list(cutoffs.cutoffs));
            set("homa.cutoffs.version", cutoffs.version.to_string());
        }
        Body::Ack(ack) => {
            set("homa.ack.count", ack.len().to_string());
            acks.extend(ack.iter());
        }
        Body::RpcUnknown | Body::Busy | Body::Freeze | Body::NeedAck => {}
    }
    set("homa.ack.client_id", list(acks.iter().map(|ack| ack.client_id.0)));
    set("homa.ack.server_port", list(acks.iter().map(|ack| ack.server_port.0)));
    row
}

fn list(values: impl IntoIterator<Item = impl ToString>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(",")
}

#[test]
fn every_field_of_every_captured_packet_agrees() {
    if !has_tshark() {
        return;
    }
    for name in CAPTURES {
        let rows = tshark(&capture::path(name), "homa && !icmp", &FIELDS);
        let packets = captured_packets(name);
        assert_eq!(rows.len(), packets.len(), "{name}: number of Homa packets");
        for (row, captured) in rows.iter().zip(&packets) {
            if !captured.is_cut_in_header() {
                assert_eq!(row[..], expected(captured), "{name}: {}", captured.line());
            }
        }
    }
}

#[test]
fn no_captured_packet_is_malformed() {
    if !has_tshark() {
        return;
    }
    let filter = "homa && (_ws.malformed || _ws.lua.error || _ws.expert.severity >= \"Warning\")";
    for name in CAPTURES {
        let rows = tshark(&capture::path(name), filter, &["frame.number", "_ws.expert.message"]);
        assert!(rows.is_empty(), "{name}: {rows:?}");
    }
}

#[test]
fn requests_and_responses_are_linked() {
    if !has_tshark() {
        return;
    }
    let fields = ["frame.number", "homa.rpc_id", "homa.request_in", "homa.response_in"];
    let rows = tshark(&capture::path("d3_loss_single_packet_request"), "homa", &fields);
    // The request that counts is the one in frame 3: the first was lost, and what came before cannot
    // be told.
    let expected = [
        ["1", "110", "", ""],
        ["2", "110", "", ""],
        ["3", "110", "", "4"],
        ["4", "110", "3", ""],
        ["5", "110", "3", "4"],
        ["6", "110", "3", "4"],
    ];
    assert_eq!(rows, expected);
    let filter = "homa.response_time";
    let delays = tshark(&capture::path("a_single_packet"), filter, &["homa.response_time"]);
    assert_eq!(delays.len(), 8, "{delays:?}");
    assert!(delays[0][0].starts_with("0.0057"), "{delays:?}");
}

#[test]
fn the_list_of_packets_tells_the_story() {
    if !has_tshark() {
        return;
    }
    let story = |name: &str, filter: &str| -> Vec<String> {
        let rows = tshark(&capture::path(name), filter, &["_ws.col.Info"]);
        rows.into_iter().map(|row| row.concat()).collect()
    };
    assert_eq!(
        story("d3_loss_single_packet_request", "homa"),
        [
            "RESEND 32782->4000 RPC 110 0..all at 7",
            "RPC_UNKNOWN 4000->32782 RPC 110",
            "DATA 32782->4000 RPC 110 0..100/100 at 7 retransmission ack=108",
            "DATA 4000->32782 RPC 110 0..100/100 at 7",
            "NEED_ACK 4000->32782 RPC 110",
            "ACK 32782->4000 RPC 110",
        ]
    );
    let grants = story("b_multi_500k_oneway", "homa.type == 0x11");
    assert_eq!(grants[0], "GRANT 4000->32775 RPC 60 to 201424 at 0");
}

/// Names and bytes of the test vectors that are Homa.
fn vectors() -> Vec<(String, Vec<u8>)> {
    let file: Value = serde_json::from_str(include_str!("data/wire-vectors.json")).unwrap();
    let vectors = file["vectors"].as_array().unwrap().iter();
    let is_homa = |vector: &&Value| vector["expect"] != "not-homa";
    let bytes = |vector: &Value| {
        let pairs = vector["hex"].as_str().unwrap().as_bytes().chunks(2);
        pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    };
    vectors
        .filter(is_homa)
        .map(|vector| (vector["name"].as_str().unwrap().to_owned(), bytes(vector)))
        .collect()
}

/// A capture of `packets` in IPv4.
fn write_capture(packets: &[(String, Vec<u8>)]) -> PathBuf {
    let mut file =
        vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
    for (_, packet) in packets {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 3, 0x08, 0x00, 0x45, 0];
        frame.extend(((20 + packet.len()) as u16).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, homa::wire::IP_PROTOCOL, 0, 0, 10, 0, 0, 3, 10, 0, 0, 2]);
        frame.extend(packet);
        let length = (frame.len() as u32).to_le_bytes();
        file.extend([[0; 4], [0; 4], length, length].concat());
        file.extend(frame);
    }
    let name = format!("homa-vectors-{}.pcap", std::process::id());
    let path = std::env::temp_dir().join(name);
    fs::write(&path, file).expect("a file");
    path
}

#[test]
fn the_dissector_finds_malformed_what_our_parser_refuses() {
    if !has_tshark() {
        return;
    }
    let vectors = vectors();
    let file = write_capture(&vectors);
    let fields = ["homa.malformed.short", "homa.malformed.type", "homa.type"];
    let rows = tshark(&file, "homa", &fields);
    let bad_length = tshark(&file, "homa.malformed.message_length", &["frame.number"]);
    fs::remove_file(file).expect("our file");
    assert_eq!(rows.len(), vectors.len());
    let mut refused = 0;
    for ((name, bytes), row) in vectors.iter().zip(rows) {
        let found = [!row[0].is_empty(), !row[1].is_empty()];
        let expected = match Packet::parse(bytes) {
            Ok(packet) => {
                assert_eq!(row[2], hex_type(&packet), "{name}");
                [false, false]
            }
            Err(ParseError::UnknownType { .. }) => [false, true],
            Err(_) => [true, false],
        };
        assert_eq!(found, expected, "{name}");
        refused += usize::from(expected != [false, false]);
    }
    assert!(refused >= 5, "{refused}");
    assert!(!bad_length.is_empty());
}
