//! A simulated run as the load generator reports a real one.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::load::arrival::{Arrival, Load};
use crate::load::classes::SizeClasses;
use crate::load::generator::{End, Failure, GeneratorConfig, Sample, Totals, Traffic as Carried};
use crate::load::quantity::Rate;
use crate::load::recorder::{Recorder, RecorderConfig};
use crate::load::report::{Machine, Report, RunConfig, SideReport};
use crate::load::response::ResponseKind;
use crate::load::slowdown::{BestCase, IdleTimes, idle_sizes};
use crate::load::workload::Workload;
use crate::time::Nanos;
use crate::transport::{Metrics, RpcError};
use crate::wire::PacketType;

use super::cluster::{Summary, Traffic};
use super::config::{Exchange, Framing, SimConfig};
use super::ideal::Ideal;
use super::observe::{Exchanged, Observer};

/// Windows of the measured time.
const WINDOWS: u64 = 200;

/// Records what the generators of all hosts together would, while it watches a run.
#[derive(Clone, Debug)]
pub struct RunRecord {
    config: SimConfig,
    traffic: Traffic,
    generator: GeneratorConfig,
    recorder: Recorder,
    totals: Totals,
    outstanding: u64,
}

impl RunRecord {
    /// Of a cluster with `config` that offers `payload_bps` bits per second of `workload` per sending
    /// host.
    pub fn new(
        config: &SimConfig,
        workload: &Workload,
        payload_bps: f64,
        traffic: &Traffic,
    ) -> Self {
        let time = &config.time;
        let (warm_up, measured) = (Nanos(time.warm_up_ns), Nanos(time.measure_ns));
        let classes = if workload.is_fixed() {
            SizeClasses::powers_of_two(workload.min_bytes(), workload.max_bytes())
        } else {
            SizeClasses::deciles(workload)
        };
        let best = best_case(config, workload, traffic);
        let recorder = RecorderConfig {
            window: Nanos((measured.0 / WINDOWS).max(1)),
            windows_max: WINDOWS as usize,
            ..RecorderConfig::new(classes, best, warm_up, measured)
        };
        let generator = GeneratorConfig {
            workload: Arc::new(workload.clone()),
            load: Load::Open {
                rate: Rate::Bps(payload_bps),
                arrival: Arrival::Poisson,
                outstanding_max: config.homa.rpcs_max as u32,
            },
            start: Nanos::ZERO,
            warm_up,
            end: End::After(measured),
            drain: Nanos(time.drain_max_ns),
            destinations: config.network.hosts() - 1,
        };
        let totals =
            Totals { measured_from: warm_up, measured_to: warm_up + measured, ..Totals::default() };
        Self {
            config: config.clone(),
            traffic: traffic.clone(),
            generator,
            recorder: Recorder::new(recorder),
            totals,
            outstanding: 0,
        }
    }

    /// The report; `summary` and `metrics` are those of the cluster at the end.
    pub fn report(mut self, summary: &Summary, metrics: &Metrics) -> Report {
        let network = &self.config.network;
        self.recorder.finish(self.totals.measured_to);
        let ended = self.totals.completed + self.totals.corrupted + self.totals.failures();
        self.totals.lost = self.totals.sent.saturating_sub(ended);
        let shards = network.hosts() * self.config.host.shards;
        let mut run = RunConfig::new(&self.generator, shards, self.config.seed);
        run.title = format!("homa-sim run: {} simulated hosts", network.hosts());
        run.load = format!("each host that sends: {}", run.load);
        run.port = match network.racks {
            1 => format!("simulated: one switch, {} Gbps", gbps(network.host_bps)),
            racks => format!(
                "simulated: {racks} racks, {} Gbps; {} spines, {} Gbps",
                gbps(network.host_bps),
                network.spines,
                gbps(network.core_bps)
            ),
        };
        run.parameters.extend(self.parameters());
        let machine = Machine {
            cpu: "simulated".to_owned(),
            cores: network.hosts() as usize,
            kernel: String::new(),
        };
        let mut counters: BTreeMap<String, u64> =
            metrics.iter().map(|(name, count)| (name.to_owned(), count)).collect();
        counters.insert("net_packets_dropped".to_owned(), summary.packets.dropped);
        counters.insert("net_packet_hops".to_owned(), summary.packets.hops);
        counters.insert("net_host_port_bytes_max".to_owned(), summary.host_port_bytes_max);
        counters.retain(|_, count| *count > 0);
        let report = Report::new(run, machine, &self.totals, &self.recorder, counters);
        Report { sides: vec![side(metrics, self.totals.traffic.completed)], ..report }
    }

