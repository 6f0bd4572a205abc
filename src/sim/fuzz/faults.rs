//! What goes wrong: in the network, in hosts, in applications.

use core::fmt;

use crate::wire::{Body, MAX_HEADER_LEN, Packet, PacketType};

use super::dice::Dice;
use super::plan::Plan;

/// One fault and when it is in force.
#[derive(Clone, Copy, Debug)]
pub(super) struct FaultPlan {
    pub(super) fault: Fault,
    pub(super) from_ns: u64,
    pub(super) until_ns: u64,
}

/// Which packets a fault of the network meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) src: Option<u16>,
    pub(super) dst: Option<u16>,
}

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Packets are lost at random; with `only`, those of one type.
    Loss { link: Link, permille: u64, only: Option<PacketType> },
    /// All packets are lost for the first part of each period.
    Bursts { link: Link, period_ns: u64, lost_ns: u64 },
    /// Packets come again, up to so much later.
    Duplicate { link: Link, permille: u64, late_ns: u64 },
    /// Packets are delayed, each by another time, so that they overtake each other.
    Reorder { link: Link, permille: u64, late_ns: u64 },
    /// All packets take longer.
    Spike { link: Link, extra_ns: u64 },
    /// Bits of headers change, or packets come shortened.
    Corrupt { link: Link, permille: u64 },
    /// Nothing passes between the hosts of this set and the others.
    Partition { set: u64 },
    /// The host is gone, and comes back at the end with the same address and no memory.
    Crash { host: u16 },
    /// The process of the host does not run. Packets wait for it, as far as there is room.
    Stall { host: u16 },
    /// The application does not look at what has come, and drops nothing.
    Stuck { host: u16 },
    /// The served port is closed, and opened again at the end.
    PortClosed { host: u16 },
}

/// What becomes of a packet.
#[derive(Debug, Default)]
pub(super) struct Fate {
    pub(super) lost: bool,
    pub(super) corrupt: bool,
    pub(super) delay_ns: u64,
    /// A second copy comes so much later.
    pub(super) again_ns: Option<u64>,
}

impl Link {
    fn draw(dice: &mut Dice, hosts: u64) -> Self {
        let mut end = || dice.chance(300).then(|| dice.below(hosts) as u16);
        Self { src: end(), dst: end() }
    }

    fn matches(self, src: u16, dst: u16) -> bool {
        self.src.is_none_or(|host| host == src) && self.dst.is_none_or(|host| host == dst)
    }
}

impl FaultPlan {
    /// A random fault of a run. Those of calm runs are over before anybody could give up.
    pub(super) fn draw(dice: &mut Dice, plan: &Plan, timeout_ns: u64) -> Self {
        let hosts = plan.hosts.len() as u64;
        let link = Link::draw(dice, hosts);
        let host = dice.below(hosts) as u16;
        let end_ns = plan.faults_end_ns;
        let from_ns = dice.below(end_ns);
        let lasts = dice.flag();
        let for_ns = if lasts { end_ns - from_ns } else { dice.magnitude(end_ns - from_ns) };
        let permille = dice.one_of(&[10, 100, 300]);
        let fault = if plan.is_calm {
            match dice.below(2) {
                0 => Fault::Duplicate { link, permille, late_ns: timeout_ns / 4 },
                _ => Fault::Reorder { link, permille, late_ns: 50_000 },
            }
        } else {
            match dice.below(13) {
                0 => Fault::Loss { link, permille, only: None },
                1 | 2 => Fault::Loss { link, permille, only: Some(dice.one_of(&PacketType::ALL)) },
                3 => {
                    let period_ns = dice.magnitude(timeout_ns).max(10);
                    Fault::Bursts { link, period_ns, lost_ns: dice.magnitude(period_ns) }
                }
                4 | 5 => Fault::Duplicate { link, permille, late_ns: dice.magnitude(timeout_ns) },
                6 => Fault::Reorder { link, permille, late_ns: dice.magnitude(timeout_ns / 4) },
                7 => Fault::Spike { link, extra_ns: dice.magnitude(timeout_ns / 2) },
                8 => Fault::Corrupt { link, permille },
                9 => Fault::Partition { set: dice.any() },
                10 => Fault::Crash { host },
                11 => Fault::Stall { host },
                _ if dice.flag() => Fault::Stuck { host },
                _ => Fault::PortClosed { host },
            }
        };
        Self { fault, from_ns, until_ns: from_ns + for_ns }
    }

