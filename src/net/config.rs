//! How a stack is set up.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr};

use super::ipv4::Subnet;
use super::mac::MacAddr;

/// One network interface and what surrounds it. Checked once by [`Config::validate`], immutable
/// afterwards.
///
/// The default has every bound and time set, but no [`mac`](Self::mac) and no
/// [`ipv4`](Self::ipv4): these must be given.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our Ethernet address.
    pub mac: MacAddr,
    /// Our IPv4 address.
    pub ipv4: Ipv4Addr,
    /// How many leading bits of [`ipv4`](Self::ipv4) name the subnet, at most 32.
    pub prefix_len: u8,
    /// The router to everything outside the subnet.
    pub gateway: Option<Ipv4Addr>,
    /// The VLAN to send and receive on with an 802.1Q tag, 1 to 4094; `None` for untagged.
    pub vlan: Option<u16>,
    /// Receive untagged frames even though [`vlan`](Self::vlan) is set: for network interfaces that
    /// remove the tag.
    pub vlan_accept_untagged: bool,
    /// Copy the network priority into the tag, for switches that queue on it and not on DSCP.
    pub vlan_pcp_from_priority: bool,
    /// Neighbours that are not resolved but known for good, also ones outside the subnet.
    pub static_neighbors: Vec<(IpAddr, MacAddr)>,
    /// How many neighbours are remembered at most, static ones included.
    pub neighbors_max: usize,
    /// How many neighbours are being resolved at a time at most.
    pub resolving_max: usize,
    /// How often a neighbour is asked before it counts as gone.
    pub arp_tries: u8,
    /// Time between two such questions.
    pub arp_retry_ns: u64,
    /// For how long a neighbour counts as reachable after it was heard.
    pub arp_reachable_ns: u64,
    /// How long a neighbour that no longer counts as reachable is used before it is asked, so that
    /// [`Stack::confirm`](super::Stack::confirm) may make the question needless.
    pub arp_probe_delay_ns: u64,
    /// For how long a neighbour that did not answer is not asked again.
    pub arp_failed_ns: u64,
    /// Announce our address at the start and when another station uses it (RFC 5227).
    pub announce: bool,
    /// Answer ARP. Of several stacks that share an address and all see every ARP frame, one does.
    pub arp_responder: bool,
    /// How many ICMP errors are sent per second at most; 0 for none.
    pub icmp_rate_per_s: u32,
    /// How many ICMP errors are sent in a row at most.
    pub icmp_burst: u32,
    /// How many pings are answered per second at most; 0 for none.
    pub echo_rate_per_s: u32,
    /// How many pings are answered in a row at most.
    pub echo_burst: u32,
    /// How many frames of our own wait for
    /// [`Stack::poll_transmit`](super::Stack::poll_transmit) at most; each takes 1.5 KB.
    pub own_frames_max: usize,
    /// How many events wait for [`Stack::poll_event`](super::Stack::poll_event) at most.
    pub events_max: usize,
    /// The port loops back what is sent: our own address is a destination like any other.
    pub loopback: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mac: MacAddr::UNSPECIFIED,
            ipv4: Ipv4Addr::UNSPECIFIED,
            prefix_len: 24,
            gateway: None,
            vlan: None,
            vlan_accept_untagged: false,
            vlan_pcp_from_priority: false,
            static_neighbors: Vec::new(),
            neighbors_max: 1024,
            resolving_max: 64,
            arp_tries: 3,
            arp_retry_ns: 200_000_000,
            arp_reachable_ns: 30_000_000_000,
            arp_probe_delay_ns: 1_000_000_000,
            arp_failed_ns: 1_000_000_000,
            announce: true,
            arp_responder: true,
            icmp_rate_per_s: 1_000,
            icmp_burst: 50,
            echo_rate_per_s: 1_000,
            echo_burst: 50,
            own_frames_max: 128,
            events_max: 256,
            loopback: false,
        }
    }
}

