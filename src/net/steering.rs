//! Which shard a packet belongs to: a pure function of its header, the same in software and, where the
//! network interface can compute it, in hardware.
//!
//! A packet about an RPC of ours goes to the shard that the RPC's id names. A packet about an RPC of a
//! peer goes where its addresses and ports hash to with the function of receive side scaling
//! (Toeplitz), with the key and the table that the network interface gets as well.

use core::net::IpAddr;

use super::{ethernet, ipv4, ipv6};
use crate::wire::{Header, HomaPort};

/// The key of receive side scaling: that of Microsoft's verification suite, and as many bytes more as
/// the longest keys of network interfaces have. Hashes of 36 bytes need 40 of it.
pub const RSS_KEY: [u8; 52] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa, 0x5f, 0x9c, 0x3e, 0xb1, 0x2d, 0x74, 0xe6, 0x88,
    0x13, 0x59, 0xc7, 0xa4,
];

/// Two IPv6 addresses and two ports.
const TUPLE_BYTES: usize = 36;
/// Entries of the table where the network interface does not say.
pub const STEERING_ENTRIES: usize = 128;
/// The bit of an id from which on it names the shard of its client.
const ID_SHARD_SHIFT: u32 = 56;
/// Bytes of the Homa header in front of the id.
const ID_OFFSET_BYTES: u16 = 20;
/// Ports of a block: enough for any entry of a table of 128 to be reached by one of them.
pub const PORT_BLOCK: u16 = 128;

/// The Toeplitz hash of receive side scaling, by tables.
#[derive(Clone, Debug)]
struct Toeplitz(Box<[[u32; 256]; TUPLE_BYTES]>);

impl Toeplitz {
    fn new(key: &[u8; 52]) -> Self {
        let mut tables = Box::new([[0; 256]; TUPLE_BYTES]);
        for (at, table) in tables.iter_mut().enumerate() {
            // The 32 bits of the key from each bit of this byte on.
            let mut window = [0; 8];
            window.copy_from_slice(&key[at..at + 8]);
            let key = u64::from_be_bytes(window);
            for (byte, hash) in table.iter_mut().enumerate() {
                let set = (0..8).filter(|bit| byte & (0x80 >> bit) != 0);
                *hash = set.fold(0, |hash, bit| hash ^ (key >> (32 - bit)) as u32);
            }
        }
        Self(tables)
    }

    #[inline]
    fn hash(&self, from: usize, bytes: &[u8]) -> u32 {
        let tables = self.0[from..].iter().zip(bytes);
        tables.fold(0, |hash, (table, &byte)| hash ^ table[usize::from(byte)])
    }

    #[inline]
    fn hash_tuple(&self, src: IpAddr, dst: IpAddr, sport: u16, dport: u16) -> u32 {
        let ports = (u32::from(sport) << 16 | u32::from(dport)).to_be_bytes();
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let addresses = u64::from(src.to_bits()) << 32 | u64::from(dst.to_bits());
                self.hash(0, &addresses.to_be_bytes()) ^ self.hash(8, &ports)
            }
            (src, dst) => {
                let octets = |addr: IpAddr| match addr {
                    IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
                    IpAddr::V6(addr) => addr.octets(),
                };
                self.hash(0, &octets(src)) ^ self.hash(16, &octets(dst)) ^ self.hash(32, &ports)
            }
        }
    }
}

/// Bytes of a Homa header as a rule of the network interface names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderBytes {
    /// Bytes of the Homa header in front of them.
    pub offset_bytes: u16,
    /// What they are.
    pub spec: [u8; 8],
    /// Which bits of them count.
    pub mask: [u8; 8],
}

