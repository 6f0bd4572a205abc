//! What single settings of the transport are worth: the same load with one of them changed.

use crate::load::workload::Workload;
use crate::transport::{Metrics, Order};

use super::cluster::Summary;
use super::config::{Buffer, Exchange, HomaConfig, NetworkConfig, Routing, SimConfig};
use super::observe::{Delivery, Observer};
use super::tally::Tally;

/// A change of one setting.
#[derive(Clone, Copy, Debug)]
pub struct Switch {
    /// What it does.
    pub name: &'static str,
    /// Does it.
    pub change: fn(&mut HomaConfig),
}

/// What this library does differently from Linux Homa, each switched off (or, where it is off by
/// default, on).
pub const SWITCHES: [Switch; 13] = [
    Switch { name: "no tombstones", change: |homa| homa.tombstone_keep_ns = 0 },
    Switch { name: "grant order not live", change: |homa| homa.live_srpt = false },
    Switch {
        name: "unscheduled bytes not budgeted",
        change: |homa| homa.budget_unscheduled = false,
    },
    Switch { name: "no grant hysteresis", change: |homa| homa.grant_min_bytes = 0 },
    Switch { name: "no early packet", change: |homa| homa.early_packet = false },
    Switch { name: "no fast gap recovery", change: |homa| homa.gap_recovery_ns = 0 },
    Switch { name: "no incast control", change: |homa| homa.incast_rpcs_min = 0 },
    Switch { name: "unscheduled bytes by RTT", change: |homa| homa.unsched_by_rtt = true },
    Switch { name: "order: length", change: |homa| homa.order = Order::Length },
    Switch { name: "order: product", change: |homa| homa.order = Order::Product },
    Switch {
        name: "no share for the oldest (grants)",
        change: |homa| homa.grant_fifo_permille = 0,
    },
    Switch {
        name: "no share for the oldest (sending)",
        change: |homa| homa.send_fifo_permille = 0,
    },
    Switch {
        name: "as Linux in all of these",
        change: |homa| {
            homa.tombstone_keep_ns = 0;
            homa.live_srpt = false;
            homa.budget_unscheduled = false;
            homa.grant_min_bytes = 0;
            homa.early_packet = false;
            homa.gap_recovery_ns = 0;
            homa.incast_rpcs_min = 0;
            homa.unsched_by_rtt = false;
            homa.order = Order::BytesLeft;
        },
    },
];

/// Measures one variant. Messages are told apart by size: the shorter half, the rest up to nine tenths,
/// and the longest tenth.
#[derive(Clone, Debug)]
pub struct Ablation {
    tally: Tally,
}

impl Ablation {
    /// Heads of the columns of [`Ablation::row`].
    pub const HEAD: [&'static str; 9] = [
        "mean",
        "p99",
        "p99 shorter half",
        "p99 middle",
        "p99 longest 10 %",
        "lost %",
        "sent again %",
        "control/data",
        "executed twice",
    ];

    /// Nothing measured yet.
    pub fn new(workload: &Workload) -> Self {
        Self { tally: Tally::new([0.5, 0.9, 1.0].map(|share| workload.quantile(share))) }
    }

    /// The cluster it is measured on unless another is wanted: 32 hosts in 4 racks, 25 Gbps, switches
    /// with little memory, and RPCs that send each request back.
    pub fn cluster() -> SimConfig {
        SimConfig {
            network: NetworkConfig {
                racks: 4,
                hosts_per_rack: 8,
                spines: 2,
                routing: Routing::Spray,
                buffer: Buffer::Shared(1_000_000),
                ..NetworkConfig::default()
            },
            exchange: Exchange::Rpc(0),
            ..SimConfig::default()
        }
    }

    /// The figures of the run, in the order of [`Ablation::HEAD`].
    pub fn row(&self, summary: &Summary, metrics: &Metrics) -> Vec<String> {
        let all = self.tally.all();
        let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
        let data = metrics.sent[0];
        let control = metrics.sent.iter().sum::<u64>() - data;
        let mut cells = vec![format!("{:.3}", all.mean()), format!("{:.2}", all.quantile(0.99))];
        cells.extend(self.tally.bins().iter().map(|bin| format!("{:.2}", bin.quantile(0.99))));
        cells.extend([
            format!("{:.3}", percent(summary.packets.dropped, summary.packets.sent)),
            format!("{:.3}", percent(metrics.bytes_resent, summary.packets.payload_bytes)),
            format!("{:.2}", control as f64 / data.max(1) as f64),
            summary.delivered_twice.to_string(),
        ]);
        cells
    }
}

impl Observer for Ablation {
    fn delivered(&mut self, delivery: &Delivery) {
        self.tally.delivered(delivery);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Cluster;

    #[test]
    fn every_switch_changes_something_and_the_result_is_valid() {
        let base = HomaConfig::default();
        for switch in &SWITCHES {
            let mut homa = base.clone();
            (switch.change)(&mut homa);
            assert_ne!(homa, base, "{}", switch.name);
            assert_eq!(
                homa.transport(25_000_000_000, [0; 8], 1).validate(),
                Ok(()),
                "{}",
                switch.name
            );
        }
    }

    #[test]
    fn a_row_has_a_cell_per_column() {
        let workload = Workload::embedded("w2").unwrap();
        let mut config = Ablation::cluster();
        config.time.measure_ns = 300_000;
        config.time.warm_up_ns = 30_000;
        let ablation = Ablation::new(&workload);
        let mut cluster = Cluster::<(), _>::new(&config, &workload, 5e9, ablation).unwrap();
        let summary = cluster.run();
        let metrics = cluster.metrics();
        let row = cluster.into_observer().row(&summary, &metrics);
        assert_eq!(row.len(), Ablation::HEAD.len());
        let mean: f64 = row[0].parse().unwrap();
        assert!((1.0..5.0).contains(&mean), "{row:?}");
    }
}
