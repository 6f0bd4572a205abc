//! The wire vectors whose expectation the transport decides: values to be clamped, packets to be
//! ignored, messages and payloads to be dropped.

use std::net::Ipv4Addr;
use std::ops::Range;

use homa::addr::HostAddr;
use homa::time::Nanos;
use homa::transport::{
    Config, Event, OutMessage, Outcome, Payload, PeerRef, RpcHandle, Transport, TxSink,
};
use homa::wire::{Body, DATA_HEADER_LEN, Header, HomaPort, Packet, RpcId};
use serde_json::Value;

#[derive(Debug)]
struct Bytes(Vec<u8>);

impl Payload for Bytes {
    fn len(&self) -> u32 {
        self.0.len() as u32
    }

    fn narrow(&mut self, range: Range<u32>) {
        self.0.truncate(range.end as usize);
        self.0.drain(..range.start as usize);
    }
}

struct Zeros(u32);

impl OutMessage for Zeros {
    fn len(&self) -> u32 {
        self.0
    }

    fn segment_bytes(&self) -> u32 {
        1_424
    }
}

#[derive(Default)]
struct Sink(Vec<(u8, Packet)>);

impl TxSink<Zeros> for Sink {
    fn room(&self) -> usize {
        1_000
    }

    fn control(&mut self, _: PeerRef, priority: u8, packet: &Packet) {
        self.0.push((priority, *packet));
    }

    fn data(&mut self, _: PeerRef, priority: u8, packet: &Packet, _: &mut Zeros, _: Range<u32>) {
        self.0.push((priority, *packet));
    }
}

type Shard = Transport<Bytes, Zeros>;

const PEER: HostAddr = HostAddr::v4(Ipv4Addr::new(10, 0, 1, 2));
const NOW: Nanos = Nanos::from_ms(1);

struct Vector {
    name: String,
    expect: String,
    packet: Packet,
    payload: Vec<u8>,
}

/// All vectors that are packets, that is all but those that `wire` drops.
fn vectors() -> Vec<Vector> {
    let file: Value = serde_json::from_str(include_str!("data/wire-vectors.json")).unwrap();
    let vectors = file["vectors"].as_array().unwrap().iter().filter_map(|json| {
        let hex = json["hex"].as_str().unwrap().as_bytes().chunks(2);
        let bytes: Vec<u8> =
            hex.map(|d| u8::from_str_radix(str::from_utf8(d).unwrap(), 16).unwrap()).collect();
        let packet = Packet::parse(&bytes).ok()?;
        Some(Vector {
            name: json["name"].as_str().unwrap().to_owned(),
            expect: json["expect"].as_str().unwrap().to_owned(),
            payload: bytes.get(DATA_HEADER_LEN..).unwrap_or_default().to_vec(),
            packet,
        })
    });
    vectors.filter(|vector| vector.expect != "not-homa").collect()
}

/// A transport with all ports open that the vector addresses.
fn shard_for(vector: &Vector) -> Shard {
    let mut shard = Shard::new(Config { pacing: false, ..Config::default() }, ()).unwrap();
    let port = vector.packet.header.dport;
    assert!(port == HomaPort(0) || shard.open_server_port(port), "{}", vector.name);
    shard
}

fn receive(shard: &mut Shard, vector: &Vector) -> Vec<(u8, Packet)> {
    let payload = Bytes(vector.payload.clone());
    let outcome = shard.on_packet(NOW, PEER, &vector.packet, payload);
    assert_eq!(outcome, Outcome::Done, "{}", vector.name);
    shard.end_burst(NOW);
    let mut sink = Sink::default();
    shard.poll_transmit(NOW, &mut sink);
    sink.0
}

