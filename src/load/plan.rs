//! What to expect of a run before it is made.

use serde::{Deserialize, Serialize};

use super::arrival::Load;
use super::generator::{End, GeneratorConfig};
use super::quantity::{show_bytes, show_count, show_digits, show_ns, show_scaled};
use super::response::{ResponseKind, ServiceTime};
use super::slowdown::IdleTimes;
use super::table::{Style, field};
use super::wire_cost::WireCost;

/// Messages of one direction, as far as they are DATA: grants, acks and what is sent again are not
/// known ahead.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DirectionPlan {
    /// Mean length of a message.
    pub message_mean_bytes: f64,
    /// Mean length on the wire, with all headers and the gaps between frames.
    pub message_wire_mean_bytes: f64,
    /// Mean number of packets.
    pub message_mean_packets: f64,
    /// The part of the wire that is not payload, from 0 to 1.
    pub overhead_share: f64,
    /// Payload per second; absent when the rate is not known.
    pub payload_bps: Option<f64>,
    /// The same on the wire.
    pub wire_bps: Option<f64>,
    /// Packets per second.
    pub packets_per_s: Option<f64>,
}

impl DirectionPlan {
    fn new(rps: Option<f64>, mean_of: impl Fn(&dyn Fn(u32) -> f64) -> f64, cost: WireCost) -> Self {
        let payload = mean_of(&f64::from);
        let wire = mean_of(&|size| cost.bytes(size) as f64);
        let packets = mean_of(&|size| f64::from(cost.packets(size)));
        Self {
            message_mean_bytes: payload,
            message_wire_mean_bytes: wire,
            message_mean_packets: packets,
            overhead_share: 1.0 - payload / wire,
            payload_bps: rps.map(|rps| rps * payload * 8.0),
            wire_bps: rps.map(|rps| rps * wire * 8.0),
            packets_per_s: rps.map(|rps| rps * packets),
        }
    }
}

/// What to expect of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Sizes of the requests.
    pub workload: String,
    /// Closed or open loop, and how much.
    pub load: String,
    /// What servers answer with.
    pub response: String,
    /// Servers, or groups of ports, that the load is spread over.
    pub destinations: u32,
    /// RPCs per second. Those of a closed loop are known only with a baseline, and are then the most
    /// that can come.
    pub rps: Option<f64>,
    /// Whether `rps` is a limit and not what will come.
    pub rps_is_limit: bool,
    /// RPCs in the measured time, if they are known.
    pub rpcs: Option<u64>,
    /// Length of the whole run without the wait for the last responses, if it is known.
    pub duration_ns: Option<u64>,
    /// From client to server.
    pub request: DirectionPlan,
    /// From server to client.
    pub response_direction: DirectionPlan,
    /// Mean time of an RPC on an idle system with the service time, from a baseline.
    pub rpc_idle_mean_ns: Option<f64>,
    /// RPCs outstanding on average if times are those of an idle system (Little's law), or always in a
    /// closed loop.
    pub outstanding: Option<f64>,
    /// Speed of the link, if it was given.
    pub link_bps: Option<f64>,
}

/// What a [`Plan`] is made for, besides the load itself.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Cost of packets.
    pub cost: WireCost,
    /// What servers answer with.
    pub response: ResponseKind,
    /// How long they take for it.
    pub service_time: ServiceTime,
    /// Times of an idle system.
    pub idle: Option<IdleTimes>,
    /// Speed of the link in bits per second.
    pub link_bps: Option<f64>,
}

