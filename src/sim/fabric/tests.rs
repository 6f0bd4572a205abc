use super::*;
use crate::load::arrival::{Arrival, Arrivals};
use crate::sim::packet::Piece;
use crate::wire::{Body, Header, HomaPort, Packet, RpcId};

fn network() -> NetworkConfig {
    NetworkConfig {
        racks: 1,
        hosts_per_rack: 4,
        host_bps: 10_000_000_000,
        propagation_ns: 0,
        switch_ns: 0,
        ..NetworkConfig::default()
    }
}

fn frame(src: u16, dst: u16, priority: u8, wire_bytes: u32, number: u32) -> Frame<()> {
    let header = Header { sport: HomaPort(1), dport: HomaPort(2), sender_id: RpcId(2) };
    let piece = Piece { slot: 0, message: number, start: 0, length: 1, contents: () };
    let packet = Packet { header, body: Body::Busy };
    let label = Label { wire_bytes, next: 0, src, dst, priority };
    Frame { label, packet, piece }
}

/// Runs to the end; gives time and number of each packet in the order of arrival.
fn run(fabric: &mut Fabric<()>) -> Vec<(Picos, u32)> {
    let mut arrived = Vec::new();
    while let Some((at_ps, Event { kind, node, packet })) = fabric.events.pop() {
        match kind {
            Kind::Enqueue => fabric.enqueue(at_ps, node, packet),
            Kind::PortFree => fabric.port_free(at_ps, node),
            Kind::Receive => arrived.push((at_ps, fabric.frames.remove(packet).message)),
            other => panic!("{other:?} in a network without hosts"),
        }
    }
    arrived
}

#[test]
fn higher_priorities_overtake_but_do_not_interrupt() {
    let mut fabric = Fabric::new(&network(), 0, 0, 1);
    // All come to the port of host 3 while number 0 is on its wire.
    fabric.send_from_host(0, frame(0, 3, 0, 1_000, 0));
    for (number, priority) in [(1, 0), (2, 7), (3, 3), (4, 7)] {
        fabric.send_from_host(400_000, frame(1, 3, priority, 1_000, number));
    }
    let order: Vec<u32> = run(&mut fabric).into_iter().map(|(_, number)| number).collect();
    assert_eq!(order, [0, 2, 4, 3, 1]);
}

#[test]
fn store_and_forward_sends_a_frame_once_per_link() {
    let config = NetworkConfig {
        racks: 2,
        spines: 2,
        core_bps: 40_000_000_000,
        switch_ns: 250,
        propagation_ns: 5,
        ..network()
    };
    let mut fabric = Fabric::new(&config, 500, 1_000, 1);
    fabric.send_from_host(0, frame(0, 7, 0, 1_538, 0));
    fabric.send_from_host(10_000_000, frame(0, 1, 0, 1_538, 1));
    let inter = 1_538 * (2 * 800 + 2 * 200) + (500 + 1_000 + 3 * 250 + 4 * 5) * PS_PER_NS;
    let intra = 1_538 * 2 * 800 + (500 + 1_000 + 250 + 2 * 5) * PS_PER_NS;
    assert_eq!(run(&mut fabric), [(inter, 0), (10_000_000 + intra, 1)]);
    assert_eq!(fabric.counts.hops, 6);
}

#[test]
fn cut_through_waits_for_the_header_only_unless_the_next_link_is_faster() {
    let config = NetworkConfig { cut_through: true, ..network() };
    let mut fabric = Fabric::new(&config, 0, 0, 1);
    fabric.send_from_host(0, frame(0, 3, 0, 1_000, 0));
    assert_eq!(run(&mut fabric), [((CUT_THROUGH_BYTES + 1_000) * 800, 0)]);
    let config = NetworkConfig { racks: 2, spines: 1, core_bps: 40_000_000_000, ..config };
    let mut fabric = Fabric::new(&config, 0, 0, 1);
    fabric.send_from_host(0, frame(0, 7, 0, 1_000, 0));
    // Whole at the first switch, then cut through spine and last switch.
    let expected = 1_000 * 800 + 2 * CUT_THROUGH_BYTES * 200 + 1_000 * 800;
    assert_eq!(run(&mut fabric), [(expected, 0)]);
}