impl Config {
    /// Whether a stack can be made of this.
    ///
    /// # Errors
    ///
    /// Names the first setting that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !self.mac.is_unicast() {
            return Err(ConfigError::Mac(self.mac));
        }
        if self.prefix_len > 32 {
            return Err(ConfigError::PrefixLen(self.prefix_len));
        }
        let subnet = Subnet::new(self.ipv4, self.prefix_len);
        if !subnet.is_host(self.ipv4) {
            return Err(ConfigError::Ipv4(self.ipv4, self.prefix_len));
        }
        if let Some(vlan) = self.vlan.filter(|vlan| !(1..=4094).contains(vlan)) {
            return Err(ConfigError::Vlan(vlan));
        }
        self.validate_gateway(&subnet)?;
        self.validate_static_neighbors(&subnet)?;
        self.validate_bounds()
    }

    fn validate_gateway(&self, subnet: &Subnet) -> Result<(), ConfigError> {
        let Some(gateway) = self.gateway else { return Ok(()) };
        // With a subnet of one address the gateway is taken to be on the link nevertheless.
        let is_near = subnet.is_on_link(gateway) || self.prefix_len == 32;
        if is_near && subnet.is_host(gateway) && gateway != self.ipv4 {
            Ok(())
        } else {
            Err(ConfigError::Gateway(gateway, self.ipv4, self.prefix_len))
        }
    }

    fn validate_static_neighbors(&self, subnet: &Subnet) -> Result<(), ConfigError> {
        for (at, &(ip, mac)) in self.static_neighbors.iter().enumerate() {
            let IpAddr::V4(ipv4) = ip else { return Err(ConfigError::StaticNeighborIp(ip)) };
            if !subnet.is_host(ipv4) || ipv4 == self.ipv4 {
                return Err(ConfigError::StaticNeighborIp(ip));
            }
            if !mac.is_unicast() {
                return Err(ConfigError::StaticNeighborMac(ip, mac));
            }
            if self.static_neighbors[..at].iter().any(|&(other, _)| other == ip) {
                return Err(ConfigError::StaticNeighborTwice(ip));
            }
        }
        let count = self.static_neighbors.len();
        if count > self.neighbors_max {
            return Err(ConfigError::StaticNeighborsTooMany(count, self.neighbors_max));
        }
        Ok(())
    }

    fn validate_bounds(&self) -> Result<(), ConfigError> {
        let at_least_one = [
            ("neighbors_max", self.neighbors_max as u64),
            ("resolving_max", self.resolving_max as u64),
            ("arp_tries", u64::from(self.arp_tries)),
            ("arp_retry_ns", self.arp_retry_ns),
            ("arp_reachable_ns", self.arp_reachable_ns),
            ("own_frames_max", self.own_frames_max as u64),
            ("events_max", self.events_max as u64),
        ];
        match at_least_one.into_iter().find(|&(_, value)| value == 0) {
            Some((name, _)) => Err(ConfigError::Zero(name)),
            None => Ok(()),
        }
    }
}