impl Plan {
    /// What to expect of all senders of `config` together.
    pub fn new(config: &GeneratorConfig, around: &Surroundings) -> Self {
        let workload = &config.workload;
        let idle = around.idle.as_ref().map(|idle| {
            workload.mean_of(|size| idle.at(size)) + around.service_time.mean().0 as f64
        });
        let (rps, outstanding, rps_is_limit) = match config.load {
            Load::Open { rate, .. } => {
                let rps = rate.rps(workload.mean_bytes());
                (Some(rps), idle.map(|idle_ns| rps * idle_ns / 1e9), false)
            }
            Load::Closed { outstanding } => {
                let outstanding = f64::from(outstanding);
                (idle.map(|idle_ns| outstanding * 1e9 / idle_ns), Some(outstanding), true)
            }
        };
        let measured_s = match (config.end, rps) {
            (End::After(time), _) => Some(time.0 as f64 / 1e9),
            (End::Rpcs(rpcs), Some(rps)) => Some(rpcs as f64 / rps),
            (End::Rpcs(_), None) => None,
        };
        let rpcs = match config.end {
            End::After(time) => rps.map(|rps| (rps * time.0 as f64 / 1e9).round() as u64),
            End::Rpcs(rpcs) => Some(rpcs),
        };
        let response = &around.response;
        Self {
            workload: workload.to_string(),
            load: config.load.to_string(),
            response: response.to_string(),
            destinations: config.destinations,
            rps,
            rps_is_limit,
            rpcs,
            duration_ns: measured_s.map(|s| (s * 1e9) as u64 + config.warm_up.0),
            request: DirectionPlan::new(rps, |f| workload.mean_of(f), around.cost),
            response_direction: DirectionPlan::new(
                rps,
                |f| response.mean_of(workload, f),
                around.cost,
            ),
            rpc_idle_mean_ns: idle,
            outstanding,
            link_bps: around.link_bps,
        }
    }

    /// The plan as text for a terminal.
    pub fn render(&self, style: Style) -> String {
        let mut text = format!("{}  nothing is sent\n", style.title("homa-load dry run"));
        let mut line = |label: &str, value: &str| text += &field(style, label, value);
        line("workload", &self.workload);
        line("load", &self.load);
        line("response", &self.response);
        line("to", &format!("{} destination(s)", self.destinations));
        let at_most = if self.rps_is_limit { "at most " } else { "" };
        line(
            "rate",
            &self.rps.map_or_else(
                || {
                    "unknown: a closed loop sends as fast as it is answered; --baseline FILE tells \
                    how fast that is at best"
                        .to_owned()
                },
                |rps| format!("{at_most}{}RPC/s", show_scaled(rps)),
            ),
        );
        if let (Some(rpcs), Some(ns)) = (self.rpcs, self.duration_ns) {
            let count = show_count(rpcs);
            line("run", &format!("{at_most}{count} RPCs measured, {} in all", show_ns(ns as f64)));
        }
        line("requests", &direction(&self.request, self.link_bps));
        line("responses", &direction(&self.response_direction, self.link_bps));
        if let Some(ns) = self.rpc_idle_mean_ns {
            line("RPC time", &format!("{} on average when idle", show_ns(ns)));
        }
        if let Some(outstanding) = self.outstanding {
            line("under way", &format!("{} on average at best", show_digits(outstanding)));
        }
        text
    }
}