impl HeaderBytes {
    /// Those of the packets about RPCs that `shard` has begun: the id names the shard in its first
    /// byte, and in its last bit that a server has sent the packet. Packets of clients have no such
    /// rule: their owner is a matter of a hash.
    pub fn of_own_rpcs(shard: u8) -> Self {
        let bytes = |shard: u8, bit: u64| (u64::from(shard) << ID_SHARD_SHIFT | bit).to_be_bytes();
        Self { offset_bytes: ID_OFFSET_BYTES, spec: bytes(shard, 1), mask: bytes(0xff, 1) }
    }
}

/// Whether a frame that came to one shard must be seen by the stacks of all: how neighbours are
/// reached, and what went wrong with packets that any of them may have sent. Pings are answered by
/// whoever gets them.
pub fn concerns_all_shards(frame: &[u8]) -> bool {
    if ethernet::is_neighbor_discovery(frame) {
        return true;
    }
    let Some(link) = ethernet::Header::parse(frame) else { return false };
    let packet = &frame[link.header_bytes..];
    let byte = |at: usize| packet.get(at).copied().unwrap_or(0);
    match link.ethertype {
        ethernet::ETHERTYPE_IPV4 => {
            const ECHO_REQUEST: u8 = 8;
            let header_bytes = usize::from(byte(0) & 15) * 4;
            byte(9) == ipv4::PROTOCOL_ICMP
                && packet.get(header_bytes).is_some_and(|&kind| kind != ECHO_REQUEST)
        }
        ethernet::ETHERTYPE_IPV6 => {
            const ECHO_REQUEST: u8 = 128;
            byte(6) == ipv6::NEXT_HEADER_ICMPV6
                && packet.get(ipv6::HEADER_BYTES).is_some_and(|&kind| kind != ECHO_REQUEST)
        }
        _ => false,
    }
}

/// Says which shard of a host a packet belongs to. Made once, the same for all shards.
#[derive(Clone, Debug)]
pub struct Steering {
    shards: u8,
    /// The shard by the low bits of the hash.
    table: Box<[u8]>,
    toeplitz: Toeplitz,
}

impl Steering {
    /// For `shards` shards, with a table of `entries` as the network interface has, rounded up to a
    /// power of two; 0 for one that has none.
    pub fn new(shards: u8, entries: usize) -> Self {
        let entries = if entries == 0 { STEERING_ENTRIES } else { entries.next_power_of_two() };
        let shards = shards.max(1);
        let table = (0..entries).map(|entry| (entry % usize::from(shards)) as u8).collect();
        Self { shards, table, toeplitz: Toeplitz::new(&RSS_KEY) }
    }

    /// The same with the table that the network interface has.
    #[must_use]
    pub fn with_table(mut self, table: Box<[u8]>) -> Self {
        let fits = table.len().is_power_of_two() && table.iter().all(|&to| to < self.shards);
        if fits {
            self.table = table;
        }
        self
    }

    /// The shard by the low bits of the hash: the redirection table of the network interface.
    pub fn table(&self) -> &[u8] {
        &self.table
    }

    /// The hash of a tuple as the network interface computes it.
    pub fn hash(&self, src: IpAddr, dst: IpAddr, sport: HomaPort, dport: HomaPort) -> u32 {
        self.toeplitz.hash_tuple(src, dst, sport.0, dport.0)
    }

    /// The shard that a received packet from `src` to `dst` belongs to; `None` if its id names a shard
    /// that there is not.
    #[inline]
    pub fn owner(&self, src: IpAddr, dst: IpAddr, header: &Header) -> Option<u8> {
        if header.sender_id.is_client() {
            return Some(self.shard_of(self.hash(src, dst, header.sport, header.dport)));
        }
        // From a server, about an RPC of ours.
        let shard = (header.sender_id.0 >> ID_SHARD_SHIFT) as u8;
        (shard < self.shards).then_some(shard)
    }

    #[inline]
    fn shard_of(&self, hash: u32) -> u8 {
        self.table[hash as usize & (self.table.len() - 1)]
    }

