//! The set-up of the published simulations of the Homa paper (SIGCOMM 2018), and their curves.

use crate::load::workload::Workload;

use super::config::{
    Buffer, Exchange, Framing, HomaConfig, HostConfig, NetworkConfig, Routing, SimConfig,
    TimeConfig,
};

/// Slowdown by message size of Homa, pFabric and the SRPT oracle, from the authors' figure data.
const CURVES: &str = include_str!("reference/sigcomm18.csv");

/// A load that the curves exist for: what a host link carries, with all overhead and grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PaperLoad {
    /// 50 %.
    Half,
    /// 80 %.
    #[default]
    Eighty,
}

impl PaperLoad {
    /// The load as a fraction.
    pub const fn fraction(self) -> f64 {
        match self {
            Self::Half => 0.5,
            Self::Eighty => 0.8,
        }
    }

    /// The one that `load` is, if it is one of them.
    pub fn of(load: f64) -> Option<Self> {
        [Self::Half, Self::Eighty].into_iter().find(|known| (known.fraction() - load).abs() < 1e-6)
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Half => "0.5",
            Self::Eighty => "0.8",
        }
    }
}

const HOSTS: u16 = 144;
/// RTTbytes of the published runs: granted ahead of what has come, and, in whole packets, sent without a
/// grant.
const RTT_BYTES: u32 = 9_328;

/// The preset: 144 hosts in 9 racks, 10 Gbps to hosts, 40 Gbps between switches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sigcomm18 {
    /// Header sizes: the paper's, or those of this library.
    pub framing: Framing,
    /// Seed.
    pub seed: u64,
    /// Length of the measurement, in nanoseconds.
    pub measure_ns: u64,
    /// Compare as published, with intra-rack ideals that are 0.25 us too short.
    pub intra_rack_slip: bool,
    /// Levels for unscheduled packets; 0 computes them from the workload.
    pub unscheduled_priorities: u8,
    /// Shards of each host.
    pub shards: u32,
}

impl Default for Sigcomm18 {
    fn default() -> Self {
        Self {
            framing: Framing::Paper,
            seed: 1,
            measure_ns: 10_000_000,
            intra_rack_slip: true,
            unscheduled_priorities: 0,
            shards: 1,
        }
    }
}

impl Sigcomm18 {
    /// The settings of the simulator. What the paper's Homa does differently from the defaults of
    /// this library: a window per message instead of a budget, seven messages granted to at a time, a
    /// grant per packet, no share for the oldest, no fast lane for short messages beside SRPT, and a NIC
    /// that asks for the next packet when it is idle.
    pub fn config(&self) -> SimConfig {
        SimConfig {
            seed: self.seed,
            network: NetworkConfig {
                racks: 9,
                hosts_per_rack: 16,
                spines: 4,
                host_bps: 10_000_000_000,
                core_bps: 40_000_000_000,
                propagation_ns: 0,
                switch_ns: 250,
                cut_through: false,
                routing: Routing::Spray,
                buffer: Buffer::Unlimited,
                framing: self.framing,
            },
            host: HostConfig {
                tx_delay_ns: 500,
                // Software and NIC.
                rx_delay_ns: 1_000,
                rx_cpu_ns: 0,
                rx_burst_packets: 1,
                nic_backlog_ns: 0,
                shards: self.shards,
                ..HostConfig::default()
            },
            homa: HomaConfig {
                message_max_bytes: 100_000_000,
                unsched_bytes: RTT_BYTES.next_multiple_of(self.framing.segment_bytes()),
                incast_rpcs_min: 0,
                window_bytes: RTT_BYTES,
                incoming_max_bytes: i32::MAX as u32,
                overcommit_max: 7,
                grant_min_bytes: 0,
                grant_fifo_permille: 0,
                send_fifo_permille: 0,
                pacing: false,
                defer_min_bytes: 0,
                early_packet: false,
                control_packets_max: 256,
                unscheduled_priorities: self.unscheduled_priorities,
                // Nothing is lost: silence means that others come first.
                resend_after_ns: 1_000_000_000,
                resend_interval_ns: 1_000_000_000,
                timeout_ns: 1_000_000_000_000,
                gap_recovery_ns: 0,
                tombstone_keep_ns: 0,
                ..HomaConfig::default()
            },
            exchange: Exchange::OneWay,
            time: TimeConfig {
                warm_up_ns: self.measure_ns / 10,
                measure_ns: self.measure_ns,
                drain_max_ns: self.measure_ns,
                ..TimeConfig::default()
            },
            intra_rack_slip: self.intra_rack_slip,
        }
    }

