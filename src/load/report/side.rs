//! What a run cost each of its sides.

use serde::{Deserialize, Serialize};

/// One core of a side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CoreReport {
    /// Where it stands: the number of the CPU, behind the name of the host if reports of several were
    /// merged.
    pub name: String,
    /// Time in which there was something to do.
    pub busy_ns: u64,
    /// The whole time that is looked at.
    pub total_ns: u64,
}

impl CoreReport {
    /// The part of the time in which there was something to do, from 0 to 1.
    pub fn busy_share(&self) -> f64 {
        self.busy_ns as f64 / self.total_ns.max(1) as f64
    }
}

/// What a run cost one side: the clients, or the servers. What is not known is 0 or empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SideReport {
    /// `client` or `server`.
    pub name: String,
    /// Its cores.
    pub cores: Vec<CoreReport>,
    /// RPCs that were completed, or answered, in the time that the cores were looked at.
    pub rpcs: u64,
    /// Cycles of the time stamp counter in the time in which there was something to do; it runs at a
    /// constant rate, near the CPU's nominal one.
    pub busy_cycles: u64,
    /// Packets of each kind: sent and received.
    pub resends: (u64, u64),
    /// See `resends`.
    pub grants: (u64, u64),
    /// See `resends`.
    pub busys: (u64, u64),
    /// Payload that was sent again.
    pub bytes_resent: u64,
    /// Payload sent at each priority, the lowest first.
    pub sent_bytes_by_priority: Vec<u64>,
    /// The most packet buffers that messages held, in samples taken every few ms; of several cores, the
    /// sum of theirs.
    pub retained_packets_peak: u64,
}

impl SideReport {
    /// Cycles per RPC; absent if either is not known.
    pub fn cycles_per_rpc(&self) -> Option<f64> {
        (self.rpcs > 0 && self.busy_cycles > 0).then(|| self.busy_cycles as f64 / self.rpcs as f64)
    }

    /// Priorities that carried payload.
    pub fn priorities_used(&self) -> usize {
        self.sent_bytes_by_priority.iter().filter(|bytes| **bytes > 0).count()
    }

    /// Adds another part of the same side.
    pub fn add(&mut self, other: &Self) {
        self.cores.extend(other.cores.iter().cloned());
        self.rpcs += other.rpcs;
        self.busy_cycles += other.busy_cycles;
        for (mine, theirs) in [
            (&mut self.resends, other.resends),
            (&mut self.grants, other.grants),
            (&mut self.busys, other.busys),
        ] {
            mine.0 += theirs.0;
            mine.1 += theirs.1;
        }
        self.bytes_resent += other.bytes_resent;
        let priorities = self.sent_bytes_by_priority.len().max(other.sent_bytes_by_priority.len());
        self.sent_bytes_by_priority.resize(priorities, 0);
        for (mine, theirs) in
            self.sent_bytes_by_priority.iter_mut().zip(&other.sent_bytes_by_priority)
        {
            *mine += theirs;
        }
        self.retained_packets_peak += other.retained_packets_peak;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up() {
        let core = |name: &str| CoreReport { name: name.to_owned(), busy_ns: 25, total_ns: 100 };
        let mut one = SideReport {
            name: "client".to_owned(),
            cores: vec![core("0")],
            rpcs: 10,
            busy_cycles: 5_000,
            resends: (1, 2),
            sent_bytes_by_priority: vec![0, 7],
            ..SideReport::default()
        };
        let two = SideReport {
            cores: vec![core("1")],
            rpcs: 30,
            busy_cycles: 5_000,
            resends: (10, 20),
            sent_bytes_by_priority: vec![0, 0, 5],
            retained_packets_peak: 9,
            ..one.clone()
        };
        assert_eq!((one.cores[0].busy_share(), one.cycles_per_rpc()), (0.25, Some(500.0)));
        one.add(&two);
        assert_eq!((one.cores.len(), one.cycles_per_rpc()), (2, Some(250.0)));
        assert_eq!((one.resends, one.priorities_used()), ((11, 22), 2));
        assert_eq!((one.sent_bytes_by_priority, one.retained_packets_peak), (vec![0, 7, 5], 9));
        assert_eq!(SideReport::default().cycles_per_rpc(), None);
    }
}