/// A client RPC of `length` bytes to where the vector comes from, all sent that may be; and the
/// vector made to name it.
fn with_call(vector: &mut Vector, length: u32) -> (Shard, RpcHandle) {
    let mut shard = shard_for(vector);
    let Header { sport, dport, .. } = vector.packet.header;
    let (rpc, id) =
        shard.call(NOW, dport, PEER, sport, Zeros(length), 7).map_err(|r| r.reason).unwrap();
    shard.poll_transmit(NOW, &mut Sink::default());
    vector.packet.header.sender_id = id.flip();
    (shard, rpc)
}

/// The end of the last DATA packet sent, and its priority.
fn sent_to(frames: &[(u8, Packet)]) -> Option<(u32, u8)> {
    frames.iter().rev().find_map(|(priority, packet)| match packet.body {
        Body::Data(data) => Some((data.message_length.min(data.offset + 1_424), *priority)),
        _ => None,
    })
}

fn check_clamp(mut vector: Vector) {
    let name = vector.name.clone();
    match vector.packet.body {
        Body::Data(data) => {
            // `incoming` beyond the message: all of it is unscheduled, and counted up to our limit.
            let mut shard = shard_for(&vector);
            receive(&mut shard, &vector);
            let occupancy = shard.occupancy();
            assert_eq!((occupancy.server_rpcs, occupancy.grantable), (1, 0), "{name}");
            let counted = data.message_length.min(shard.config().unsched_bytes);
            let rest = u64::from(counted).saturating_sub(vector.payload.len() as u64);
            assert_eq!(occupancy.incoming_bytes, rest, "{name}");
        }
        Body::Grant(grant) => {
            let length = 50_000;
            let (mut shard, _) = with_call(&mut vector, length);
            let frames = receive(&mut shard, &vector);
            let highest = shard.config().num_priorities - 1;
            let expected = (grant.offset.min(length).div_ceil(1_424) * 1_424).min(length);
            assert_eq!(sent_to(&frames), Some((expected, grant.priority.min(highest))), "{name}");
        }
        Body::Ack(ack) => {
            assert_eq!(ack.len(), 5, "{name}");
            // One server RPC for each record, and one more, all answered.
            let mut shard = shard_for(&vector);
            let header = vector.packet.header;
            for record in ack.iter() {
                shard.open_server_port(record.server_port);
                let header = Header { dport: record.server_port, ..header };
                answer_request(&mut shard, header, record.client_id);
            }
            answer_request(&mut shard, header, RpcId(0x7777_0000));
            assert_eq!(shard.occupancy().server_rpcs, 6, "{name}");
            receive(&mut shard, &vector);
            assert_eq!(shard.occupancy().server_rpcs, 1, "{name}");
        }
        body => panic!("{name}: no expectation for {body:?}"),
    }
}

fn answer_request(shard: &mut Shard, header: Header, id: RpcId) {
    let data = homa::wire::Data {
        message_length: 1,
        incoming: 1,
        ack: None,
        cutoff_version: 1,
        retransmit: false,
        incast: false,
        offset: 0,
    };
    let packet = Packet { header: Header { sender_id: id, ..header }, body: Body::Data(data) };
    shard.on_packet(NOW, PEER, &packet, Bytes(vec![1]));
    let Some(Event::Request { rpc, .. }) = shard.poll_event() else { panic!("request {id}") };
    shard.reply(NOW, rpc, Zeros(1)).map_err(|refused| refused.reason).unwrap();
    shard.poll_transmit(NOW, &mut Sink::default());
}

#[test]
fn accept_clamp() {
    let mut checked = 0;
    for vector in vectors().into_iter().filter(|vector| vector.expect == "accept-clamp") {
        check_clamp(vector);
        checked += 1;
    }
    assert_eq!(checked, 3);
}

#[test]
fn accept_ignore() {
    let mut checked = 0;
    for vector in vectors().into_iter().filter(|vector| vector.expect == "accept-ignore") {
        let mut shard = shard_for(&vector);
        let before = shard.occupancy();
        assert!(receive(&mut shard, &vector).is_empty(), "{}", vector.name);
        assert_eq!(shard.occupancy(), before, "{}", vector.name);
        assert!(shard.poll_event().is_none(), "{}", vector.name);
        checked += 1;
    }
    assert_eq!(checked, 1);
}

