//! What a stack counts.

/// Declares [`Counters`], so that a counter is named in one place only.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What a stack has seen and done since it was made. Every field only grows.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Every counter with its name, in the order of declaration.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }
    };
}

counters! {
    /// Homa packets received, in either form.
    homa_received,
    /// Of these, the ones inside marked TCP.
    marked_tcp_received,
    /// ARP requests and replies received, whoever they were for.
    arp_received,
    /// ARP requests sent, to everybody or to the station last known.
    arp_requests_sent,
    /// ARP replies sent.
    arp_replies_sent,
    /// Neighbour Solicitations and Advertisements received, whoever they were for.
    nd_received,
    /// Neighbour Solicitations sent, to everybody or to the station last known.
    nd_solicitations_sent,
    /// Neighbour Advertisements sent as answers.
    nd_advertisements_sent,
    /// Announcements of our addresses sent: gratuitous ARP requests, unsolicited advertisements.
    announcements_sent,
    /// Neighbours that became known.
    neighbors_learned,
    /// Neighbours whose address moved to another station.
    neighbors_moved,
    /// Neighbours that did not answer.
    resolutions_failed,
    /// Times another station was heard using our address.
    address_conflicts,
    /// Pings answered.
    echo_replies_sent,
    /// Destination unreachable messages about Homa packets of ours, without MTU hints.
    unreachable_received,
    /// Credible MTU hints about Homa packets of ours.
    mtu_hints_received,
    /// Port unreachable messages sent.
    port_unreachable_sent,
    /// Port unreachable messages not sent because of the rate limit.
    port_unreachable_limited,
    /// Port unreachable messages not sent because the offending packet must not be answered.
    port_unreachable_refused,
    /// Frames of our own lost because their queue was full.
    own_frames_lost,
    /// Events lost because their queue was full.
    events_lost,
    /// See [`DropReason::Truncated`].
    drop_truncated,
    /// See [`DropReason::OtherMac`].
    drop_other_mac,
    /// See [`DropReason::OwnMac`].
    drop_own_mac,
    /// See [`DropReason::OtherVlan`].
    drop_other_vlan,
    /// See [`DropReason::UnknownEthertype`].
    drop_unknown_ethertype,
    /// See [`DropReason::Group`].
    drop_group,
    /// See [`DropReason::Ipv4Malformed`].
    drop_ipv4_malformed,
    /// See [`DropReason::Ipv4Checksum`].
    drop_ipv4_checksum,
    /// See [`DropReason::Ipv6Malformed`].
    drop_ipv6_malformed,
    /// See [`DropReason::Fragment`].
    drop_fragment,
    /// See [`DropReason::OtherAddress`].
    drop_other_address,
    /// See [`DropReason::MartianSource`].
    drop_martian_source,
    /// See [`DropReason::UnknownProtocol`].
    drop_unknown_protocol,
    /// See [`DropReason::TcpUnmarked`].
    drop_tcp_unmarked,
    /// See [`DropReason::ArpMalformed`].
    drop_arp_malformed,
    /// See [`DropReason::ArpIgnored`].
    drop_arp_ignored,
    /// See [`DropReason::NdMalformed`].
    drop_nd_malformed,
    /// See [`DropReason::NdIgnored`].
    drop_nd_ignored,
    /// See [`DropReason::StaticMismatch`].
    drop_static_mismatch,
    /// See [`DropReason::IcmpMalformed`].
    drop_icmp_malformed,
    /// See [`DropReason::IcmpChecksum`].
    drop_icmp_checksum,
    /// See [`DropReason::IcmpUnhandled`].
    drop_icmp_unhandled,
    /// See [`DropReason::IcmpNotOurs`].
    drop_icmp_not_ours,
    /// See [`DropReason::EchoRefused`].
    drop_echo_refused,
}