    fn parameters(&self) -> BTreeMap<String, String> {
        let (network, traffic) = (&self.config.network, &self.traffic);
        let response = match (&traffic.response, self.config.exchange) {
            (_, Exchange::OneWay) => {
                "none: messages go one way, and times are one-way times".to_owned()
            }
            (Some(kind), _) => kind.to_string(),
            (None, Exchange::Rpc(0)) => ResponseKind::Echo.to_string(),
            (None, Exchange::Rpc(bytes)) => format!("{bytes} B"),
        };
        let headers = match network.framing {
            Framing::Paper => "as in the Homa paper",
            Framing::Linux => "of Homa on IPv4",
        };
        [
            ("hosts", network.hosts().to_string()),
            ("pattern", traffic.pattern.to_string()),
            ("response", response),
            ("headers", headers.to_owned()),
            ("switches", network.buffer.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn note_outstanding(&mut self) {
        self.totals.outstanding_peak = self.totals.outstanding_peak.max(self.outstanding);
        self.recorder.note_outstanding(self.outstanding as u32);
    }
}

impl Observer for RunRecord {
    fn started(&mut self, _at_ns: u64, measured: bool) {
        self.outstanding += 1;
        if measured {
            self.totals.sent += 1;
        } else {
            self.totals.warm_up_sent += 1;
        }
        self.note_outstanding();
    }

    fn refused(&mut self, _at_ns: u64, measured: bool) {
        self.totals.refused += 1;
        self.totals.never_sent += u64::from(measured);
    }

    fn over(&mut self, exchange: &Exchanged) {
        let &Exchanged { at_ns, started_ns, request_bytes, response_bytes, measured, result } =
            exchange;
        self.outstanding = self.outstanding.saturating_sub(1);
        self.note_outstanding();
        let totals = &mut self.totals;
        match result {
            Ok(true) => {
                let done = Nanos(at_ns);
                if (totals.measured_from..totals.measured_to).contains(&done) {
                    totals.traffic.merge(Carried {
                        completed: 1,
                        request_bytes: request_bytes.into(),
                        response_bytes: response_bytes.into(),
                    });
                }
                totals.completed += u64::from(measured);
                let planned = Nanos(started_ns);
                self.recorder.record(&Sample {
                    request_bytes,
                    response_bytes,
                    planned,
                    sent: planned,
                    done,
                    measured,
                });
            }
            Ok(false) => totals.corrupted += u64::from(measured),
            Err(error) if measured => totals.failed[kind(error)] += 1,
            Err(_) => {}
        }
    }
}

/// What RPCs take alone on the network, from rack to rack if there are several.
fn best_case(config: &SimConfig, workload: &Workload, traffic: &Traffic) -> BestCase {
    let ideal = Ideal::new(&config.network, &config.host, config.intra_rack_slip);
    let intra_rack = config.network.racks == 1;
    let way = |bytes: u32| ideal.time_ps(bytes, intra_rack) as f64 / 1e3;
    let point = |size: u32| {
        let response = match (&traffic.response, config.exchange) {
            (_, Exchange::OneWay) => 0.0,
            (Some(kind), _) => {
                let fixed = Workload::fixed(size).ok();
                fixed.map_or(0.0, |size| kind.mean_of(&size, way))
            }
            (None, Exchange::Rpc(0)) => way(size),
            (None, Exchange::Rpc(bytes)) => way(bytes),
        };
        (size, way(size) + response)
    };
    let times = IdleTimes::new(idle_sizes(workload).into_iter().map(point).collect());
    times.map_or(BestCase::LeastSeen, BestCase::Idle)
}

fn side(metrics: &Metrics, rpcs: u64) -> SideReport {
    let both = |kind: PacketType| {
        let at = kind as usize - PacketType::Data as usize;
        (metrics.sent[at], metrics.received[at])
    };
    SideReport {
        name: "all hosts".to_owned(),
        rpcs,
        resends: both(PacketType::Resend),
        grants: both(PacketType::Grant),
        busys: both(PacketType::Busy),
        bytes_resent: metrics.bytes_resent,
        sent_bytes_by_priority: metrics.sent_bytes_by_priority.to_vec(),
        ..SideReport::default()
    }
}

/// The place of an error among the failures.
fn kind(error: RpcError) -> usize {
    let failure = match error {
        RpcError::Timeout => Failure::Timeout,
        RpcError::HostUnreachable | RpcError::PortUnreachable | RpcError::ProtocolUnreachable => {
            Failure::Unreachable
        }
        RpcError::PortClosed | RpcError::Aborted => Failure::Aborted,
        _ => Failure::Other,
    };
    Failure::ALL.iter().position(|known| *known == failure).unwrap_or(Failure::ALL.len() - 1)
}

fn gbps(bps: u64) -> f64 {
    bps as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::pattern::TrafficPattern;
    use crate::sim::{Cluster, NetworkConfig};

    fn cluster() -> SimConfig {
        let mut config = SimConfig {
            network: NetworkConfig { hosts_per_rack: 4, ..NetworkConfig::default() },
            ..SimConfig::default()
        };
        (config.time.warm_up_ns, config.time.measure_ns) = (100_000, 2_000_000);
        config
    }

    fn run(traffic: &Traffic, bps: f64) -> Report {
        let (config, workload) = (cluster(), Workload::embedded("w2").unwrap());
        let record = RunRecord::new(&config, &workload, bps, traffic);
        let mut cluster = Cluster::<(), _>::new(&config, &workload, bps, record).unwrap();
        cluster.set_traffic(traffic).unwrap();
        cluster.run();
        assert!(cluster.settle(50_000_000), "everything is answered");
        let (summary, metrics) = (cluster.summary(), cluster.metrics());
        cluster.into_observer().report(&summary, &metrics)
    }

    #[test]
    fn every_rpc_is_accounted_for() {
        let report = run(&Traffic::default(), 2e9);
        let totals = &report.totals;
        assert!(totals.sent > 3_000, "{totals:?}");
        assert_eq!((totals.completed, totals.lost, totals.corrupted), (totals.sent, 0, 0));
        assert_eq!(report.latency.count, totals.sent);
        // Four hosts at 2 Gbps; echoes are as long.
        let offered = 4.0 * 2e9;
        assert!((report.rates.request_bps / offered - 1.0).abs() < 0.25, "{:?}", report.rates);
        assert_eq!(report.rates.request_bps, report.rates.response_bps);
        assert_eq!(report.windows.krps_and_median_ns.len(), 200);
        assert!(report.windows.outstanding.iter().any(|&count| count > 0));
        let slowdown = report.by_size[0].slowdown_p50.unwrap();
        assert!((0.9..3.0).contains(&slowdown), "short messages on a quiet network: {slowdown}");
        assert_eq!(report.config.parameters["response"], "echo");
        assert_eq!(Report::from_json(&report.to_json().unwrap()).unwrap(), report);
    }

    #[test]
    fn patterns_and_responses_are_followed() {
        let traffic = Traffic {
            pattern: TrafficPattern::Incast(Some(2)),
            response: Some(ResponseKind::Short),
        };
        let report = run(&traffic, 4e9);
        let per_rpc = report.rates.response_bps / report.rates.rps / 8.0;
        assert!((per_rpc - 100.0).abs() < 1e-6, "{per_rpc} bytes");
        // Two hosts of four send.
        assert!((report.rates.request_bps / 8e9 - 1.0).abs() < 0.25, "{:?}", report.rates);
        assert_eq!(report.config.parameters["pattern"], "incast:2");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mut config = cluster();
        let workload = Workload::embedded("w2").unwrap();
        let error = |config: &SimConfig, traffic: &Traffic| {
            let mut cluster = Cluster::<()>::new(config, &workload, 1e9, ()).unwrap();
            cluster.set_traffic(traffic).unwrap_err().to_string()
        };
        let wide = Traffic { pattern: TrafficPattern::Incast(Some(9)), response: None };
        assert_eq!(error(&config, &wide), "pattern: 4 hosts, and the pattern needs 10");
        config.exchange = Exchange::OneWay;
        let answered = Traffic { response: Some(ResponseKind::Echo), ..Traffic::default() };
        assert!(error(&config, &answered).starts_with("exchange one-way has no responses"));
    }
}