/// Messages of impossible length: no RPC, nothing kept.
#[test]
fn drop_whole() {
    let mut checked = 0;
    for vector in vectors().into_iter().filter(|vector| vector.expect == "drop") {
        let mut shard = shard_for(&vector);
        receive(&mut shard, &vector);
        assert_eq!(shard.occupancy().server_rpcs, 0, "{}", vector.name);
        assert_eq!(shard.occupancy().retained_packets, 0, "{}", vector.name);
        assert_eq!(shard.metrics().bad_length, 1, "{}", vector.name);
        assert!(shard.poll_event().is_none(), "{}", vector.name);
        checked += 1;
    }
    assert_eq!(checked, 3);
}

/// Bytes outside their message: none is kept, neither when they are the first of it nor later.
#[test]
fn drop_payload() {
    let mut checked = 0;
    for vector in vectors().into_iter().filter(|vector| vector.expect == "drop-payload") {
        let mut shard = shard_for(&vector);
        receive(&mut shard, &vector);
        assert_eq!(shard.metrics().bad_range, 1, "{}", vector.name);
        assert_eq!(shard.occupancy().retained_packets, 0, "{}", vector.name);
        // The same after a good packet of the message.
        let Body::Data(mut data) = vector.packet.body else { panic!("{}", vector.name) };
        (data.offset, data.incoming) = (0, data.message_length);
        let good = Packet { header: vector.packet.header, body: Body::Data(data) };
        shard.on_packet(NOW, PEER, &good, Bytes(vec![0; 1]));
        assert_eq!(shard.occupancy().server_rpcs, 1, "{}", vector.name);
        receive(&mut shard, &vector);
        assert_eq!(shard.metrics().bad_range, 2, "{}", vector.name);
        assert_eq!(shard.occupancy().retained_packets, 1, "{}", vector.name);
        assert!(shard.poll_event().is_none(), "{}", vector.name);
        checked += 1;
    }
    assert_eq!(checked, 2);
}

/// A request in one packet is delivered byte for byte, in every form a sender may choose; a longer
/// one is begun.
#[test]
fn accept_data() {
    let mut checked = 0;
    for vector in vectors().into_iter().filter(|vector| vector.expect == "accept") {
        let Body::Data(data) = vector.packet.body else { continue };
        if !vector.packet.header.sender_id.is_client() {
            continue;
        }
        let mut shard = shard_for(&vector);
        receive(&mut shard, &vector);
        assert_eq!(shard.occupancy().server_rpcs, 1, "{}", vector.name);
        let whole = vector.payload.len() as u32 == data.message_length;
        match shard.poll_event() {
            Some(Event::Request { message, id, .. }) => {
                assert!(whole, "{}", vector.name);
                assert_eq!(id, vector.packet.header.sender_id, "{}", vector.name);
                let bytes: Vec<u8> = message.payloads().flat_map(|p| p.0.clone()).collect();
                assert_eq!(bytes, vector.payload, "{}", vector.name);
            }
            None => assert!(!whole, "{}", vector.name),
            event => panic!("{}: {event:?}", vector.name),
        }
        checked += 1;
    }
    assert!(checked >= 8, "{checked}");
}

/// No packet draws more than a few in answer.
#[test]
fn every_vector_is_survived() {
    for vector in vectors() {
        let mut shard = shard_for(&vector);
        for _ in 0..3 {
            shard.on_packet(NOW, PEER, &vector.packet, Bytes(vector.payload.clone()));
            shard.end_burst(NOW);
            let mut sink = Sink::default();
            shard.poll_transmit(NOW, &mut sink);
            assert!(sink.0.len() <= 3, "{}", vector.name);
        }
    }
}
