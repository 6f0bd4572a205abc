//! Many responses to one client at the same time.

use crate::load::workload::Workload;

use super::cluster::Cluster;
use super::config::{Exchange, SimConfig, SimError};

/// One host sends requests to all others at once, and again when all have been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incast {
    /// Requests at once, spread evenly over the other hosts.
    pub rpcs: u32,
    /// Bytes of a request.
    pub request_bytes: u32,
    /// Bytes of a response.
    pub response_bytes: u32,
    /// How often.
    pub rounds: u32,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct IncastOutcome {
    /// Response bytes over the time of all rounds, in bits per second.
    pub goodput_bps: f64,
    /// The longest round, in nanoseconds.
    pub round_max_ns: u64,
    /// Packets sent.
    pub packets: u64,
    /// Of these dropped by the switch.
    pub dropped: u64,
    /// Payload bytes sent again.
    pub resent_bytes: u64,
    /// Most bytes that waited at the port to the client.
    pub queued_bytes_max: u64,
    /// RPCs that ended with an error or not at all.
    pub failed: u64,
}

/// A round that has not ended by then never will.
const ROUND_MAX_NS: u64 = 10_000_000_000;

impl Incast {
    /// Runs it on the network of `config`.
    ///
    /// # Errors
    /// [`SimError`] says which setting is wrong.
    pub fn run(&self, config: &SimConfig) -> Result<IncastOutcome, SimError> {
        let mut config = config.clone();
        config.exchange = Exchange::Rpc(self.response_bytes);
        config.homa.rpcs_max = config.homa.rpcs_max.max(self.rpcs as usize);
        config.homa.control_packets_max = config.homa.control_packets_max.max(self.rpcs as usize);
        let workload = Workload::fixed(self.request_bytes).map_err(|_| SimError::Setting {
            name: "request_bytes",
            value: self.request_bytes.into(),
            low: 1,
            high: i32::MAX as u64,
        })?;
        let longest = self.request_bytes.max(self.response_bytes);
        if longest > config.homa.message_max_bytes {
            let (value, high) = (longest.into(), config.homa.message_max_bytes.into());
            let name = "bytes of a message (see homa.message_max_bytes)";
            return Err(SimError::Setting { name, value, low: 1, high });
        }
        let mut cluster = Cluster::<()>::new(&config, &workload, 1.0, ())?;
        let others = config.network.hosts() - 1;
        let (mut busy_ns, mut round_max_ns, mut done) = (0, 0, 0);
        for _ in 0..self.rounds {
            let start_ns = cluster.now_ns();
            let servers = (0..self.rpcs).map(|rpc| (1 + rpc % others) as u16);
            if !cluster.burst(0, servers, self.request_bytes, ROUND_MAX_NS) {
                break;
            }
            let took_ns = cluster.now_ns() - start_ns;
            busy_ns += took_ns;
            round_max_ns = round_max_ns.max(took_ns);
            done += u64::from(self.rpcs);
        }
        let (summary, metrics) = (cluster.summary(), cluster.metrics());
        let wanted = u64::from(self.rounds) * u64::from(self.rpcs);
        let failed = wanted - done + summary.failed + summary.refused;
        let bytes = (wanted - failed.min(wanted)) * u64::from(self.response_bytes);
        Ok(IncastOutcome {
            goodput_bps: bytes as f64 * 8e9 / busy_ns.max(1) as f64,
            round_max_ns,
            packets: summary.packets.sent,
            dropped: summary.packets.dropped,
            resent_bytes: metrics.bytes_resent,
            queued_bytes_max: summary.host_port_bytes_max,
            failed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::config::{Buffer, NetworkConfig};

    fn run(rpcs: u32, incast_rpcs_min: usize) -> IncastOutcome {
        let mut config = SimConfig {
            network: NetworkConfig { buffer: Buffer::PerPort(600_000), ..NetworkConfig::default() },
            ..SimConfig::default()
        };
        config.homa.incast_rpcs_min = incast_rpcs_min;
        Incast { rpcs, request_bytes: 100, response_bytes: 10_000, rounds: 2 }.run(&config).unwrap()
    }

    #[test]
    fn few_responses_fit_into_the_buffer() {
        let few = run(20, 0);
        assert_eq!((few.dropped, few.resent_bytes, few.failed), (0, 0, 0));
        assert!(few.goodput_bps > 15e9, "{few:?}");
    }

    #[test]
    fn incast_control_avoids_the_loss_that_many_responses_bring() {
        let (without, with) = (run(800, 0), run(800, 30));
        assert_eq!((without.failed, with.failed), (0, 0));
        assert!(without.dropped > 1_000, "{without:?}");
        assert_eq!(with.dropped, 0, "{with:?}");
        assert!(with.goodput_bps > 2.0 * without.goodput_bps, "{with:?} {without:?}");
        assert!(with.queued_bytes_max < 600_000);
    }
}
