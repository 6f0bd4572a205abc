//! The counters of a running node, for Prometheus and for DPDK's telemetry.

use crate::load::metrics::{Exposition, Kind};
use crate::node::{ShardCounters, ShardStats};
use crate::transport::Metrics;
use crate::wire::PacketType;

/// Counters that have a name of their own; all others are called after what counts them.
const NAMES: [(&str, &str); 13] = [
    ("client_started", "homa_rpcs_started"),
    ("client_done", "homa_rpcs_completed"),
    ("client_failed", "homa_rpcs_failed"),
    ("server_requests", "homa_requests_received"),
    ("server_responses", "homa_responses_given"),
    ("message_bytes_received", "homa_message_received_bytes"),
    ("message_bytes_started", "homa_message_sent_bytes"),
    ("bytes_resent", "homa_resent_bytes"),
    ("rx_packets", "homa_received_packets"),
    ("tx_packets", "homa_sent_packets"),
    ("rx_bytes", "homa_received_frame_bytes"),
    ("busy_turns", "homa_loop_busy_turns"),
    ("idle_turns", "homa_loop_idle_turns"),
];

/// The name of a counter in Prometheus, what kind it is, and its unit there in units of ours. `part`
/// counts it: `loop`, `transport`. Times are in seconds there.
fn name(part: &str, counter: &str) -> (Kind, String, f64) {
    let seconds = counter.replace("_ns", "_seconds");
    let unit = if seconds == counter { 1.0 } else { 1e-9 };
    let counter = seconds.as_str();
    let own = NAMES.iter().find(|known| known.0 == counter);
    let name = own.map_or_else(|| format!("homa_{part}_{counter}"), |known| known.1.to_owned());
    // The longest of something does not add up.
    if counter.ends_with("_max") {
        (Kind::Gauge, name, unit)
    } else {
        (Kind::Counter, name + "_total", unit)
    }
}

/// All counters of the shards, each with the number of its shard.
pub fn exposition(shards: &[ShardCounters]) -> Exposition {
    let mut metrics = Exposition::default();
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    metrics.add(Kind::Gauge, "homa_build_info", "Which program this is.", &version, 1.0);
    for (number, shard) in shards.iter().enumerate() {
        let number = number.to_string();
        let labels = [("shard", number.as_str())];
        let texts = ShardStats::FIELDS.iter().chain(Metrics::SINGLE).map(|field| field.1);
        let stats = shard.stats.iter().map(|counter| ("loop", counter));
        let single = shard.metrics.iter().map(|counter| ("transport", counter));
        for ((part, (counter, value)), text) in stats.chain(single).zip(texts) {
            let (kind, name, unit) = name(part, counter);
            let text = text.replace("in nanoseconds", "in seconds");
            metrics.add(kind, &name, &text, &labels, value as f64 * unit);
        }
        add_by_type(&mut metrics, &number, &shard.metrics);
        let held = &shard.occupancy;
        let gauges = [
            ("homa_client_rpcs", "RPCs started here and not ended.", held.client_rpcs as u64),
            ("homa_server_rpcs", "RPCs started by peers and not ended.", held.server_rpcs as u64),
            ("homa_peers", "Peers known.", held.peers as u64),
            (
                "homa_retained_packets",
                "Packet buffers held by received messages.",
                held.retained_packets.into(),
            ),
            (
                "homa_incoming_bytes",
                "Bytes announced or granted, not yet received.",
                held.incoming_bytes,
            ),
            (
                "homa_outgoing_bytes",
                "Bytes held for sending and sending again.",
                held.outgoing_bytes,
            ),
        ];
        for (name, text, value) in gauges {
            metrics.add(Kind::Gauge, name, text, &labels, value as f64);
        }
    }
    metrics
}