fn direction(plan: &DirectionPlan, link_bps: Option<f64>) -> String {
    let packets = plan.message_mean_packets;
    let mut text = format!(
        "mean {} in {} packet{}, {} on the wire, {:.1}% of it overhead",
        show_bytes(plan.message_mean_bytes),
        show_digits(packets),
        if packets == 1.0 { "" } else { "s" },
        show_bytes(plan.message_wire_mean_bytes),
        plan.overhead_share * 100.0
    );
    if let (Some(payload), Some(wire), Some(packets)) =
        (plan.payload_bps, plan.wire_bps, plan.packets_per_s)
    {
        text += &format!(
            "; {}bps of payload, {}bps on the wire, {}packets/s",
            show_scaled(payload),
            show_scaled(wire),
            show_scaled(packets)
        );
        if let Some(link) = link_bps {
            let share = wire / link;
            text += &format!(", {:.1}% of the link", share * 100.0);
            if share >= 1.0 {
                text += ": MORE THAN IT CARRIES";
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use super::*;
    use crate::load::arrival::Arrival;
    use crate::load::quantity::Rate;
    use crate::load::workload::Workload;
    use crate::time::Nanos;

    fn config(load: Load) -> GeneratorConfig {
        GeneratorConfig {
            workload: Arc::new(Workload::from_csv("t", "100,0.5\n2000,1").unwrap()),
            load,
            start: Nanos::ZERO,
            warm_up: Nanos::from_ms(500),
            end: End::After(Nanos::from_secs(2)),
            drain: Nanos::ZERO,
            destinations: 3,
        }
    }

    fn around(idle: bool) -> Surroundings {
        Surroundings {
            cost: WireCost::new(1500, IpAddr::V4(Ipv4Addr::LOCALHOST)),
            response: ResponseKind::Short,
            service_time: ServiceTime::Constant(Nanos::from_us(10)),
            idle: idle.then(|| IdleTimes::new(vec![(100, 5e3), (2_000, 15e3)]).unwrap()),
            link_bps: Some(1e9),
        }
    }

    const OPEN: Load =
        Load::Open { rate: Rate::Rps(50_000.0), arrival: Arrival::Poisson, outstanding_max: 1_000 };

    #[test]
    fn rates_follow_from_the_means() {
        let plan = Plan::new(&config(OPEN), &around(true));
        // Half the requests are of 100 B and one packet, half of 2000 B and two.
        let request = plan.request;
        assert_eq!((request.message_mean_bytes, request.message_mean_packets), (1_050.0, 1.5));
        assert_eq!(request.message_wire_mean_bytes, 1_050.0 + 1.5 * 118.0);
        assert_eq!(request.payload_bps, Some(420e6));
        assert_eq!(request.packets_per_s, Some(75_000.0));
        assert_eq!(plan.response_direction.wire_bps, Some(50_000.0 * 218.0 * 8.0));
        // 10 us when idle and 10 us of service.
        assert_eq!((plan.rpc_idle_mean_ns, plan.outstanding), (Some(20e3), Some(1.0)));
        assert_eq!((plan.rpcs, plan.duration_ns), (Some(100_000), Some(2_500_000_000)));
    }

    #[test]
    fn a_closed_loop_needs_a_baseline() {
        let closed = Load::Closed { outstanding: 8 };
        let plan = Plan::new(&config(closed), &around(false));
        assert_eq!((plan.rps, plan.request.wire_bps, plan.rpcs), (None, None, None));
        assert!(plan.render(Style::PLAIN).contains("unknown: a closed loop"));
        let plan = Plan::new(&config(closed), &around(true));
        assert_eq!((plan.rps, plan.rps_is_limit), (Some(400e3), true));
        let counted = GeneratorConfig { end: End::Rpcs(400), ..config(closed) };
        assert_eq!(Plan::new(&counted, &around(true)).duration_ns, Some(501_000_000));
    }

    #[test]
    fn the_text_is_this() {
        let text = Plan::new(&config(OPEN), &around(true)).render(Style::PLAIN);
        assert_eq!(
            text,
            "homa-load dry run  nothing is sent
  workload   t
  load       open loop, Poisson at 50.0 kRPC/s, at most 1000 outstanding
  response   short
  to         3 destination(s)
  rate       50.0 kRPC/s
  run        100,000 RPCs measured, 2.50 s in all
  requests   mean 1,050 B in 1.50 packets, 1,227 B on the wire, 14.4% of it overhead; 420 Mbps of
             payload, 491 Mbps on the wire, 75.0 kpackets/s, 49.1% of the link
  responses  mean 100 B in 1.00 packet, 218 B on the wire, 54.1% of it overhead; 40.0 Mbps of
             payload, 87.2 Mbps on the wire, 50.0 kpackets/s, 8.7% of the link
  RPC time   20.0 us on average when idle
  under way  1.00 on average at best
"
        );
        let slow = Surroundings { link_bps: Some(100e6), ..around(true) };
        let text = Plan::new(&config(OPEN), &slow).render(Style::PLAIN);
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(words.join(" ").contains("490.8% of the link: MORE THAN IT CARRIES"), "{text}");
    }
}