    /// A fault that shows what this one does: packets from before a host was away come again after it.
    pub(super) fn companion(&self, dice: &mut Dice, plan: &Plan, timeout_ns: u64) -> Option<Self> {
        let (Fault::Stall { host } | Fault::Crash { host }) = self.fault else { return None };
        if dice.flag() {
            return None;
        }
        let link = Link { src: None, dst: dice.flag().then_some(host) };
        Some(Self {
            fault: Fault::Duplicate { link, permille: 500, late_ns: timeout_ns },
            from_ns: self.from_ns.saturating_sub(timeout_ns),
            until_ns: self.until_ns.min(plan.faults_end_ns),
        })
    }
}

impl Fault {
    /// Whether it is about this host.
    pub(super) fn names(&self, host: u16) -> bool {
        match *self {
            Self::Crash { host: of }
            | Self::Stall { host: of }
            | Self::Stuck { host: of }
            | Self::PortClosed { host: of } => of == host,
            Self::Partition { .. } => false,
            Self::Loss { link, .. }
            | Self::Bursts { link, .. }
            | Self::Duplicate { link, .. }
            | Self::Reorder { link, .. }
            | Self::Spike { link, .. }
            | Self::Corrupt { link, .. } => link.src == Some(host) || link.dst == Some(host),
        }
    }

    /// Adapts to a cluster from which a host was taken that it does not name.
    pub(super) fn renumber_without(&mut self, gone: u16) {
        let lower = |host: &mut u16| *host -= u16::from(*host > gone);
        match self {
            Self::Crash { host }
            | Self::Stall { host }
            | Self::Stuck { host }
            | Self::PortClosed { host } => lower(host),
            Self::Partition { set } => {
                let below = (1 << gone) - 1;
                *set = *set & below | (*set >> 1) & !below;
            }
            Self::Loss { link, .. }
            | Self::Bursts { link, .. }
            | Self::Duplicate { link, .. }
            | Self::Reorder { link, .. }
            | Self::Spike { link, .. }
            | Self::Corrupt { link, .. } => {
                link.src.iter_mut().for_each(lower);
                link.dst.iter_mut().for_each(lower);
            }
        }
    }

    /// Adds what this fault does to a packet to its fate.
    pub(super) fn strike(
        &self,
        dice: &mut Dice,
        since_ns: u64,
        (src, dst): (u16, u16),
        packet: &Packet,
        fate: &mut Fate,
    ) {
        match *self {
            Self::Loss { link, permille, only } if link.matches(src, dst) => {
                let meets = only.is_none_or(|kind| packet.packet_type() == kind);
                fate.lost |= meets && dice.chance(permille);
            }
            Self::Bursts { link, period_ns, lost_ns } if link.matches(src, dst) => {
                fate.lost |= since_ns % period_ns < lost_ns;
            }
            Self::Duplicate { link, permille, late_ns }
                if link.matches(src, dst) && dice.chance(permille) =>
            {
                let near = dice.flag();
                fate.again_ns =
                    Some(if near { dice.magnitude(late_ns) } else { dice.below(late_ns) });
            }
            Self::Reorder { link, permille, late_ns }
                if link.matches(src, dst) && dice.chance(permille) =>
            {
                fate.delay_ns += dice.below(late_ns.max(1));
            }
            Self::Spike { link, extra_ns } if link.matches(src, dst) => fate.delay_ns += extra_ns,
            Self::Corrupt { link, permille } if link.matches(src, dst) => {
                fate.corrupt |= dice.chance(permille);
            }
            Self::Partition { set } => fate.lost |= (set >> src ^ set >> dst) & 1 != 0,
            _ => {}
        }
    }
}

