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
        "control / data",
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
            // Those of W4 and W5 are longer than Linux takes.
            homa: HomaConfig { message_max_bytes: 100_000_000, ..HomaConfig::default() },
            exchange: Exchange::Rpc(0),
            ..SimConfig::default()
        }
    }

    /// The figures of the run, in the order of [`Ablation::HEAD`].
    pub fn figures(&self, summary: &Summary, metrics: &Metrics) -> [f64; 9] {
        let (all, bins) = (self.tally.all(), self.tally.bins());
        let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
        let data = metrics.sent[0];
        let control = metrics.sent.iter().sum::<u64>() - data;
        [
            all.mean(),
            all.quantile(0.99),
            bins[0].quantile(0.99),
            bins[1].quantile(0.99),
            bins[2].quantile(0.99),
            percent(summary.packets.dropped, summary.packets.sent),
            percent(metrics.bytes_resent, summary.packets.payload_bytes),
            control as f64 / data.max(1) as f64,
            summary.delivered_twice as f64,
        ]
    }

    /// The figures of runs that differ in their seeds as cells: the mean and, of several runs, half the
    /// distance from the lowest to the highest.
    pub fn row(runs: &[[f64; 9]]) -> Vec<String> {
        let cell = |column: usize| {
            let values = || runs.iter().map(|figures| figures[column]);
            let digits = DIGITS[column];
            let mean = values().sum::<f64>() / runs.len() as f64;
            let (low, high) =
                (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
            if runs.len() < 2 {
                return format!("{mean:.digits$}");
            }
            format!("{mean:.digits$} ±{:.digits$}", (high - low) / 2.0)
        };
        (0..DIGITS.len()).map(cell).collect()
    }
}

/// Decimals of the columns of [`Ablation::HEAD`].
const DIGITS: [usize; 9] = [3, 2, 2, 2, 2, 3, 3, 2, 0];

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
    fn a_run_gives_a_figure_per_column() {
        let workload = Workload::embedded("w2").unwrap();
        let mut config = Ablation::cluster();
        config.time.measure_ns = 300_000;
        config.time.warm_up_ns = 30_000;
        let ablation = Ablation::new(&workload);
        let mut cluster = Cluster::<(), _>::new(&config, &workload, 5e9, ablation).unwrap();
        let summary = cluster.run();
        let metrics = cluster.metrics();
        let figures = cluster.into_observer().figures(&summary, &metrics);
        let mean = figures[0];
        assert!((1.0..5.0).contains(&mean), "{figures:?}");
        assert!(figures.iter().all(|figure| figure.is_finite()), "{figures:?}");
    }

    #[test]
    fn several_runs_give_their_mean_and_how_far_they_lie_apart() {
        let (mut low, mut high) = ([1.0; 9], [1.0; 9]);
        (low[1], high[1]) = (2.0, 3.0);
        let row = Ablation::row(&[low, high]);
        assert_eq!(row.len(), Ablation::HEAD.len());
        assert_eq!(row[..2], ["1.000 ±0.000", "2.50 ±0.50"]);
        assert_eq!(Ablation::row(&[low])[1], "2.00");
    }
}