    /// Levels for unscheduled packets in the published runs of a workload, 0 where not known. The
    /// published curves step up where the level changes; these numbers put the cutoffs there.
    pub fn published_levels(workload: &str) -> u8 {
        match workload.to_lowercase().as_str() {
            "w1" => 7,
            "w2" | "w3" => 5,
            "w4" | "w5" => 1,
            _ => 0,
        }
    }

    /// Messages that each receiver had in the published run of a workload. At 80 % the length of the run is
    /// known; the shares of the bins of W5 are multiples of 1/97,570 and, at 50 %, of 1/108,847, which
    /// tells the number of all messages. The other runs at 50 % are taken to have had as many as at 80 %.
    fn published_messages(workload: &Workload, load: PaperLoad) -> Option<f64> {
        let seconds = match (workload.name(), load) {
            ("w1", _) => 1.2,
            ("w2", _) => 3.0,
            ("w3" | "w4", _) => 3.75,
            ("w5", PaperLoad::Eighty) => return Some(97_570.0 / f64::from(HOSTS)),
            ("w5", PaperLoad::Half) => return Some(108_847.0 / f64::from(HOSTS)),
            _ => return None,
        };
        Some(seconds * Self::payload_bps(workload, 0.8) / 8.0 / workload.mean_bytes())
    }

    /// Receivers whose messages are taken together for percentiles, in a run of `measure_ns`; `None` for
    /// all of them.
    ///
    /// The published percentiles are means over receivers (see docs/SIMULATION.md): of as many receivers
    /// together as have as many messages in this run as each had in the published one.
    pub fn receivers_together(
        workload: &Workload,
        load: PaperLoad,
        measure_ns: u64,
    ) -> Option<u16> {
        let published = Self::published_messages(workload, load)?;
        let bps = Self::payload_bps(workload, load.fraction());
        let ours = measure_ns as f64 / 1e9 * bps / 8.0 / workload.mean_bytes();
        let together = (published / ours).round().max(1.0);
        (together < f64::from(HOSTS)).then_some(together as u16)
    }

    /// The payload rate that each host offers, in bits per second: the load counts headers and grants
    /// as the paper does, whatever the framing, so that runs with either carry the same messages.
    pub fn payload_bps(workload: &Workload, load: f64) -> f64 {
        load * workload.paper_wire_share() * 10e9
    }
}

/// One bin of a published curve.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct CurvePoint {
    /// Largest message, in bytes.
    pub upper_bytes: u32,
    /// Messages of the bin, in percent.
    pub count_pct: f64,
    /// Mean slowdown, not a number where the curve has none.
    pub mean: f64,
    /// Median slowdown.
    pub p50: f64,
    /// 99th percentile of the slowdown.
    pub p99: f64,
}

/// A published curve.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve(pub Vec<CurvePoint>);

impl Curve {
    /// Points of the curve with the share of messages, in percent, up to the middle of each bin.
    pub fn by_messages(&self) -> impl Iterator<Item = (f64, &CurvePoint)> {
        let mut below = 0.0;
        self.0.iter().map(move |point| {
            let middle = below + point.count_pct / 2.0;
            below += point.count_pct;
            (middle, point)
        })
    }

    /// The size that a share of the messages, in percent, does not exceed.
    pub fn size_at(&self, pct: f64) -> u32 {
        let mut below = 0.0;
        let reaches = |point: &&CurvePoint| {
            below += point.count_pct;
            below >= pct - 1e-9
        };
        let found = self.0.iter().find(reaches).or_else(|| self.0.last());
        found.map_or(0, |point| point.upper_bytes)
    }