#[test]
fn a_full_buffer_drops_what_comes_last() {
    for buffer in [Buffer::PerPort(3_000), Buffer::Shared(3_000)] {
        let mut fabric = Fabric::new(&NetworkConfig { buffer, ..network() }, 0, 0, 1);
        for number in 0..6 {
            fabric.send_from_host(0, frame((number % 3) as u16, 3, 0, 1_000, number));
        }
        let order: Vec<u32> = run(&mut fabric).into_iter().map(|(_, number)| number).collect();
        assert_eq!(order, [0, 1, 2, 3], "{buffer:?}: one on the wire, three wait");
        assert_eq!((fabric.counts.dropped, fabric.frames.len()), (2, 0));
        assert_eq!(fabric.switch_bytes, [0]);
    }
    // A shared buffer is one for all ports of the switch.
    let mut fabric =
        Fabric::new(&NetworkConfig { buffer: Buffer::Shared(2_000), ..network() }, 0, 0, 1);
    for number in 0..6 {
        fabric.send_from_host(0, frame(0, 2 + (number % 2) as u16, 0, 1_000, number));
    }
    assert_eq!(run(&mut fabric).len(), 4);
}

#[test]
fn spraying_uses_all_spines_and_a_flow_hash_one_per_flow() {
    let config = NetworkConfig { racks: 2, spines: 4, ..network() };
    let count = |routing| {
        let mut fabric = Fabric::<()>::new(&NetworkConfig { routing, ..config.clone() }, 0, 0, 7);
        let mut uses = [0; 4];
        for number in 0..4_000 {
            uses[fabric.spine(&frame(0, 7, 0, 100, number)) as usize] += 1;
        }
        uses
    };
    for uses in count(Routing::Spray) {
        assert!((900..1_100).contains(&uses), "{uses} of 4000 over one of 4");
    }
    assert_eq!(count(Routing::FlowHash).iter().filter(|&&uses| uses > 0).count(), 1);
}

/// The mean wait in a queue with Poisson arrivals and constant service time s at utilisation u is
/// s u / (2 (1 - u)) (Pollaczek and Khinchine).
#[test]
fn a_port_is_an_m_d_1_queue() {
    for utilisation in [0.3, 0.6, 0.8] {
        let mut fabric = Fabric::new(&network(), 0, 0, 1);
        let (bytes, packets) = (1_000_u32, 400_000_u32);
        let service_ps = u64::from(bytes) * 800;
        let rate = utilisation * 1e12 / service_ps as f64;
        let mut arrivals = Arrivals::new(Arrival::Poisson, crate::time::Nanos::ZERO, rate, 11);
        for number in 0..packets {
            let index = fabric.frames.insert(frame(0, 3, 0, bytes, number));
            let event = Event { kind: Kind::Enqueue, node: 3, packet: index };
            fabric.events.push(arrivals.next().0 * PS_PER_NS, event);
            arrivals.advance();
        }
        let mut starts = Arrivals::new(Arrival::Poisson, crate::time::Nanos::ZERO, rate, 11);
        let mut wait_ps = 0;
        for (at_ps, _) in run(&mut fabric) {
            wait_ps += at_ps - service_ps - starts.next().0 * PS_PER_NS;
            starts.advance();
        }
        let mean = wait_ps as f64 / f64::from(packets);
        let expected = service_ps as f64 * utilisation / (2.0 * (1.0 - utilisation));
        assert!(
            (mean / expected - 1.0).abs() < 0.03,
            "at {utilisation}: {mean}, not {expected} ps"
        );
    }
}
