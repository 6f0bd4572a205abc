//! Small simulated clusters through the public surface.

use homa::load::workload::Workload;
use homa::sim::{
    Buffer, Bytes, Cluster, Counted, Delivery, Exchange, Framing, HomaConfig, NetworkConfig,
    Observer, Routing, Sigcomm18, SimConfig, SimError, Summary, Tally, TimeConfig,
};
use homa::transport::RpcError;

/// Counts what a run delivers and what is wrong with it.
#[derive(Default)]
struct Checker {
    delivered: u64,
    damaged: u64,
    responses: u64,
    errors: u64,
    slowdown_min: f64,
}

impl Observer for Checker {
    fn delivered(&mut self, delivery: &Delivery) {
        self.delivered += 1;
        self.damaged += u64::from(!delivery.intact);
        self.slowdown_min = self.slowdown_min.min(delivery.slowdown);
    }

    fn ended(&mut self, _at_ns: u64, result: Result<bool, RpcError>) {
        match result {
            Ok(intact) => {
                self.responses += 1;
                self.damaged += u64::from(!intact);
            }
            Err(_) => self.errors += 1,
        }
    }
}

fn workload(text: &str) -> Workload {
    text.parse().unwrap()
}

fn short(measure_ns: u64) -> TimeConfig {
    TimeConfig { warm_up_ns: 100_000, measure_ns, ..TimeConfig::default() }
}

fn paper(measure_ns: u64, framing: Framing) -> SimConfig {
    Sigcomm18 { measure_ns, framing, ..Sigcomm18::default() }.config()
}

/// Two racks, few hosts, RPCs with echo.
fn two_racks() -> SimConfig {
    SimConfig {
        network: NetworkConfig {
            racks: 2,
            hosts_per_rack: 4,
            spines: 2,
            routing: Routing::Spray,
            ..NetworkConfig::default()
        },
        time: short(2_000_000),
        ..SimConfig::default()
    }
}

#[test]
fn echoes_bring_back_the_bytes_that_were_sent() {
    let config = two_racks();
    let workload = workload("w4").cut_at(1_000_000).unwrap();
    let checker = Checker { slowdown_min: f64::MAX, ..Checker::default() };
    let mut cluster = Cluster::<Bytes, _>::new(&config, &workload, 8e9, checker).unwrap();
    cluster.run();
    assert!(cluster.settle(1_000_000_000), "{:?}", cluster.summary());
    let summary = cluster.summary();
    let checker = cluster.observer();
    assert!(summary.started > 200, "{summary:?}");
    assert_eq!((checker.damaged, checker.errors, summary.refused), (0, 0, 0));
    assert_eq!(checker.delivered, summary.started);
    assert_eq!(checker.responses, summary.started);
    // A short last packet over another spine may come before a long one: that the ideal leaves out.
    assert!(checker.slowdown_min >= 0.95, "{} below the ideal", checker.slowdown_min);
    assert!(summary.packets.payload_bytes > 20_000_000);
}

/// Every packet is received, dropped, or still in the network.
fn assert_conserved(summary: &Summary) {
    let packets = summary.packets;
    assert_eq!(
        packets.sent,
        packets.received + packets.dropped + packets.in_network,
        "{packets:?}"
    );
}

#[test]
fn no_packet_vanishes() {
    for buffer in [Buffer::Unlimited, Buffer::PerPort(20_000), Buffer::Shared(60_000)] {
        let base = two_racks();
        let config =
            SimConfig { network: NetworkConfig { buffer, ..base.network.clone() }, ..base };
        let workload = workload("w4").cut_at(1_000_000).unwrap();
        let mut cluster = Cluster::<()>::new(&config, &workload, 8e9, ()).unwrap();
        assert_conserved(&cluster.run());
        assert!(cluster.settle(2_000_000_000), "{buffer:?}: {:?}", cluster.summary());
        let summary = cluster.summary();
        assert_conserved(&summary);
        assert_eq!(summary.packets.in_network, 0);
        assert_eq!(summary.packets.dropped > 0, buffer != Buffer::Unlimited, "{buffer:?}");
        // What was lost was asked for again.
        assert_eq!((summary.failed, summary.delivered), (0, summary.started), "{buffer:?}");
    }
}

