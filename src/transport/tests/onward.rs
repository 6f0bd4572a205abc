//! Packets that just go on with a message.

use super::solo::*;
use crate::addr::HostAddr;
use crate::time::Nanos;
use crate::transport::pair::*;
use crate::transport::*;
use crate::wire::{AckRecord, Body, Data, Header, Packet};

const ID: RpcId = RpcId(4);
const LONG: u32 = 20 * SEGMENT;

/// A server that has the first packet of a request of [`LONG`] bytes.
fn begun(config: Config) -> Solo {
    let mut solo = Solo::new(config);
    solo.client_sends(ID, data(0..SEGMENT, LONG));
    assert!(solo.shard.inbound(0).is_some());
    solo
}

/// Whether the second packet, changed, takes the short way.
fn goes_on(
    solo: &mut Solo,
    from: HostAddr,
    change_header: impl FnOnce(&mut Header),
    change: impl FnOnce(&mut Data),
    bytes: u32,
) -> bool {
    let mut header = client_header(ID);
    change_header(&mut header);
    let (Body::Data(data), _) = data_with(SEGMENT..2 * SEGMENT, LONG, change) else {
        panic!("not DATA");
    };
    solo.shard.take_onward(solo.now, from, &header, &data, bytes).is_some()
}

#[test]
fn the_next_packet_takes_the_short_way_and_no_other() {
    let plain =
        |solo: &mut Solo, change: fn(&mut Data)| goes_on(solo, CLIENT, |_| (), change, SEGMENT);
    let solo = &mut begun(config());
    assert!(plain(solo, |_| ()));
    assert!(plain(solo, |data| data.incoming = 0));
    assert!(!plain(solo, |data| data.offset = 0), "the first");
    assert!(!plain(solo, |data| data.offset = SEGMENT - 1), "overlaps");
    assert!(!plain(solo, |data| data.offset = SEGMENT + 1), "leaves a gap");
    assert!(!plain(solo, |data| data.message_length = LONG + 1));
    assert!(!plain(solo, |data| data.retransmit = true));
    assert!(!plain(solo, |data| data.cutoff_version = 7), "wants CUTOFFS");
    let ack = AckRecord { client_id: RpcId(2), server_port: SERVICE };
    assert!(!goes_on(solo, CLIENT, |_| (), |data| data.ack = Some(ack), SEGMENT));
    assert!(!goes_on(solo, SERVER, |_| (), |_| (), SEGMENT), "of another host");
    for change in [
        (|header| header.sender_id = RpcId(6)) as fn(&mut Header),
        |header| header.sport = HomaPort(7),
        |header| header.dport = HomaPort(7),
    ] {
        assert!(!goes_on(solo, CLIENT, change, |_| (), SEGMENT));
    }
    assert!(!goes_on(solo, CLIENT, |_| (), |_| (), 0), "brings nothing");
    assert!(!goes_on(solo, CLIENT, |_| (), |_| (), LONG - SEGMENT), "the last");
    assert!(!goes_on(solo, CLIENT, |_| (), |_| (), LONG), "beyond the end");
    assert!(plain(solo, |_| ()), "nothing of that has changed anything");
}

/// What became of the second packet, and whether the third, changed, is taken as one that is like it.
fn next_after(change: impl FnOnce(&mut Solo, &mut Data, &mut u32)) -> bool {
    let mut solo = begun(config());
    let header = client_header(ID);
    let of_packet = |n: u32| match data(n * SEGMENT..(n + 1) * SEGMENT, LONG) {
        (Body::Data(data), bytes) => (data, bytes),
        other => panic!("{other:?}"),
    };
    let (data, bytes) = of_packet(1);
    let onward = solo.shard.take_onward(solo.now, CLIENT, &header, &data, SEGMENT).unwrap();
    solo.shard.append(solo.now, onward, Bytes(bytes));
    let ((mut data, _), mut bytes) = (of_packet(2), SEGMENT);
    change(&mut solo, &mut data, &mut bytes);
    let before = solo.shard.metrics().received;
    let taken = solo.shard.take_next(solo.now, &onward, CLIENT, &header, &data, bytes);
    let counted = solo.shard.metrics().received != before;
    assert_eq!(taken, counted);
    taken
}