    /// A port of the block from `first` on, such that what `server_port` at `server` sends to it at
    /// `ours` comes to `shard` if the network interface hashes ports. `first` if there is none.
    pub fn home_port(
        &self,
        server: IpAddr,
        ours: IpAddr,
        server_port: HomaPort,
        first: HomaPort,
        shard: u8,
    ) -> HomaPort {
        let block = (first.0..=u16::MAX).take(PORT_BLOCK.into()).map(HomaPort);
        let comes_home =
            |port: &HomaPort| self.shard_of(self.hash(server, ours, server_port, *port)) == shard;
        block.into_iter().find(comes_home).unwrap_or(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{PacketType, RawCommon, RpcId};
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    /// Microsoft's verification suite: source, destination, hash of the addresses, of all.
    const VERIFICATION: [(&str, u16, &str, u16, u32, u32); 8] = [
        ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x323e_8fc2, 0x51cc_c178),
        ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xd718_262a, 0xc626_b0ea),
        ("24.19.198.95", 12898, "12.22.207.184", 38024, 0xd2d0_a5de, 0x5c2b_394a),
        ("38.27.205.30", 48228, "209.142.163.6", 2217, 0x8298_9176, 0xafc7_327f),
        ("153.39.163.191", 44251, "202.188.127.2", 1303, 0x5d18_09c5, 0x10e8_28a2),
        ("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2cc1_8cd5, 0x4020_7d3d),
        ("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0x0f0c_461c, 0xdde5_1bbf),
        (
            "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
            44251,
            "fe80::200:f8ff:fe21:67cf",
            38024,
            0x4b61_e985,
            0x02d1_feef,
        ),
    ];

    #[test]
    fn hashes_as_network_interfaces_do() {
        let toeplitz = Toeplitz::new(&RSS_KEY);
        for (src, sport, dst, dport, addresses, all) in VERIFICATION {
            let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
            assert_eq!(toeplitz.hash_tuple(src, dst, sport, dport), all, "{src} {dst}");
            // Zero bytes hash to nothing.
            assert_eq!(toeplitz.hash_tuple(src, dst, 0, 0), addresses, "{src} {dst}");
        }
    }

    fn addr(host: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, host])
    }

    fn header(id: u64, sport: u16, dport: u16) -> Header {
        Header { sport: HomaPort(sport), dport: HomaPort(dport), sender_id: RpcId(id) }
    }

    #[test]
    fn our_own_rpcs_go_to_the_shard_in_their_id() {
        let steering = Steering::new(4, 0);
        for shard in 0..4 {
            let id = u64::from(shard) << 56 | 0x1235;
            assert_eq!(steering.owner(addr(1), addr(2), &header(id, 9, 32_768)), Some(shard));
        }
        let nobody = header(4 << 56 | 1, 9, 32_768);
        assert_eq!(steering.owner(addr(1), addr(2), &nobody), None);
    }

    #[test]
    fn the_id_is_where_rules_look_for_it() {
        let raw = RawCommon::control(&header(0x0304_0506_0708_090b, 9, 32_768), PacketType::Busy);
        let at = usize::from(ID_OFFSET_BYTES);
        assert_eq!(raw.as_bytes()[at..at + 8], [3, 4, 5, 6, 7, 8, 9, 11]);
    }

    #[test]
    fn ports_spread_the_rpcs_of_a_peer() {
        for shards in [2, 3, 8] {
            let steering = Steering::new(shards, 0);
            let mut count = vec![0; usize::from(shards)];
            for port in 32_768..33_792 {
                let owner = steering.owner(addr(1), addr(2), &header(2, port, 99)).unwrap();
                count[usize::from(owner)] += 1;
            }
            let fair = 1_024 / i32::from(shards);
            assert!(count.iter().all(|&n| (n - fair).abs() < fair / 4), "{shards}: {count:?}");
        }
    }