#[test]
fn two_runs_are_equal_and_another_seed_is_not() {
    let run = |seed| {
        let mut config = paper(200_000, Framing::Paper);
        config.seed = seed;
        let workload = workload("w3");
        let bps = Sigcomm18::payload_bps(&workload, 0.8);
        let tally = Tally::new([100, 1_000, 10_000]);
        let mut cluster = Cluster::<(), _>::new(&config, &workload, bps, tally).unwrap();
        let summary = cluster.run();
        (summary, cluster.into_observer())
    };
    let (first, second, other) = (run(7), run(7), run(8));
    assert_eq!(first, second);
    assert_ne!(first.0.trace_hash, other.0.trace_hash);
    assert!(first.0.delivered > 10_000);
}

/// On an idle network a message takes the ideal time plus its Homa headers.
#[test]
fn a_lone_message_has_a_slowdown_of_one() {
    for (size, most) in [("1", 1.02), ("1000B", 1.02), ("9000B", 1.03), ("1000000B", 1.03)] {
        // So rare that messages never meet.
        let mut config = paper(500_000_000, Framing::Paper);
        config.intra_rack_slip = false;
        let workload = workload(size);
        let tally = Tally::new([u32::MAX]);
        let bps = workload.mean_bytes() * 8.0 * 2.0;
        let mut cluster = Cluster::<(), _>::new(&config, &workload, bps, tally).unwrap();
        cluster.run();
        let all = cluster.observer().all();
        assert!(all.count > 50, "{size}: {}", all.count);
        let (least, median) = (all.quantile(0.0), all.quantile(0.5));
        assert!((0.999..most).contains(&least), "{size}: {least}");
        assert!((0.999..most).contains(&median), "{size}: {median}");
    }
}

#[test]
fn the_load_on_the_wire_is_what_was_asked_for() {
    for (framing, low, high) in [(Framing::Paper, 0.77, 0.83), (Framing::Linux, 0.83, 0.90)] {
        let config = paper(500_000, framing);
        let workload = workload("w1");
        let bps = Sigcomm18::payload_bps(&workload, 0.8);
        let mut cluster = Cluster::<()>::new(&config, &workload, bps, ()).unwrap();
        let summary = cluster.run();
        let seconds = summary.simulated_ns as f64 / 1e9;
        let load = summary.packets.wire_bytes as f64 * 8.0 / seconds / 144.0 / 10e9;
        assert!((low..high).contains(&load), "{framing:?}: {load}");
    }
}

#[test]
fn cpu_time_per_packet_limits_the_rate() {
    let base = two_racks();
    let run = |rx_cpu_ns| {
        let mut config = base.clone();
        config.host.rx_cpu_ns = rx_cpu_ns;
        let tally = Tally::new([u32::MAX]);
        let mut cluster = Cluster::<(), _>::new(&config, &workload("100"), 4e8, tally).unwrap();
        let summary = cluster.run();
        assert_eq!(summary.unfinished, 0);
        cluster.observer().all().quantile(0.99)
    };
    // Half a million requests and responses per second and host: 1 us each is 100 %.
    let (free, busy) = (run(0), run(700));
    assert!(busy > free * 1.3, "{free} without cost, {busy} with");
}

/// When measured messages start and arrive.
#[derive(Default)]
struct Times(Vec<(u64, u64)>);

impl Observer for Times {
    fn delivered(&mut self, delivery: &Delivery) {
        if delivery.measured {
            self.0.push((delivery.started_ns, delivery.at_ns));
        }
    }
}

#[test]
fn messages_count_by_their_start_or_by_their_arrival() {
    let run = |counted| {
        let mut config = two_racks();
        config.time = TimeConfig { counted, ..short(2_000_000) };
        let workload = workload("w4").cut_at(1_000_000).unwrap();
        let mut cluster =
            Cluster::<(), _>::new(&config, &workload, 1.6e10, Times::default()).unwrap();
        let summary = cluster.run();
        (summary, cluster.into_observer().0)
    };
    let measured = 100_000..2_100_000;
    let (summary, times) = run(Counted::Started);
    assert!(times.iter().all(|(start, _)| measured.contains(start)));
    assert!(times.iter().any(|(_, end)| !measured.contains(end)));
    assert_eq!(summary.unfinished, 0);
    let (summary, times) = run(Counted::Arrived);
    assert!(times.iter().all(|(_, end)| measured.contains(end)));
    assert!(times.iter().any(|(start, _)| !measured.contains(start)));
    assert!(summary.unfinished > 0 && summary.simulated_ns < 2_200_000, "{summary:?}");
}

