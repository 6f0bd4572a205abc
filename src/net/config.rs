//! How a stack is set up.

use core::fmt;
use core::net::IpAddr;

use super::address::{Addresses, InterfaceAddr};
use super::mac::MacAddr;
use super::path_mtu;

/// IPv6 addresses of one interface.
const IPV6_ADDRESSES_MAX: usize = 16;

/// One network interface and what surrounds it. Checked once by [`Config::validate`], immutable
/// afterwards.
///
/// The default has every bound and time set, but no [`mac`](Self::mac) and no
/// [`addresses`](Self::addresses): these must be given.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our Ethernet address.
    pub mac: MacAddr,
    /// Our addresses: at least one, at most one of IPv4, up to 16 of IPv6.
    pub addresses: Vec<InterfaceAddr>,
    /// The routers to everything outside our networks, at most one for each family of addresses.
    pub gateways: Vec<IpAddr>,
    /// Bytes of the largest IP packet that the link takes.
    pub mtu_bytes: u16,
    /// Peers to which only smaller IP packets get, in bytes. Others are learned from ICMP.
    pub peer_mtus: Vec<(IpAddr, u16)>,
    /// How many peers with a smaller MTU than ours are learned at most.
    pub path_mtus_max: usize,
    /// For how long an MTU is believed that was learned; then a larger packet is tried again.
    pub path_mtu_keep_ns: u64,
    /// Send Homa inside marked TCP to all peers (protocol.md section 2.2). It is always accepted.
    pub marked_tcp: bool,
    /// Send Homa inside marked TCP to these peers.
    pub marked_tcp_peers: Vec<IpAddr>,
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
    pub neighbor_tries: u8,
    /// Time between two such questions.
    pub neighbor_retry_ns: u64,
    /// For how long a neighbour counts as reachable after it was heard.
    pub neighbor_reachable_ns: u64,
    /// How long a neighbour that no longer counts as reachable is used before it is asked: it may say
    /// something itself meanwhile.
    pub neighbor_probe_delay_ns: u64,
    /// For how long a neighbour that did not answer is not asked again.
    pub neighbor_failed_ns: u64,
    /// Announce our addresses at the start and when another station uses one (RFC 5227, RFC 4861
    /// section 7.2.6), and ask whether one does (RFC 4862 section 5.4).
    pub announce: bool,
    /// Answer ARP and Neighbour Solicitations. Of several stacks that share an address and all see
    /// every such frame, one does.
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
    /// [`Stack::poll_transmit`](super::Stack::poll_transmit) at most; each takes as much memory as a
    /// frame of the MTU.
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
            addresses: Vec::new(),
            gateways: Vec::new(),
            mtu_bytes: 1500,
            peer_mtus: Vec::new(),
            path_mtus_max: 256,
            path_mtu_keep_ns: 600_000_000_000,
            marked_tcp: false,
            marked_tcp_peers: Vec::new(),
            vlan: None,
            vlan_accept_untagged: false,
            vlan_pcp_from_priority: false,
            static_neighbors: Vec::new(),
            neighbors_max: 1024,
            resolving_max: 64,
            neighbor_tries: 3,
            neighbor_retry_ns: 200_000_000,
            neighbor_reachable_ns: 30_000_000_000,
            neighbor_probe_delay_ns: 1_000_000_000,
            neighbor_failed_ns: 1_000_000_000,
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
        if let Some(vlan) = self.vlan.filter(|vlan| !(1..=4094).contains(vlan)) {
            return Err(ConfigError::Vlan(vlan));
        }
        if self.vlan_pcp_from_priority && self.vlan.is_none() {
            return Err(ConfigError::PcpWithoutVlan);
        }
        self.validate_addresses()?;
        let ours = Addresses::new(&self.addresses);
        self.validate_gateways(&ours)?;
        self.validate_static_neighbors(&ours)?;
        self.validate_peers(&ours)?;
        self.validate_bounds()
    }

    fn validate_addresses(&self) -> Result<(), ConfigError> {
        let count = |is_v4| self.addresses.iter().filter(|a| a.ip.is_ipv4() == is_v4).count();
        if self.addresses.is_empty() {
            return Err(ConfigError::NoAddress);
        }
        if count(true) > 1 || count(false) > IPV6_ADDRESSES_MAX {
            return Err(ConfigError::AddressesTooMany(count(true), count(false)));
        }
        for (at, address) in self.addresses.iter().enumerate() {
            if address.prefix_len > address.bits() {
                return Err(ConfigError::PrefixLen(*address));
            }
            if address.is_network() {
                return Err(ConfigError::Network(*address));
            }
            if !Addresses::new(&[*address]).is_host(address.ip) {
                return Err(ConfigError::Address(*address));
            }
            if self.addresses[..at].iter().any(|other| other.ip == address.ip) {
                return Err(ConfigError::AddressTwice(address.ip));
            }
        }
        Ok(())
    }

    fn validate_gateways(&self, ours: &Addresses) -> Result<(), ConfigError> {
        for (at, &gateway) in self.gateways.iter().enumerate() {
            let same_family = |ip: IpAddr| ip.is_ipv4() == gateway.is_ipv4();
            if self.gateways[..at].iter().any(|&other| same_family(other)) {
                return Err(ConfigError::GatewayTwice(gateway));
            }
            // With a subnet of one address the gateway is taken to be on the link nevertheless.
            let alone = |a: &InterfaceAddr| same_family(a.ip) && a.prefix_len == a.bits();
            let is_near = ours.is_on_link(gateway) || self.addresses.iter().any(alone);
            if !is_near || !ours.is_host(gateway) || ours.is_own(gateway) {
                return Err(ConfigError::Gateway(gateway, self.addresses.clone()));
            }
        }
        Ok(())
    }

    fn validate_static_neighbors(&self, ours: &Addresses) -> Result<(), ConfigError> {
        for (at, &(ip, mac)) in self.static_neighbors.iter().enumerate() {
            if !ours.is_host(ip) || ours.is_own(ip) {
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

    fn validate_peers(&self, ours: &Addresses) -> Result<(), ConfigError> {
        for &(ip, mtu_bytes) in &self.peer_mtus {
            let range = path_mtu::floor_bytes(ip)..=self.mtu_bytes;
            if !ours.is_host(ip) {
                return Err(ConfigError::PeerIp(ip));
            }
            if !range.contains(&mtu_bytes) {
                return Err(ConfigError::PeerMtu(ip, mtu_bytes, *range.start(), *range.end()));
            }
        }
        match self.marked_tcp_peers.iter().find(|&&ip| !ours.is_host(ip)) {
            Some(&ip) => Err(ConfigError::PeerIp(ip)),
            None => Ok(()),
        }
    }

    fn validate_bounds(&self) -> Result<(), ConfigError> {
        let at_least_one = [
            ("neighbors_max", self.neighbors_max as u64),
            ("resolving_max", self.resolving_max as u64),
            ("neighbor_tries", u64::from(self.neighbor_tries)),
            ("neighbor_retry_ns", self.neighbor_retry_ns),
            ("neighbor_reachable_ns", self.neighbor_reachable_ns),
            ("path_mtu_keep_ns", self.path_mtu_keep_ns),
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
    /// There is no address of ours.
    NoAddress,
    /// More addresses of IPv4, or of IPv6, than an interface can have here.
    AddressesTooMany(usize, usize),
    /// An address is not that of one host in its network.
    Address(InterfaceAddr),
    /// An address is that of the network, with all bits behind the prefix zero.
    Network(InterfaceAddr),
    /// An address is listed twice.
    AddressTwice(IpAddr),
    /// A prefix length exceeds the bits of the address.
    PrefixLen(InterfaceAddr),
    /// A gateway cannot be reached from our addresses.
    Gateway(IpAddr, Vec<InterfaceAddr>),
    /// A second gateway of the same family of addresses.
    GatewayTwice(IpAddr),
    /// The VLAN is out of range.
    Vlan(u16),
    /// Priorities are to be copied into a tag that there is not.
    PcpWithoutVlan,
    /// A static neighbour's address is not that of one other host.
    StaticNeighborIp(IpAddr),
    /// A static neighbour's Ethernet address is not that of one station.
    StaticNeighborMac(IpAddr, MacAddr),
    /// A static neighbour is listed twice.
    StaticNeighborTwice(IpAddr),
    /// More static neighbours than neighbours.
    StaticNeighborsTooMany(usize, usize),
    /// A peer with settings of its own has no address of one host.
    PeerIp(IpAddr),
    /// The MTU of a peer is out of range: the peer, its MTU, the smallest and the largest possible.
    PeerMtu(IpAddr, u16, u16, u16),
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
            Self::NoAddress => {
                f.write_str("there is no address: give at least one such as 10.0.0.1/24")
            }
            Self::AddressesTooMany(v4, v6) => write!(
                f,
                "{v4} IPv4 and {v6} IPv6 addresses are too many: give at most 1 and \
                 {IPV6_ADDRESSES_MAX}"
            ),
            Self::Address(address) => write!(
                f,
                "{address} is not the address of one host: give a unicast address that is neither \
                 loopback nor the broadcast address of its network"
            ),
            Self::Network(address) => write!(
                f,
                "{address} is the address of a network, not of a host on it: give one whose bits \
                 behind the first {} are not all zero",
                address.prefix_len
            ),
            Self::AddressTwice(ip) => write!(f, "address {ip} is listed twice: remove one"),
            Self::PrefixLen(address) => write!(
                f,
                "{address}: a prefix of {} bits is longer than the address: give at most {}",
                address.prefix_len,
                address.bits()
            ),
            Self::Gateway(gateway, addresses) => {
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "gateway {gateway} is not another host of the networks of {}: give a router on \
                     the same link, or another prefix length",
                    addresses.join(", ")
                )
            }
            Self::GatewayTwice(gateway) => write!(
                f,
                "gateway {gateway} is the second of its family of addresses: give one for IPv4 and \
                 one for IPv6 at most"
            ),
            Self::Vlan(vlan) => {
                write!(f, "vlan {vlan} is out of range: give 1 to 4094, or none for untagged")
            }
            Self::PcpWithoutVlan => f.write_str(
                "the priority is to go into the VLAN tag, but there is no VLAN: give its number",
            ),
            Self::PeerIp(ip) => {
                write!(f, "peer {ip} is not one host: give a unicast address")
            }
            Self::PeerMtu(ip, mtu, low, high) => write!(
                f,
                "an MTU of {mtu} bytes for peer {ip} is not possible: use {low} to {high}, the MTU \
                 of this node"
            ),
            Self::StaticNeighborIp(ip) => write!(
                f,
                "static neighbour {ip} is not another host: give a unicast address that is not ours"
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

    fn addr(text: &str) -> InterfaceAddr {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn good() -> Config {
        Config { mac: MAC, addresses: vec![addr("10.0.0.1/24")], ..Config::default() }
    }

    #[test]
    fn defaults_lack_only_the_addresses() {
        assert_eq!(good().validate(), Ok(()));
        let error = Config::default().validate();
        assert_eq!(error, Err(ConfigError::Mac(MacAddr::UNSPECIFIED)));
        let error = Config { mac: MAC, ..Config::default() }.validate();
        assert_eq!(error, Err(ConfigError::NoAddress));
    }

    #[test]
    fn both_families_with_all_that_belongs_to_them() {
        let config = Config {
            addresses: ["10.0.0.1/24", "fe80::1/64", "fd00::1/64"].map(addr).to_vec(),
            gateways: ["10.0.0.254", "fe80::fe"].map(ip).to_vec(),
            static_neighbors: vec![(ip("fd00::2"), MAC), (ip("10.0.0.2"), MAC)],
            peer_mtus: vec![(ip("fd00::2"), 1280), (ip("10.0.0.2"), 552)],
            marked_tcp_peers: ["fd00::2", "10.0.0.2"].map(ip).to_vec(),
            vlan: Some(5),
            vlan_pcp_from_priority: true,
            ..good()
        };
        assert_eq!(config.validate(), Ok(()));
    }

    #[test]
    fn wrong_settings_row_by_row() {
        type Change = fn(&mut Config);
        let rows: [(Change, &str); 35] = [
            (|c| c.mac = MacAddr::BROADCAST, "mac ff:ff:ff:ff:ff:ff is not"),
            (|c| c.addresses[0] = addr("224.0.0.1/24"), "224.0.0.1/24 is not"),
            (|c| c.addresses[0] = addr("127.0.0.1/24"), "127.0.0.1/24 is not"),
            (|c| c.addresses[0] = addr("10.0.0.255/24"), "10.0.0.255/24 is not"),
            (|c| c.addresses[0] = addr("10.0.0.0/24"), "10.0.0.0/24 is the address of a network"),
            (|c| c.addresses[0] = addr("fd00::/64"), "fd00::/64 is the address of a network"),
            (|c| c.addresses[0] = addr("ff02::1/64"), "ff02::1/64 is not"),
            (|c| c.addresses[0] = addr("::1/64"), "::1/64 is not"),
            (|c| c.addresses[0].prefix_len = 33, "prefix of 33 bits"),
            (|c| c.addresses.push(addr("10.0.1.1")), "2 IPv4 and 0 IPv6 addresses"),
            (
                |c| c.addresses = vec![addr("fd00::1"), addr("fd00::1/48")],
                "fd00::1 is listed twice",
            ),
            (|c| c.vlan = Some(0), "vlan 0 is out of range"),
            (|c| c.vlan = Some(4095), "vlan 4095 is out of range"),
            (|c| c.vlan_pcp_from_priority = true, "there is no VLAN"),
            (|c| c.gateways = vec![ip("10.0.1.1")], "gateway 10.0.1.1 is not"),
            (|c| c.gateways = vec![ip("10.0.0.1")], "gateway 10.0.0.1 is not"),
            (|c| c.gateways = vec![ip("10.0.0.255")], "gateway 10.0.0.255 is not"),
            (|c| c.gateways = vec![ip("fe80::1")], "networks of 10.0.0.1/24"),
            (
                |c| c.gateways = vec![ip("10.0.0.2"), ip("10.0.0.3")],
                "gateway 10.0.0.3 is the second",
            ),
            (|c| c.peer_mtus = vec![(ip("10.0.0.255"), 1000)], "peer 10.0.0.255 is not"),
            (|c| c.peer_mtus = vec![(ip("10.0.0.2"), 551)], "use 552 to 1500"),
            (|c| c.peer_mtus = vec![(ip("fd00::2"), 1279)], "use 1280 to 1500"),
            (|c| c.peer_mtus = vec![(ip("10.0.0.2"), 1501)], "1501 bytes for peer 10.0.0.2"),
            (|c| c.marked_tcp_peers = vec![ip("::")], "peer :: is not"),
            (|c| c.static_neighbors = vec![(IpAddr::from([0; 16]), MAC)], "neighbour :: is not"),
            (|c| c.static_neighbors = vec![(c.addresses[0].ip, MAC)], "neighbour 10.0.0.1 is not"),
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
            (|c| c.neighbor_tries = 0, "neighbor_tries is 0"),
            (|c| c.neighbor_retry_ns = 0, "neighbor_retry_ns is 0"),
            (|c| c.neighbor_reachable_ns = 0, "neighbor_reachable_ns is 0"),
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
        for (address, gateway) in [("10.0.0.1/32", "10.9.9.9"), ("fd00::1/128", "fd09::9")] {
            let (addresses, gateways) = (vec![addr(address)], vec![ip(gateway)]);
            assert_eq!(Config { addresses, gateways, ..good() }.validate(), Ok(()));
        }
    }
}