/// Changes one to three bits of the header of a packet. A NIC drops what the checksum of its link shows
/// to be damaged; this is what a faulty switch or memory does behind it, which nothing protects from:
/// headers of Homa have no checksum. `None` if the result is not a packet any more.
pub(super) fn flip_bits(dice: &mut Dice, packet: &Packet) -> Option<Packet> {
    let mut bytes = [0; MAX_HEADER_LEN];
    let length = packet.emit(&mut bytes);
    for _ in 0..dice.between(1, 3) {
        let bit = dice.below(length as u64 * 8) as usize;
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    let changed = Packet::parse(&bytes[..length]).ok()?;
    // Payload does not become header, nor header payload.
    let was_data = matches!(packet.body, Body::Data(_));
    (matches!(changed.body, Body::Data(_)) == was_data).then_some(changed)
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |end: Option<u16>| end.map_or_else(|| "any".to_owned(), |host| host.to_string());
        write!(f, "{} to {}", end(self.src), end(self.dst))
    }
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} us: ", self.from_ns / 1_000, self.until_ns / 1_000)?;
        match self.fault {
            Fault::Loss { link, permille, only: None } => {
                write!(f, "{permille} of 1000 packets lost from {link}")
            }
            Fault::Loss { link, permille, only: Some(only) } => {
                write!(f, "{permille} of 1000 {only} packets lost from {link}")
            }
            Fault::Bursts { link, period_ns, lost_ns } => {
                let (lost_us, period_us) = (lost_ns / 1_000, period_ns / 1_000);
                write!(f, "all packets lost for {lost_us} of {period_us} us from {link}")
            }
            Fault::Duplicate { link, permille, late_ns } => {
                let late_us = late_ns / 1_000;
                write!(f, "{permille} of 1000 packets come again within {late_us} us from {link}")
            }
            Fault::Reorder { link, permille, late_ns } => {
                let late_us = late_ns / 1_000;
                write!(f, "{permille} of 1000 packets late by up to {late_us} us from {link}")
            }
            Fault::Spike { link, extra_ns } => {
                write!(f, "all packets late by {} us from {link}", extra_ns / 1_000)
            }
            Fault::Corrupt { link, permille } => {
                write!(f, "{permille} of 1000 packets corrupted from {link}")
            }
            Fault::Partition { set } => write!(f, "partition, hosts in one part: {set:b}"),
            Fault::Crash { host } => write!(f, "host {host} down"),
            Fault::Stall { host } => write!(f, "host {host} off its core"),
            Fault::Stuck { host } => write!(f, "application of host {host} stuck"),
            Fault::PortClosed { host } => write!(f, "port of host {host} closed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Header, HomaPort, RpcId};

    fn busy() -> Packet {
        let header = Header { sport: HomaPort(1), dport: HomaPort(2), sender_id: RpcId(4) };
        Packet { header, body: Body::Busy }
    }

    #[test]
    fn flipped_bits_give_other_packets_or_none() {
        let mut dice = Dice::new(3);
        let flipped: Vec<_> = (0..1_000).map(|_| flip_bits(&mut dice, &busy())).collect();
        let changed = flipped.iter().flatten().filter(|&&packet| packet != busy()).count();
        let refused = flipped.iter().filter(|packet| packet.is_none()).count();
        // Many bits, as those of the checksum, mean nothing.
        assert!(changed > 300 && refused > 20, "{changed} changed, {refused} refused");
    }

    #[test]
    fn a_partition_cuts_both_ways_and_nothing_within() {
        let cut = |src, dst| {
            let mut fate = Fate::default();
            let fault = Fault::Partition { set: 0b0110 };
            fault.strike(&mut Dice::new(1), 0, (src, dst), &busy(), &mut fate);
            fate.lost
        };
        assert!(cut(0, 1) && cut(1, 0) && cut(2, 3));
        assert!(!cut(1, 2) && !cut(0, 3));
    }
}
