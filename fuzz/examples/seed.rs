//! Writes inputs to start from into `corpus/`: the packets of captures and test vectors, in the form
//! that the targets take. Run it in `fuzz/` after a change of that form: `cargo run --example seed`.

#[path = "../../tests/support/capture.rs"]
mod capture;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use capture::{Captured, Frame, frames, homa_in_frame};
use homa::wire::PacketType;
use serde_json::Value;

/// Captures with something of their own.
const CAPTURES: [&str; 8] = [
    "c_ack_batch",
    "c_piggyback_acks",
    "d1_loss_middle_packet_request",
    "d2_loss_single_packet_response",
    "d3_loss_single_packet_request",
    "d5_request_to_unbound_port",
    "e1_cutoffs_first_contact",
    "g_hijack_tcp",
];
/// Frames of a conversation that are enough to start from.
const FRAMES_MAX: usize = 24;
/// Bytes of a payload that are enough to start from.
const PAYLOAD_MAX: usize = 128;
/// Operations of `node`: a Homa packet, native or as TCP.
const NATIVE: u8 = 1;
const MARKED: u8 = 0x85;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = |target: &str, name: &str, bytes: &[u8]| {
        let directory = root.join("corpus").join(target);
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(directory.join(name), bytes).expect("a file");
    };
    let vectors =
        fs::read_to_string(root.join("../tests/data/wire-vectors.json")).expect("vectors");
    for (name, bytes) in packets_of(&vectors) {
        corpus("wire", &format!("vector-{name}"), &bytes);
    }
    for name in CAPTURES {
        let file = root.join("../tests/data/captures").join(name).with_extension("pcap");
        let mut frames = frames(&fs::read(file).expect("a capture"));
        frames.truncate(FRAMES_MAX);
        corpus("net", &format!("capture-{name}"), &conversation(&frames));
        let packets: Vec<Captured> = frames.iter().filter_map(homa_in_frame).collect();
        for from_server in [false, true] {
            let role = if from_server { "client" } else { "server" };
            corpus("node", &format!("{role}-{name}"), &as_peer(&packets, from_server));
        }
    }
}

/// Names and bytes of the test vectors, long payloads cut.
fn packets_of(json: &str) -> Vec<(String, Vec<u8>)> {
    let file: Value = serde_json::from_str(json).expect("JSON");
    let vectors = file["vectors"].as_array().expect("vectors").iter();
    let packet = |vector: &Value| {
        let name = vector["name"].as_str().expect("a name").to_owned();
        let digits = vector["hex"].as_str().expect("hexadecimal").as_bytes();
        let byte = |pair: &[u8]| {
            let text = str::from_utf8(pair).expect("text");
            u8::from_str_radix(text, 16).expect("hexadecimal")
        };
        let mut bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
        bytes.truncate(PAYLOAD_MAX);
        (name, bytes)
    };
    vectors.map(packet).collect()
}

/// For `net`: each frame, and time between them.
fn conversation(frames: &[Frame]) -> Vec<u8> {
    let mut input = vec![0];
    for frame in frames {
        input.push(0);
        push_string(&mut input, &frame.bytes[..frame.bytes.len().min(PAYLOAD_MAX)]);
        input.extend([3, 0x50, 0x01]);
    }
    input
}

/// For `node`: what one side has sent. To play the server's part it is called first.
fn as_peer(packets: &[Captured], from_server: bool) -> Vec<u8> {
    let mut input = vec![0];
    let mut calls = BTreeSet::new();
    for captured in packets {
        let packet = captured.packet();
        if packet.header.sender_id.is_client() == from_server {
            continue;
        }
        let id = packet.header.sender_id.0 & !1;
        if from_server && calls.insert(id) {
            input.extend([6, 0, 0, 0, 0x13, 0x88]);
        }
        let code = PacketType::code(packet.packet_type()) - 0x10;
        let about = if from_server { 0x80 } else { (id / 2 % 16) as u8 };
        let operation = if captured.is_marked { MARKED } else { NATIVE };
        input.extend([operation, code, about]);
        push_string(&mut input, &captured.bytes);
        // The application answers with a response of 100 bytes, and a little time passes.
        if !from_server {
            input.extend([7, 0, 0, 0, 0, 100]);
        }
        input.extend([8, 0x50, 0x01]);
    }
    input
}

fn push_string(input: &mut Vec<u8>, bytes: &[u8]) {
    input.extend((bytes.len() as u16).to_be_bytes());
    input.extend(bytes);
}
