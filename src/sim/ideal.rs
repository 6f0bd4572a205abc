//! The time a message would take alone on the network, as the simulations of the Homa paper count it.

use super::config::{HostConfig, NetworkConfig};
use super::events::Picos;
use super::fabric::{PS_PER_NS, ps_per_byte};

/// Payload bytes of a full frame without Homa header.
const FULL_BYTES: u64 = 1_472;
/// A full frame on the wire.
const FULL_FRAME_BYTES: u64 = 1_538;
/// Preamble, Ethernet, IP and UDP header, CRC and gap, as those simulations add them to the last frame.
const LAST_OVERHEAD_BYTES: u64 = 66;
const FRAME_BYTES_MIN: u64 = 84;

/// One-way times on an idle store-and-forward network, frames without Homa header (SIGCOMM 2018).
#[derive(Clone, Debug)]
pub(crate) struct Ideal {
    host_ps_per_byte: u64,
    core_ps_per_byte: u64,
    intra_fixed_ps: Picos,
    inter_fixed_ps: Picos,
}

impl Ideal {
    /// With `slip`, the switch within a rack takes no time, as in the published simulations.
    pub(crate) fn new(network: &NetworkConfig, host: &HostConfig, slip: bool) -> Self {
        let ends_ns = host.tx_delay_ns + host.rx_delay_ns;
        let one_switch_ns = if slip { 0 } else { network.switch_ns };
        let intra_ns = ends_ns + one_switch_ns + 2 * network.propagation_ns;
        let inter_ns = ends_ns + 3 * network.switch_ns + 4 * network.propagation_ns;
        Self {
            host_ps_per_byte: ps_per_byte(network.host_bps),
            core_ps_per_byte: ps_per_byte(network.core_bps),
            intra_fixed_ps: intra_ns * PS_PER_NS,
            inter_fixed_ps: inter_ns * PS_PER_NS,
        }
    }

    pub(crate) fn time_ps(&self, size_bytes: u32, intra_rack: bool) -> Picos {
        let (full, rest) = (u64::from(size_bytes) / FULL_BYTES, u64::from(size_bytes) % FULL_BYTES);
        let last = if rest > 0 { (rest + LAST_OVERHEAD_BYTES).max(FRAME_BYTES_MIN) } else { 0 };
        let first = if full > 0 { FULL_FRAME_BYTES } else { last };
        let host_ps = (full * FULL_FRAME_BYTES + last + first) * self.host_ps_per_byte;
        if intra_rack {
            self.intra_fixed_ps + host_ps
        } else {
            self.inter_fixed_ps + host_ps + 2 * first * self.core_ps_per_byte
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::slowdown::{Path, paper_ideal_us};
    use crate::sim::Sigcomm18;

    /// Inter-rack and intra-rack times that the published simulations are known to give, in us.
    #[test]
    fn the_preset_has_the_ideal_times_of_the_paper() {
        let config = Sigcomm18::default().config();
        let ideal = Ideal::new(&config.network, &config.host, config.intra_rack_slip);
        for (size, inter_us, intra_us) in [
            (1, 2.418, 1.634),
            (100, 2.582, 1.766),
            (1_000, 4.382, 3.206),
            (10_000, 12.465, 11.100),
            (1_000_000, 840.0, 838.6),
            (10_000_000, 8_362.8, 8_361.5),
        ] {
            for (intra, us) in [(false, inter_us), (true, intra_us)] {
                let time_us = ideal.time_ps(size, intra) as f64 / 1e6;
                let tolerance = if us < 100.0 { 0.0006 } else { 0.06 };
                assert!((time_us - us).abs() < tolerance, "{size} B, {intra}: {time_us}, not {us}");
            }
        }
        for size in [1, 18, 19, 1_471, 1_472, 1_473, 2_944, 28_840_000] {
            for (intra, path) in [(true, Path::IntraRack), (false, Path::InterRack)] {
                let time_us = ideal.time_ps(size, intra) as f64 / 1e6;
                assert!((time_us - paper_ideal_us(size, path)).abs() < 1e-6, "{size} B {path:?}");
            }
        }
    }
}