/// Why a received frame was dropped; each reason has a counter of its own in [`Counters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The frame, or its first segment, ends before the headers do.
    Truncated,
    /// The frame is for another station.
    OtherMac,
    /// The frame claims to come from ourselves.
    OwnMac,
    /// The frame belongs to another VLAN.
    OtherVlan,
    /// Neither IPv4 nor IPv6 nor ARP.
    UnknownEthertype,
    /// An IP packet to a broadcast or multicast address, of Ethernet or of IP, that is not for us.
    Group,
    /// Version, header length or total length of an IPv4 packet is wrong.
    Ipv4Malformed,
    /// The checksum of an IPv4 header is wrong.
    Ipv4Checksum,
    /// Version, payload length or an extension header of an IPv6 packet is wrong.
    Ipv6Malformed,
    /// A fragment of an IP packet.
    Fragment,
    /// An IP packet for another host.
    OtherAddress,
    /// The source address cannot be that of another host.
    MartianSource,
    /// An IP protocol that is neither Homa, TCP nor ICMP.
    UnknownProtocol,
    /// A TCP packet without the marks of Homa.
    TcpUnmarked,
    /// Not an ARP request or reply for IPv4 over Ethernet.
    ArpMalformed,
    /// ARP between others, or unasked for.
    ArpIgnored,
    /// A solicitation or advertisement that fails the checks of RFC 4861 section 7.1.
    NdMalformed,
    /// Neighbour Discovery between others, or unasked for.
    NdIgnored,
    /// ARP or Neighbour Discovery that contradicts a static neighbour.
    StaticMismatch,
    /// An ICMP message that is too short, not in one segment, or quotes no packet.
    IcmpMalformed,
    /// The checksum of an ICMP message is wrong.
    IcmpChecksum,
    /// A kind of ICMP message that is not acted on.
    IcmpUnhandled,
    /// An ICMP error about a packet that is not Homa or not from us, with an incredible MTU, or one of too
    /// many that do not say which RPC they are about.
    IcmpNotOurs,
    /// A ping that is longer than the MTU, or beyond the rate limit.
    EchoRefused,
}

impl Counters {
    /// Counts a dropped frame.
    pub(super) const fn count_drop(&mut self, reason: DropReason) {
        let counter = match reason {
            DropReason::Truncated => &mut self.drop_truncated,
            DropReason::OtherMac => &mut self.drop_other_mac,
            DropReason::OwnMac => &mut self.drop_own_mac,
            DropReason::OtherVlan => &mut self.drop_other_vlan,
            DropReason::UnknownEthertype => &mut self.drop_unknown_ethertype,
            DropReason::Group => &mut self.drop_group,
            DropReason::Ipv4Malformed => &mut self.drop_ipv4_malformed,
            DropReason::Ipv4Checksum => &mut self.drop_ipv4_checksum,
            DropReason::Ipv6Malformed => &mut self.drop_ipv6_malformed,
            DropReason::Fragment => &mut self.drop_fragment,
            DropReason::OtherAddress => &mut self.drop_other_address,
            DropReason::MartianSource => &mut self.drop_martian_source,
            DropReason::UnknownProtocol => &mut self.drop_unknown_protocol,
            DropReason::TcpUnmarked => &mut self.drop_tcp_unmarked,
            DropReason::ArpMalformed => &mut self.drop_arp_malformed,
            DropReason::ArpIgnored => &mut self.drop_arp_ignored,
            DropReason::NdMalformed => &mut self.drop_nd_malformed,
            DropReason::NdIgnored => &mut self.drop_nd_ignored,
            DropReason::StaticMismatch => &mut self.drop_static_mismatch,
            DropReason::IcmpMalformed => &mut self.drop_icmp_malformed,
            DropReason::IcmpChecksum => &mut self.drop_icmp_checksum,
            DropReason::IcmpUnhandled => &mut self.drop_icmp_unhandled,
            DropReason::IcmpNotOurs => &mut self.drop_icmp_not_ours,
            DropReason::EchoRefused => &mut self.drop_echo_refused,
        };
        *counter += 1;
    }

    /// Frames dropped for any reason.
    pub fn dropped(&self) -> u64 {
        self.iter().filter(|(name, _)| name.starts_with("drop_")).map(|(_, count)| count).sum()
    }
}
