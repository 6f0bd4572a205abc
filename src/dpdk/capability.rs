//! What a port can do, and what was agreed with it.

use std::ffi::CStr;

use dpdk_sys as sys;

use super::error::{Error, check};

/// What was agreed with a port when it was opened. Whoever builds packets for it looks here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The driver's name, such as `net_memif`.
    pub driver: String,
    /// The port verifies IPv4 header checksums of received packets.
    pub rx_ipv4_checksum: bool,
    /// The port fills in IPv4 header checksums on request
    /// ([`super::Mbuf::request_ipv4_checksum`]).
    pub tx_ipv4_checksum: bool,
    /// The port fills in TCP checksums on request ([`super::Mbuf::request_tcp_offload`]).
    pub tx_tcp_checksum: bool,
    /// Bytes of the largest frames that the port cuts from long TCP packets on request, from those of
    /// IPv4 and those of IPv6; 0 where it cuts none.
    pub tx_tcp_segment_max_bytes: [u16; 2],
    /// Packets of several segments can be transmitted. Where not, the transmit queue copies them
    /// together.
    pub multi_segs: bool,
    /// Received packets may have several segments.
    pub scatter: bool,
    /// Received packets carry a hash and are spread over the queues by it.
    pub rss: bool,
    /// Entries of the table that maps hashes to queues; zero without RSS.
    pub reta_size: u16,
    /// Bytes of the RSS key; zero if the port does not say.
    pub rss_key_bytes: u8,
    /// The most bytes of payload in a frame: what follows the Ethernet header.
    pub mtu: u16,
    /// Receive queues in use.
    pub rx_queues: u16,
    /// Transmit queues in use.
    pub tx_queues: u16,
    /// Descriptors of each receive queue.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue.
    pub tx_descriptors: u16,
    /// The most segments of a packet to transmit.
    pub segments_max: u16,
    /// The receiver gets the very buffers that were transmitted (ring): what a sender retains
    /// counts as held by the port until the receiver frees it. Buffers that are shared at
    /// reception are copied, so that a received packet always has one owner.
    pub shares_mbufs_with_receiver: bool,
    /// The driver unmaps its shared memory from another thread when its peer goes (memif). A burst
    /// in progress at that moment faults if its thread is suspended for the time it takes. There
    /// is no way to prevent that from outside: let the peers say goodbye before they close, and
    /// do not oversubscribe cores that poll such a port.
    pub unmaps_when_peer_leaves: bool,
}

/// An Ethernet header with a VLAN tag.
const TAGGED_HEADER_BYTES: u16 = 18;

/// What the driver says of itself.
pub(super) struct DriverInfo {
    pub(super) raw: sys::homa_port_info,
    pub(super) driver: String,
}

impl DriverInfo {
    pub(super) fn read(port_id: u16) -> Result<Self, Error> {
        // SAFETY: the structure consists of numbers.
        let mut raw: sys::homa_port_info = unsafe { std::mem::zeroed() };
        // SAFETY: the structure is the shim's own and lives during the call.
        let rc = unsafe { sys::homa_port_info(port_id, &mut raw) };
        check(rc, || format!("asking port {port_id} what it can do"))?;
        // SAFETY: the shim leaves the last byte of the array zero.
        let name = unsafe { CStr::from_ptr(raw.driver_name.as_ptr()) };
        let driver = name.to_string_lossy().into_owned();
        Ok(Self { raw, driver })
    }

    pub(super) fn shares_mbufs(&self) -> bool {
        self.driver == "net_ring"
    }

    /// Bytes of the largest frames that the driver cuts from TCP packets, if it cuts any. That of tap
    /// uses DPDK's library for it, which knows IPv4 alone, takes the MTU for the size of a frame, and
    /// leaves what it refuses at the head of the queue for ever.
    pub(super) fn segment_max_bytes(&self, mtu: u16) -> [u16; 2] {
        if self.driver == "net_tap" {
            [mtu, 0]
        } else {
            [mtu.saturating_add(TAGGED_HEADER_BYTES); 2]
        }
    }

    pub(super) fn is_memif(&self) -> bool {
        self.driver == "net_memif"
    }

    /// Drivers that state the frame size of Ethernet but carry frames of any size.
    pub(super) fn carries_any_frame(&self) -> bool {
        self.shares_mbufs() || self.is_memif()
    }
}

/// Offload names for the log.
pub(super) fn offload_names(rx: u64, tx: u64) -> String {
    let all = [
        (rx & sys::HOMA_RX_IPV4_CKSUM, "rx ipv4 checksum"),
        (rx & sys::HOMA_RX_SCATTER, "rx scatter"),
        (rx & sys::HOMA_RX_RSS_HASH, "rx rss hash"),
        (tx & sys::HOMA_TX_IPV4_CKSUM, "tx ipv4 checksum"),
        (tx & sys::HOMA_TX_TCP_CKSUM, "tx tcp checksum"),
        (tx & sys::HOMA_TX_TCP_TSO, "tx tcp segmentation"),
        (tx & sys::HOMA_TX_MULTI_SEGS, "tx multi segs"),
    ];
    let names: Vec<&str> = all.iter().filter(|(bit, _)| *bit != 0).map(|(_, name)| *name).collect();
    names.join(", ")
}
