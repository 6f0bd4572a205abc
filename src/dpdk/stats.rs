//! What a port counts and how its link is.

use dpdk_sys as sys;

use super::error::{Error, check};

/// Counters of a port since it was opened. Some software drivers count loosely or forget; the
/// queues' own counts are exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets transmitted.
    pub tx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes transmitted.
    pub tx_bytes: u64,
    /// Packets lost because no receive descriptor was free: the core is too slow.
    pub rx_missed: u64,
    /// Packets received with errors.
    pub rx_errors: u64,
    /// Packets that could not be transmitted.
    pub tx_errors: u64,
    /// Packets lost because the mempool was empty: too many are retained.
    pub rx_no_mbuf: u64,
}

/// The state of a port's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whether packets can pass.
    pub up: bool,
    /// The rate in megabits per second, if known. Software ports make a figure up.
    pub speed_mbps: Option<u32>,
}

pub(super) fn read(port_id: u16) -> Result<PortStats, Error> {
    // SAFETY: the structure consists of numbers.
    let mut raw: sys::homa_port_stats = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is the shim's own and lives during the call.
    let rc = unsafe { sys::homa_port_stats(port_id, &mut raw) };
    check(rc, || format!("reading the counters of port {port_id}"))?;
    Ok(PortStats {
        rx_packets: raw.ipackets,
        tx_packets: raw.opackets,
        rx_bytes: raw.ibytes,
        tx_bytes: raw.obytes,
        rx_missed: raw.imissed,
        rx_errors: raw.ierrors,
        tx_errors: raw.oerrors,
        rx_no_mbuf: raw.rx_nombuf,
    })
}

pub(super) fn link(port_id: u16) -> Result<Link, Error> {
    // SAFETY: the structure consists of numbers.
    let mut raw: sys::homa_link = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is the shim's own and lives during the call.
    let rc = unsafe { sys::homa_port_link(port_id, &mut raw) };
    check(rc, || format!("reading the link of port {port_id}"))?;
    let known = raw.speed_mbps != 0 && raw.speed_mbps != u32::MAX;
    Ok(Link { up: raw.up != 0, speed_mbps: known.then_some(raw.speed_mbps) })
}

/// The driver's own counters by name.
pub(super) fn read_extended(port_id: u16) -> Result<Vec<(String, u64)>, Error> {
    let what = || format!("reading the extended counters of port {port_id}");
    // SAFETY: without an array the call says how many there are.
    let count = unsafe { sys::rte_eth_xstats_get(port_id, std::ptr::null_mut(), 0) };
    check(count, what)?;
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: both structures consist of numbers.
    let mut names: Vec<sys::rte_eth_xstat_name> = vec![unsafe { std::mem::zeroed() }; count];
    // SAFETY: as above.
    let mut values: Vec<sys::rte_eth_xstat> = vec![unsafe { std::mem::zeroed() }; count];
    let n = u32::try_from(count).unwrap_or(0);
    // SAFETY: the arrays are as long as said.
    check(unsafe { sys::rte_eth_xstats_get_names(port_id, names.as_mut_ptr(), n) }, what)?;
    // SAFETY: as above.
    let filled = unsafe { sys::rte_eth_xstats_get(port_id, values.as_mut_ptr(), n) };
    check(filled, what)?;
    // More than there is room for means that none was filled in.
    let filled = usize::try_from(filled).ok().filter(|&n| n <= count).unwrap_or(0);
    Ok(values[..filled]
        .iter()
        .filter_map(|value| {
            let name = names.get(usize::try_from(value.id).ok()?)?;
            let bytes: Vec<u8> =
                name.name.iter().take_while(|&&c| c != 0).map(|&c| c.cast_unsigned()).collect();
            Some((String::from_utf8_lossy(&bytes).into_owned(), value.value))
        })
        .collect())
}