/// What is wrong with a [`Config`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The Ethernet address is not that of one station.
    Mac(MacAddr),
    /// The IPv4 address is not that of one host in its subnet.
    Ipv4(Ipv4Addr, u8),
    /// The prefix length exceeds 32.
    PrefixLen(u8),
    /// The gateway cannot be reached from our address and prefix.
    Gateway(Ipv4Addr, Ipv4Addr, u8),
    /// The VLAN is out of range.
    Vlan(u16),
    /// A static neighbour's address is not that of one other IPv4 host.
    StaticNeighborIp(IpAddr),
    /// A static neighbour's Ethernet address is not that of one station.
    StaticNeighborMac(IpAddr, MacAddr),
    /// A static neighbour is listed twice.
    StaticNeighborTwice(IpAddr),
    /// More static neighbours than neighbours.
    StaticNeighborsTooMany(usize, usize),
    /// The named setting must not be zero.
    Zero(&'static str),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => write!(
                f,
                "mac {mac} is not the address of one station: give that of the network interface"
            ),
            Self::Ipv4(ip, prefix_len) => write!(
                f,
                "ipv4 {ip}/{prefix_len} is not the address of one host: give a unicast address \
                 that is neither loopback nor the broadcast address of its subnet"
            ),
            Self::PrefixLen(prefix_len) => {
                write!(f, "prefix_len {prefix_len} is more than 32: give the bits of the subnet")
            }
            Self::Gateway(gateway, ip, prefix_len) => write!(
                f,
                "gateway {gateway} is not another host of the subnet of {ip}/{prefix_len}: give a \
                 router on the same link, or another prefix_len"
            ),
            Self::Vlan(vlan) => {
                write!(f, "vlan {vlan} is out of range: give 1 to 4094, or none for untagged")
            }
            Self::StaticNeighborIp(ip) => write!(
                f,
                "static neighbour {ip} is not another IPv4 host: give a unicast IPv4 address"
            ),
            Self::StaticNeighborMac(ip, mac) => write!(
                f,
                "static neighbour {ip} has {mac}, which is not the address of one station: give a \
                 unicast Ethernet address"
            ),
            Self::StaticNeighborTwice(ip) => {
                write!(f, "static neighbour {ip} is listed twice: remove one of the entries")
            }
            Self::StaticNeighborsTooMany(count, max) => write!(
                f,
                "{count} static neighbours are more than neighbors_max {max}: raise neighbors_max"
            ),
            Self::Zero(name) => write!(f, "{name} is 0: give at least 1"),
        }
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn good() -> Config {
        Config { mac: MAC, ipv4: Ipv4Addr::new(10, 0, 0, 1), ..Config::default() }
    }

    #[test]
    fn defaults_lack_only_the_addresses() {
        assert_eq!(good().validate(), Ok(()));
        let error = Config::default().validate();
        assert_eq!(error, Err(ConfigError::Mac(MacAddr::UNSPECIFIED)));
        let error = Config { mac: MAC, ..Config::default() }.validate();
        assert_eq!(error, Err(ConfigError::Ipv4(Ipv4Addr::UNSPECIFIED, 24)));
    }

    #[test]
    fn wrong_settings_row_by_row() {
        type Change = fn(&mut Config);
        let rows: [(Change, &str); 21] = [
            (|c| c.mac = MacAddr::BROADCAST, "mac ff:ff:ff:ff:ff:ff is not"),
            (|c| c.ipv4 = Ipv4Addr::new(224, 0, 0, 1), "ipv4 224.0.0.1/24 is not"),
            (|c| c.ipv4 = Ipv4Addr::LOCALHOST, "ipv4 127.0.0.1/24 is not"),
            (|c| c.ipv4 = Ipv4Addr::new(10, 0, 0, 255), "ipv4 10.0.0.255/24 is not"),
            (|c| c.prefix_len = 33, "prefix_len 33 is more than 32"),
            (|c| c.vlan = Some(0), "vlan 0 is out of range"),
            (|c| c.vlan = Some(4095), "vlan 4095 is out of range"),
            (|c| c.gateway = Some(Ipv4Addr::new(10, 0, 1, 1)), "gateway 10.0.1.1 is not"),
            (|c| c.gateway = Some(Ipv4Addr::new(10, 0, 0, 1)), "gateway 10.0.0.1 is not"),
            (|c| c.gateway = Some(Ipv4Addr::new(10, 0, 0, 255)), "gateway 10.0.0.255 is not"),
            (|c| c.static_neighbors = vec![(IpAddr::from([0; 16]), MAC)], "neighbour :: is not"),
            (|c| c.static_neighbors = vec![(c.ipv4.into(), MAC)], "neighbour 10.0.0.1 is not"),
            (
                |c| c.static_neighbors = vec![([10, 0, 0, 2].into(), MacAddr::UNSPECIFIED)],
                "neighbour 10.0.0.2 has 00:00:00:00:00:00",
            ),
            (
                |c| c.static_neighbors = vec![([10, 0, 0, 2].into(), MAC); 2],
                "neighbour 10.0.0.2 is listed twice",
            ),
            (
                |c| {
                    c.neighbors_max = 1;
                    c.static_neighbors =
                        vec![([10, 0, 0, 2].into(), MAC), ([10, 0, 0, 3].into(), MAC)];
                },
                "2 static neighbours are more than neighbors_max 1",
            ),
            (|c| c.neighbors_max = 0, "neighbors_max is 0"),
            (|c| c.resolving_max = 0, "resolving_max is 0"),
            (|c| c.arp_tries = 0, "arp_tries is 0"),
            (|c| c.arp_retry_ns = 0, "arp_retry_ns is 0"),
            (|c| c.arp_reachable_ns = 0, "arp_reachable_ns is 0"),
            (|c| c.own_frames_max = 0, "own_frames_max is 0"),
        ];
        for (change, text) in rows {
            let mut config = good();
            change(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(text), "{error:?} lacks {text:?}");
        }
    }

    #[test]
    fn a_lone_address_may_have_a_gateway() {
        let gateway = Some(Ipv4Addr::new(10, 9, 9, 9));
        assert_eq!(Config { prefix_len: 32, gateway, ..good() }.validate(), Ok(()));
    }
}
