//! The frames of a node in a pcapng file (`--trace`).
#![cfg(all(feature = "dpdk", feature = "cli"))]

mod support;

use homa::wire::Packet;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::{Block, PcapNgReader};

use support::load_report::{self, counter, expect_clean};
use support::process::{homa_load, run};
use support::scratch::Scratch;
use support::{TIMEOUT_OPTION, one_at_a_time};

/// Ethernet and IPv4 headers.
const HOMA_AT: usize = 34;

#[test]
fn every_frame_of_the_client_is_in_the_trace_once() {
    let _one = one_at_a_time();
    let scratch = Scratch::new();
    let (json, trace) = (scratch.path("client.json"), scratch.path("trace.pcapng"));
    let options = format!("local --no-huge --workload 5000 --count 300 --json {json}");
    let command =
        homa_load([options.as_str(), "--trace", &trace, "--trace-bytes 200", TIMEOUT_OPTION]);
    run("local", &command).expect_code(0);
    let report = load_report::of_client(&scratch, "client.json");
    expect_clean(&report, 300);
    let (mut received, mut sent, mut data) = (0, 0, 0);
    let file = std::fs::File::open(&trace).expect("the trace was written");
    let mut reader = PcapNgReader::new(file).expect("a pcapng file");
    while let Some(block) = reader.next_block() {
        let Block::EnhancedPacket(packet) = block.expect("a whole block") else { continue };
        match packet.options[..] {
            [EnhancedPacketOption::Flags(1)] => received += 1,
            [EnhancedPacketOption::Flags(2)] => sent += 1,
            ref other => panic!("{other:?}"),
        }
        assert!(packet.data.len() <= 200 && packet.data.len() <= packet.original_len as usize);
        if packet.data[12..14] == [0x08, 0x00] && packet.data[23] == 146 {
            let homa = Packet::parse(&packet.data[HOMA_AT..]).expect("a Homa packet");
            data += usize::from(homa.packet_type() == homa::wire::PacketType::Data);
        }
    }
    assert_eq!(received, counter(&report, "loop_rx_packets"));
    assert_eq!(sent, counter(&report, "loop_tx_packets"));
    assert!(data >= 300 * 8, "4 packets each way for each RPC: {data}");
}

#[test]
fn a_trace_that_cannot_be_written_is_a_wrong_argument() {
    let command = homa_load(["local --no-huge --trace /nowhere/at/all.pcapng"]);
    let ended = run("local", &command);
    ended.expect_code(2);
    assert!(ended.one_line_of_stderr().contains("/nowhere/at/all.pcapng"), "{ended:?}");
}