    #[test]
    fn a_port_can_be_found_for_each_shard_and_server() {
        for (shards, entries) in [(2, 0), (4, 128), (8, 512), (16, 64)] {
            let steering = Steering::new(shards, entries);
            let expected = if entries == 0 { STEERING_ENTRIES } else { entries };
            assert_eq!(steering.table().len(), expected);
            for shard in 0..shards {
                for server in 1..50 {
                    let first = HomaPort(32_768 + 128 * u16::from(shard));
                    let port =
                        steering.home_port(addr(server), addr(99), HomaPort(7), first, shard);
                    assert!((first.0..first.0 + 128).contains(&port.0));
                    let hash = steering.hash(addr(server), addr(99), HomaPort(7), port);
                    assert_eq!(steering.table()[hash as usize % steering.table().len()], shard);
                }
            }
        }
    }

    #[test]
    fn a_table_of_the_interface_is_taken_if_it_can_be() {
        let steering = Steering::new(2, 0).with_table([1, 1].into());
        assert_eq!(steering.owner(addr(1), addr(2), &header(2, 1, 2)), Some(1));
        let steering = steering.with_table([0, 2].into()).with_table([0, 0, 0].into());
        assert_eq!(steering.table(), [1, 1], "no such shard; no power of two");
    }

    #[test]
    fn neighbors_and_errors_concern_all_shards_and_pings_one() {
        let frame = |ethertype: [u8; 2], rest: &[u8]| {
            let mut frame = vec![2; 12];
            frame.extend(ethertype);
            frame.extend(rest);
            frame.resize(60, 0);
            frame
        };
        let ipv4 = |protocol: u8, kind: u8| {
            let mut packet = [0; 28];
            (packet[0], packet[9], packet[20]) = (0x45, protocol, kind);
            frame([8, 0], &packet)
        };
        assert!(concerns_all_shards(&frame([8, 6], &[0, 1])));
        assert!(concerns_all_shards(&ipv4(1, 3)));
        assert!(!concerns_all_shards(&ipv4(1, 8)));
        assert!(!concerns_all_shards(&ipv4(146, 3)));
        let ipv6 = |next_header: u8, kind: u8| {
            let mut packet = [0; 48];
            (packet[6], packet[40]) = (next_header, kind);
            frame([0x86, 0xdd], &packet)
        };
        assert!(concerns_all_shards(&ipv6(58, 2)) && concerns_all_shards(&ipv6(58, 136)));
        assert!(!concerns_all_shards(&ipv6(58, 128)));
        assert!(!concerns_all_shards(&ipv6(146, 2)));
        assert!(!concerns_all_shards(&[0; 9]));
        assert!(!concerns_all_shards(&ipv4(1, 3)[..20]));
    }

    proptest! {
        /// Every packet that a client sends about an RPC has one owner, whatever the packet is and
        /// whichever queue it came to; and there is always such a shard.
        #[test]
        fn an_rpc_has_one_owner(
            shards in 1_u8..=64, host: u8, id: u64, other_id: u64, sport: u16, dport: u16,
        ) {
            let steering = Steering::new(shards, 0);
            let owner = steering.owner(addr(host), addr(2), &header(id & !1, sport, dport));
            prop_assert!(owner.is_some_and(|owner| owner < shards));
            // All RPCs between the same ports have the same one: acks ride on any of them.
            let other = steering.owner(addr(host), addr(2), &header(other_id & !1, sport, dport));
            prop_assert_eq!(owner, other);
        }

        /// A rule takes the packets about RPCs of its shard, and no others.
        #[test]
        fn rules_say_what_the_owner_is(id: u64, shard in 0_u8..4, sport: u16, dport: u16) {
            for id in [id, u64::from(shard) << 56 | id >> 8] {
                let header = header(id, sport, dport);
                let bytes = id.to_be_bytes();
                let rule = HeaderBytes::of_own_rpcs(shard);
                let taken = (0..8).all(|at| bytes[at] & rule.mask[at] == rule.spec[at]);
                let owner = Steering::new(4, 0).owner(addr(1), addr(2), &header);
                prop_assert_eq!(taken, id % 2 == 1 && owner == Some(shard));
            }
        }
    }
}