#[test]
fn the_packet_behind_it_is_taken_for_what_it_is_like() {
    assert!(next_after(|_, _, _| ()));
    assert!(!next_after(|_, data, _| data.offset = SEGMENT), "twice");
    assert!(!next_after(|_, data, _| data.offset = 3 * SEGMENT), "leaves a gap");
    assert!(!next_after(|_, _, bytes| *bytes = LONG - 2 * SEGMENT), "the last");
    assert!(!next_after(|solo, _, _| solo.shard.set_cutoffs([9; 8])), "wants CUTOFFS");
    let another = RpcId(8);
    assert!(
        !next_after(|solo, _, _| {
            solo.client_sends(another, data(0..SEGMENT, LONG));
        }),
        "another message has come between"
    );
    assert!(
        !next_after(|solo, _, _| {
            solo.client_sends(ID, bare(Body::RpcUnknown));
            solo.client_sends(another, data(0..SEGMENT, LONG));
            let (body, bytes) = data(SEGMENT..2 * SEGMENT, LONG);
            let packet = Packet { header: client_header(another), body };
            solo.shard.on_packet(solo.now, CLIENT, &packet, Bytes(bytes));
            assert_eq!(solo.shard.inbound(0).unwrap().reassembly.high(), 2 * SEGMENT);
        }),
        "another message is in its place"
    );
    assert!(
        !next_after(|solo, _, _| {
            solo.client_sends(ID, data(3 * SEGMENT..4 * SEGMENT, LONG));
        }),
        "there is a gap"
    );
}

#[test]
fn a_head_that_nobody_has_seen_is_announced_first() {
    let config = Config { announce_heads: true, ..config() };
    let mut solo = Solo::new(config);
    solo.client_sends(ID, data(SEGMENT..2 * SEGMENT, LONG));
    assert!(!goes_on(&mut solo, CLIENT, |_| (), |data| data.offset = 2 * SEGMENT, SEGMENT));
    solo.client_sends(ID, data(0..SEGMENT, LONG));
    assert!(goes_on(&mut solo, CLIENT, |_| (), |data| data.offset = 2 * SEGMENT, SEGMENT));
}

#[test]
fn a_message_that_has_ended_does_not_go_on() {
    let mut solo = begun(config());
    solo.client_sends(ID, bare(Body::RpcUnknown));
    assert_eq!(solo.state(ID.flip()), None);
    assert!(!goes_on(&mut solo, CLIENT, |_| (), |_| (), SEGMENT));
}

#[test]
fn nothing_goes_on_while_packet_buffers_are_scarce() {
    let config = Config { retained_packets_max: 64, ..config() };
    let mut solo = Solo::new(config);
    solo.client_sends(ID, data(0..100, 10_000));
    for packet in 1..=48 {
        assert!(goes_on_in_hundreds(&mut solo, packet));
        solo.client_sends(ID, data(packet * 100..(packet + 1) * 100, 10_000));
    }
    assert!(!goes_on_in_hundreds(&mut solo, 49), "three quarters are in use");
}

fn goes_on_in_hundreds(solo: &mut Solo, packet: u32) -> bool {
    let change = |data: &mut Data| (data.offset, data.message_length) = (packet * 100, 10_000);
    goes_on(solo, CLIENT, |_| (), change, 100)
}

/// Receives two long requests in bursts; gives what is sent, the account at each step, and the messages.
fn two_requests(is_in_rows: bool) -> (Vec<String>, Vec<Occupancy>, Vec<Vec<u8>>) {
    let config = Config { window_bytes: 6_000, grant_min_bytes: 2_000, ..config() };
    let mut solo = Solo::new(config);
    let (mut sent, mut account) = (Vec::new(), Vec::new());
    let all: Vec<u32> = (0..LONG).step_by(SEGMENT as usize).collect();
    for burst in all.chunks(4) {
        let packets = burst.iter().flat_map(|&offset| [(offset, ID), (offset, RpcId(8))]);
        let mut packets: Vec<(u32, RpcId)> = packets.collect();
        if is_in_rows {
            packets.sort_by_key(|&(offset, id)| (id.0, offset));
        }
        for (offset, id) in packets {
            let (body, bytes) = data(offset..offset + SEGMENT, LONG);
            let packet = Packet { header: client_header(id), body };
            solo.shard.on_packet(solo.now, CLIENT, &packet, Bytes(bytes));
        }
        solo.shard.end_burst(solo.now);
        sent.extend(solo.sent_briefs());
        account.push(solo.shard.occupancy());
        solo.now = solo.now + Nanos(1_000);
    }
    let messages = solo.events().into_iter().map(|event| match event {
        Event::Request { message, .. } => {
            let mut bytes = vec![0; message.len()];
            message.copy_to_slice(&mut bytes);
            bytes
        }
        event => panic!("{event:?}"),
    });
    (sent, account, messages.collect())
}