fn add_by_type(metrics: &mut Exposition, shard: &str, counters: &Metrics) {
    let both = [("received", &counters.received), ("sent", &counters.sent)];
    for (direction, counts) in both {
        for (kind, &count) in PacketType::ALL.into_iter().zip(counts) {
            let labels = [("shard", shard), ("direction", direction), ("type", kind.name())];
            let text = "Homa packets by type.";
            metrics.add(Kind::Counter, "homa_packets_by_type_total", text, &labels, count as f64);
        }
    }
    for (priority, &bytes) in counters.sent_bytes_by_priority.iter().enumerate() {
        let priority = priority.to_string();
        let labels = [("shard", shard), ("priority", priority.as_str())];
        let text = "Payload of DATA packets sent, by priority on the wire.";
        let name = "homa_sent_payload_bytes_total";
        metrics.add(Kind::Counter, name, text, &labels, bytes as f64);
    }
}

/// The same for telemetry: of all shards together, or of the one whose number `parameters` is. `None` if
/// there is no such shard.
pub fn telemetry(shards: &[ShardCounters], parameters: &str) -> Option<Vec<(String, u64)>> {
    let mut sum = ShardCounters::default();
    let mut add = |shard: &ShardCounters| {
        sum.stats.add(&shard.stats);
        sum.metrics.add(&shard.metrics);
        sum.occupancy.add(&shard.occupancy);
    };
    match parameters {
        "" => shards.iter().for_each(&mut add),
        number => add(shards.get(number.parse::<usize>().ok()?)?),
    }
    let ShardCounters { stats, metrics, occupancy } = sum;
    let own = |(name, value): (&str, u64)| (name.to_owned(), value);
    let mut values: Vec<(String, u64)> = metrics.iter().map(own).collect();
    values.extend(stats.iter().map(|(name, value)| (format!("loop_{name}"), value)));
    values.push(("client_rpcs".into(), occupancy.client_rpcs as u64));
    values.push(("server_rpcs".into(), occupancy.server_rpcs as u64));
    values.push(("retained_packets".into(), occupancy.retained_packets.into()));
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Occupancy;

    fn shard(done: u64) -> ShardCounters {
        ShardCounters {
            stats: ShardStats {
                rx_packets: 2 * done,
                busy_ns: 3_000_000_000,
                stall_ns_max: 5,
                ..ShardStats::default()
            },
            metrics: Metrics {
                client_done: done,
                sent: [done, 0, 0, 0, 0, 0, 0, 0, 0],
                ..Metrics::default()
            },
            occupancy: Occupancy { client_rpcs: 3, ..Occupancy::default() },
        }
    }

    #[test]
    fn counters_have_proper_names_and_help() {
        let text = exposition(&[shard(10), shard(20)]).text();
        for line in [
            "# HELP homa_rpcs_completed_total Of these: ended with a response.",
            "# TYPE homa_rpcs_completed_total counter",
            "homa_rpcs_completed_total{shard=\"0\"} 10",
            "homa_rpcs_completed_total{shard=\"1\"} 20",
            "homa_received_packets_total{shard=\"1\"} 40",
            "# TYPE homa_loop_stall_seconds_max gauge",
            "homa_loop_busy_seconds_total{shard=\"1\"} 3",
            "homa_packets_by_type_total{shard=\"0\",direction=\"sent\",type=\"DATA\"} 10",
            "homa_client_rpcs{shard=\"0\"} 3",
            "homa_sent_payload_bytes_total{shard=\"0\",priority=\"7\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        // Names as Prometheus wants them.
        for line in text.lines().filter(|line| line.starts_with("# TYPE")) {
            let (name, kind) = line[7..].split_once(' ').unwrap();
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            assert!(
                name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
            );
        }
        let help = |line: &&str| line.starts_with("# HELP") && line.split(' ').count() < 4;
        assert_eq!(text.lines().find(help), None, "help for everything");
    }

    #[test]
    fn telemetry_adds_up_or_names_a_shard() {
        let shards = [shard(10), shard(20)];
        let done = |parameters| {
            let values = telemetry(&shards, parameters)?;
            values.iter().find(|value| value.0 == "client_done").map(|value| value.1)
        };
        assert_eq!([done(""), done("1"), done("2"), done("x")], [Some(30), Some(20), None, None]);
        assert!(telemetry(&shards, "").unwrap().len() < 256, "more than telemetry takes");
    }
}