    /// The curve of `protocol` ("Homa", "pFabric", "SRPT-Oracle") for a workload ("w1" to "w5");
    /// `None` if there is none.
    pub fn published(workload: &str, protocol: &str, load: PaperLoad) -> Option<Self> {
        let workload = workload.to_uppercase();
        let wanted = [workload.as_str(), protocol, load.label()];
        let points: Vec<CurvePoint> = CURVES
            .lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split(',').collect();
                (fields.len() == 9 && fields[..3] == wanted).then_some(fields)
            })
            .filter_map(|fields| {
                let number = |index: usize| fields[index].parse().unwrap_or(f64::NAN);
                Some(CurvePoint {
                    upper_bytes: fields[3].parse().ok()?,
                    count_pct: fields[4].parse().ok()?,
                    mean: number(6),
                    p50: number(7),
                    p99: number(8),
                })
            })
            .collect();
        (!points.is_empty()).then_some(Self(points))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_curves_are_there_and_complete() {
        for workload in ["w1", "w2", "w3", "w4", "w5"] {
            for protocol in ["Homa", "pFabric", "SRPT-Oracle"] {
                for load in [PaperLoad::Half, PaperLoad::Eighty] {
                    let Curve(points) = Curve::published(workload, protocol, load).unwrap();
                    let sum: f64 = points.iter().map(|point| point.count_pct).sum();
                    assert!((sum - 100.0).abs() < 0.2, "{workload} {protocol} {load:?}: {sum} %");
                    assert!(points.is_sorted_by_key(|point| point.upper_bytes));
                    // One bin of pFabric has no mean.
                    let slow = |p: &CurvePoint| {
                        p.p50 > 0.85 && p.p99 >= p.p50 && (p.mean > 0.9 || p.mean.is_nan())
                    };
                    assert!(points.iter().all(slow), "{workload} {protocol} {load:?}");
                }
            }
        }
        assert_eq!(Curve::published("w1", "NDP", PaperLoad::Half), None);
    }

    /// By chance one share in fifty would be so near to a multiple.
    #[test]
    fn the_published_shares_tell_the_number_of_messages() {
        for (load, messages) in [(PaperLoad::Eighty, 97_570.0), (PaperLoad::Half, 108_847.0)] {
            let Curve(points) = Curve::published("w5", "Homa", load).unwrap();
            let counts = points.iter().map(|point| point.count_pct * messages / 100.0);
            let off = counts.map(|count| (count - count.round()).abs()).fold(0.0, f64::max);
            assert!(off < 0.01, "{load:?}: {off}");
        }
    }

    #[test]
    fn receivers_have_as_many_messages_as_in_the_published_run() {
        let together = |name, load, ms: u64| {
            let workload = Workload::embedded(name).unwrap();
            Sigcomm18::receivers_together(&workload, load, ms * 1_000_000)
        };
        assert_eq!(together("w5", PaperLoad::Eighty, 1_900), Some(1));
        assert_eq!(together("w5", PaperLoad::Eighty, 400), Some(5));
        assert_eq!(together("w5", PaperLoad::Half, 1_694), Some(2));
        assert_eq!(together("w4", PaperLoad::Eighty, 250), Some(15));
        assert_eq!(together("w1", PaperLoad::Eighty, 5), None, "240 times 144 receivers' worth");
    }

    /// p99 of neighbouring bins of the published curves steps up at our cutoffs.
    #[test]
    fn cutoffs_lie_where_the_published_curves_step() {
        for (name, steps) in [("w1", vec![11, 126, 275, 481]), ("w3", vec![451, 2_499])] {
            let workload = Workload::embedded(name).unwrap();
            let count = Sigcomm18::published_levels(name);
            let cutoffs = crate::sim::levels(&workload, 8, count, 9_328, 1_442).cutoffs;
            for (level, step) in steps.into_iter().enumerate() {
                let cutoff = f64::from(cutoffs[7 - level]);
                assert!(
                    (cutoff / f64::from(step) - 1.0).abs() < 0.08,
                    "{name}: {cutoffs:?}, {step}"
                );
            }
        }
    }

    #[test]
    fn the_preset_is_valid_and_offers_the_published_rates() {
        let preset = Sigcomm18::default();
        assert_eq!(preset.config().validate(), Ok(()));
        for (name, gbps) in
            [("w1", 5.256), ("w2", 6.368), ("w3", 7.096), ("w4", 7.184), ("w5", 7.184)]
        {
            let workload = Workload::embedded(name).unwrap();
            let offered = Sigcomm18::payload_bps(&workload, 0.8) / 1e9;
            assert!((offered / gbps - 1.0).abs() < 0.002, "{name}: {offered}, not {gbps} Gbps");
        }
    }
}