#[test]
fn settings_are_checked() {
    let small = workload("100");
    let error = |config: &SimConfig| Cluster::<()>::new(config, &small, 1e9, ()).unwrap_err();
    let mut config = paper(1_000_000, Framing::Paper);
    config.network.buffer = Buffer::PerPort(1_000);
    assert_eq!(error(&config), SimError::OneWayWithLoss);
    let mut config = SimConfig { exchange: Exchange::Rpc(0), ..two_racks() };
    config.homa = HomaConfig { overcommit_max: 9, ..HomaConfig::default() };
    let text = error(&config).to_string();
    assert_eq!(text, "homa.overcommit_max is 9: must be between 1 and 8");
    config.network.spines = 0;
    assert_eq!(error(&config).to_string(), "network.spines is 0: must be between 1 and 10000");
}

/// The hash of a run that was made on another day and machine.
#[test]
fn a_run_is_the_same_everywhere() {
    let config = paper(100_000, Framing::Paper);
    let workload = workload("w3");
    let bps = Sigcomm18::payload_bps(&workload, 0.8);
    let summary = Cluster::<()>::new(&config, &workload, bps, ()).unwrap().run();
    assert_eq!(
        format!("{:016x}", summary.trace_hash),
        "e0659b890d12c529",
        "if meant to change: this value"
    );
}

#[test]
fn samples_show_queues_and_progress() {
    let config = paper(200_000, Framing::Paper);
    let workload = workload("w2");
    let bps = Sigcomm18::payload_bps(&workload, 0.8);
    let mut cluster = Cluster::<()>::new(&config, &workload, bps, ()).unwrap();
    let mut samples = Vec::new();
    while !cluster.advance(cluster.now_ns() + 5_000) {
        samples.push(cluster.sample());
    }
    assert!(samples.is_sorted_by_key(|sample| sample.delivered_bytes));
    assert!(samples.iter().any(|sample| sample.queued_bytes.1 > 1_500));
    assert!(samples.iter().all(|sample| sample.queued_bytes.0 <= sample.queued_bytes.1 as f64));
    assert_eq!(samples.last().unwrap().delivered_bytes > 0, cluster.summary().delivered > 0);
}

/// A rack whose hosts have several shards.
fn shards(count: u32, change: impl FnOnce(&mut SimConfig)) -> SimConfig {
    let mut config = SimConfig::default();
    config.host.shards = count;
    config.host.hop_ns = 300;
    config.time.measure_ns = 1_000_000;
    change(&mut config);
    config
}

/// The whole host: each request delivered once, all of them, intact; leases that add up.
fn expect_one_host(config: &SimConfig) -> homa::sim::Crossings {
    let workload = Workload::embedded("w3").unwrap().cut_at(1_000_000).unwrap();
    let mut cluster =
        Cluster::<Bytes, _>::new(config, &workload, 10e9, Checker::default()).unwrap();
    cluster.run();
    assert!(cluster.settle(10_000_000_000), "{:?}", cluster.summary());
    let summary = cluster.summary();
    let (faults, crossings) = cluster.shards();
    assert_eq!(faults, homa::sim::HostFaults::default());
    assert!(summary.started > 3_000, "{summary:?}");
    assert_eq!((summary.failed, summary.refused), (0, 0), "{summary:?}");
    assert_eq!(summary.delivered, summary.started, "each once");
    assert_eq!(cluster.observer().damaged, 0);
    crossings
}

#[test]
fn shards_of_a_host_act_as_one() {
    for count in [2, 4, 8] {
        let crossings = expect_one_host(&shards(count, |_| ()));
        assert!(crossings.redirected > 1_000 && crossings.dropped == 0, "{crossings:?}");
    }
}

#[test]
fn every_packet_may_cross() {
    let crossings = expect_one_host(&shards(3, |config| config.host.detour = true));
    assert!(crossings.redirected > 10_000, "{crossings:?}");
}

/// A shard that does not run holds up its own RPCs, not those of others; nothing is served twice.
#[test]
fn shards_may_stall_at_any_time() {
    for seed in 1..4 {
        let crossings = expect_one_host(&shards(4, |config| {
            config.seed = seed;
            config.host.stall_every_ns = 300_000;
            config.host.stall_ns = 200_000;
        }));
        assert!(crossings.stalls > 50, "{crossings:?}");
    }
}