#[test]
fn it_makes_no_difference_but_to_speed() {
    let in_rows = two_requests(true);
    assert_eq!(in_rows.2, vec![pattern(LONG as usize, SEED); 2]);
    assert!(in_rows.0.iter().filter(|brief| brief.starts_with("GRANT")).count() > 4);
    // Packets of two messages in turns take the long way, all of them.
    assert_eq!(in_rows, two_requests(false));
}

/// Counts packets by the row that they were sent in.
struct Rows {
    frames: Sink,
    rows: Vec<usize>,
}

impl TxSink<Outgoing> for Rows {
    fn room(&self) -> usize {
        self.frames.room()
    }

    fn control(&mut self, to: PeerRef, priority: u8, packet: &Packet) {
        self.frames.control(to, priority, packet);
    }

    fn data(
        &mut self,
        to: PeerRef,
        priority: u8,
        packet: &Packet,
        message: &mut Outgoing,
        range: core::ops::Range<u32>,
    ) {
        self.frames.data(to, priority, packet, message, range);
    }

    fn data_run(
        &mut self,
        to: PeerRef,
        priority: u8,
        packet: &Packet,
        message: &mut Outgoing,
        range: core::ops::Range<u32>,
    ) {
        let before = self.frames.frames.len();
        self.frames.data_run(to, priority, packet, message, range);
        self.rows.push(self.frames.frames.len() - before);
    }
}

/// Sends all that may go, of calls with `packets` packets each.
fn rows_of(solo: &mut Solo, packets: &[u32], room: usize) -> Rows {
    for &packets in packets {
        solo.call(packets * SEGMENT, 0);
    }
    let mut sink = Rows { frames: Sink::with_room(room, solo.now), rows: Vec::new() };
    solo.shard.poll_transmit(solo.now, &mut sink);
    sink
}

fn whole_messages() -> Config {
    Config { unsched_bytes: 1_000_000, early_packet: false, ..config() }
}

#[test]
fn packets_of_one_message_leave_in_rows() {
    let mut solo = Solo::new(whole_messages());
    let sent = rows_of(&mut solo, &[20], 100);
    assert_eq!(sent.rows, [8, 8, 4]);
    let offsets = sent.frames.frames.iter().map(|frame| match frame.packet.body {
        Body::Data(data) => data.offset,
        _ => panic!("{}", frame.brief()),
    });
    assert!(offsets.eq((0..20).map(|packet| packet * SEGMENT)));
    let bytes: Vec<u8> = sent.frames.frames.into_iter().flat_map(|frame| frame.payload.0).collect();
    assert_eq!(bytes, pattern(20 * SEGMENT as usize, SEED));
}

#[test]
fn a_row_ends_where_room_or_grants_do() {
    let mut solo = Solo::new(whole_messages());
    assert_eq!(rows_of(&mut solo, &[20], 5).rows, [5]);
    let mut solo = Solo::new(Config { unsched_bytes: 3 * SEGMENT, ..whole_messages() });
    assert_eq!(rows_of(&mut solo, &[20], 100).rows, [3]);
}

#[test]
fn a_row_ends_where_the_link_is_busy() {
    let mut solo = Solo::new(Config { pacing: true, ..whole_messages() });
    // 5 us at 25 Gbps are ten full packets, and one more.
    assert_eq!(rows_of(&mut solo, &[20], 100).rows, [8, 3]);
}

#[test]
fn the_oldest_message_leaves_in_rows_once_it_is_the_best() {
    let mut solo = Solo::new(whole_messages());
    // What is sent ahead of the first earns it a turn of one packet.
    let sent = rows_of(&mut solo, &[40, 30], 200);
    let turns = sent.rows.iter().filter(|&&packets| packets == 1).count();
    assert!((1..=2).contains(&turns), "{:?}", sent.rows);
}

#[test]
fn every_ack_that_waits_finds_a_packet() {
    let mut solo = Solo::new(whole_messages());
    let ids: Vec<RpcId> = (0..3).map(|_| solo.call(100, 0).1).collect();
    solo.sent();
    for id in &ids {
        solo.server_sends(*id, data(0..100, 100));
    }
    let sent = rows_of(&mut solo, &[20], 100);
    assert_eq!(sent.rows, [1, 1, 6, 8, 4]);
    let acks: Vec<usize> = (0..20)
        .filter(|&at| match sent.frames.frames[at].packet.body {
            Body::Data(data) => data.ack.is_some(),
            _ => false,
        })
        .collect();
    assert_eq!(acks, [0, 1, 2]);
}
