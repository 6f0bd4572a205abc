//! Opening a device: what is wanted meets what the driver can.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use dpdk_sys as sys;

use super::capability::{Capabilities, DriverInfo, offload_names};
use super::device::{MacBytes, across_tap};
use super::error::{Error, check, errno_text};
use super::flow::{self, Flow, FlowForm, FlowRule};
use super::ring_pair::RingPair;
use super::stats::{self, Link, PortStats};
use super::{DeviceSpec, Eal, MemifRole, Mempool, RxQueue, TxQueue, kernel_link};

/// Ethernet header, VLAN tag and check sequence around the payload of a frame.
const FRAME_OVERHEAD_BYTES: usize = 14 + 4 + 4;
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// A server of the same machine answers within milliseconds.
const CONNECT_INTERVAL: Duration = Duration::from_millis(200);

/// How to open a device.
#[derive(Clone, Debug)]
pub struct PortBuilder {
    rx_queues: u16,
    tx_queues: u16,
    rx_descriptors: u16,
    tx_descriptors: u16,
    mtu: u16,
    promiscuous: bool,
    all_multicast: bool,
    checksum_offload: bool,
    rss_key: Option<Vec<u8>>,
    rss: bool,
    mac: Option<MacBytes>,
    start_timeout: Duration,
    pools: Vec<Mempool>,
}

impl PortBuilder {
    /// One queue of 1024 descriptors each way, MTU 1500; received packets go to `pool`.
    pub fn new(pool: &Mempool) -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: 1500,
            promiscuous: false,
            all_multicast: false,
            checksum_offload: true,
            rss_key: None,
            rss: false,
            mac: None,
            start_timeout: Duration::from_secs(10),
            pools: vec![pool.clone()],
        }
    }

    /// Receive and transmit queues, usually one pair per core.
    pub fn queues(mut self, rx: u16, tx: u16) -> Self {
        (self.rx_queues, self.tx_queues) = (rx, tx);
        self
    }

    /// The same, but no more than the driver has.
    ///
    /// # Errors
    /// When the driver does not say how many it has.
    pub fn queues_up_to(self, eal: &Eal, index: usize, wanted: u16) -> Result<Self, Error> {
        let Some(device) = eal.devices().get(index) else { return Ok(self.queues(wanted, wanted)) };
        let raw = DriverInfo::read(device.port_id())?.raw;
        let most = |driver: u16| wanted.min(driver).clamp(1, sys::HOMA_MAX_QUEUES_PER_PORT);
        Ok(self.queues(most(raw.max_rx_queues), most(raw.max_tx_queues)))
    }

    /// The same, with as much of `key` as the port takes.
    ///
    /// # Errors
    /// When the driver does not say.
    pub fn rss_with(self, eal: &Eal, index: usize, key: &[u8]) -> Result<Self, Error> {
        let Some(device) = eal.devices().get(index) else { return Ok(self) };
        let bytes = usize::from(DriverInfo::read(device.port_id())?.raw.hash_key_size);
        Ok(self.rss(key.get(..bytes).filter(|key| !key.is_empty()).map(<[u8]>::to_vec)))
    }

    /// Descriptors of each receive and transmit queue; adjusted to what the driver takes.
    pub fn descriptors(mut self, rx: u16, tx: u16) -> Self {
        (self.rx_descriptors, self.tx_descriptors) = (rx, tx);
        self
    }

    /// A pool for each receive queue, in place of one for all.
    pub fn pools(mut self, pools: Vec<Mempool>) -> Self {
        self.pools = pools;
        self
    }

    /// The most bytes of payload in a frame.
    pub fn mtu(mut self, mtu: u16) -> Self {
        self.mtu = mtu;
        self
    }

    /// Receive frames for other hardware addresses as well.
    pub fn promiscuous(mut self, promiscuous: bool) -> Self {
        self.promiscuous = promiscuous;
        self
    }

    /// Receive frames for groups of stations as well, as IPv6 needs.
    pub fn all_multicast(mut self, all_multicast: bool) -> Self {
        self.all_multicast = all_multicast;
        self
    }

    /// Whether to use IPv4 header and TCP checksums in hardware, and segmentation of TCP, where the
    /// port has them (default yes).
    pub fn checksum_offload(mut self, wanted: bool) -> Self {
        self.checksum_offload = wanted;
        self
    }

    /// Spread received packets over the queues by hash, with this key or the driver's.
    pub fn rss(mut self, key: Option<Vec<u8>>) -> Self {
        (self.rss, self.rss_key) = (true, key);
        self
    }

    /// The hardware address to use.
    pub fn mac(mut self, mac: MacBytes) -> Self {
        self.mac = Some(mac);
        self
    }

    /// How long a memif client goes on trying when its server is not there yet (default 10 s). Its
    /// link is up when [`PortBuilder::open`] returns.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// Opens and starts device `index` of [`Eal::devices`].
    ///
    /// # Errors
    /// When the driver cannot do what was asked; the text says what it can.
    pub fn open(&self, eal: &Eal, index: usize) -> Result<Port, Error> {
        let device = eal.devices().get(index).ok_or_else(|| {
            Error::Config(format!("there is no device {index}: {} exist", eal.devices().len()))
        })?;
        let spec = device.spec();
        device.check_unopened()?;
        let info = DriverInfo::read(device.port_id())?;
        let plan = self.plan(spec, &info)?;
        device.claim()?;
        // From here on a failure drops this and thereby closes the port.
        let mut owned = Owned {
            port_id: device.port_id(),
            spec: spec.clone(),
            rx_queues: 0,
            drain: info.shares_mbufs(),
            started: false,
            ring_pair: device.ring_pair.clone(),
            pools: self.pools.clone(),
            _eal: eal.clone(),
        };
        if let Some(pair) = &owned.ring_pair {
            pair.port_opened();
        }
        let (rx_descriptors, tx_descriptors) = self.configure(&owned, &plan)?;
        let mac = self.set_mac(&owned)?;
        self.start(&owned)?;
        (owned.started, owned.rx_queues) = (true, self.rx_queues);
        self.set_filters(&owned)?;
        let mut capabilities = plan.capabilities;
        (capabilities.rx_descriptors, capabilities.tx_descriptors) =
            (rx_descriptors, tx_descriptors);
        log::info!("port {spec}: {capabilities:?}");
        Ok(self.port(owned, capabilities, mac))
    }

    /// What will be asked of the driver, which it is known to take.
    fn plan(&self, spec: &DeviceSpec, info: &DriverInfo) -> Result<Plan, Error> {
        let raw = &info.raw;
        self.check_queues(spec, raw)?;
        spec.check_mtu(self.mtu)?;
        let any_frame = info.carries_any_frame() || spec.has_slots_for(self.mtu);
        if !any_frame && !(raw.min_mtu..=raw.max_mtu).contains(&self.mtu) {
            return Err(Error::device(
                spec,
                format!("MTU {}: the driver takes {} to {}", self.mtu, raw.min_mtu, raw.max_mtu),
            ));
        }
        let checksum = if self.checksum_offload { u64::MAX } else { 0 };
        let want_rss = self.rss && self.rx_queues > 1;
        let rss_wish = if want_rss { sys::HOMA_RX_RSS_HASH } else { 0 };
        let want_rx = (sys::HOMA_RX_IPV4_CKSUM & checksum) | sys::HOMA_RX_SCATTER | rss_wish;
        let want_tx = (TX_CHECKSUM_OFFLOADS & checksum) | sys::HOMA_TX_MULTI_SEGS;
        let rx_offloads = want_rx & raw.rx_offload_capa;
        let mut tx_offloads = want_tx & raw.tx_offload_capa;
        // Segments get checksums of their own, and come from packets of several buffers.
        if tx_offloads & TX_SEGMENTATION_OFFLOADS != TX_SEGMENTATION_OFFLOADS {
            tx_offloads &= !sys::HOMA_TX_TCP_TSO;
        }
        let lacking = offload_names(want_rx & !rx_offloads, want_tx & !tx_offloads);
        if !lacking.is_empty() {
            log::debug!("port {spec} does not offer {lacking}");
        }
        let rss_hf = if want_rss { RSS_WANTED & raw.rss_hf_capa } else { 0 };
        if want_rss && rss_hf == 0 {
            log::warn!("port {spec} cannot spread packets over its {} queues", self.rx_queues);
        }
        let scatter = rx_offloads & sys::HOMA_RX_SCATTER != 0 || info.is_memif();
        self.check_pools(spec, scatter)?;
        let multi_segs = tx_offloads & sys::HOMA_TX_MULTI_SEGS != 0;
        Ok(Plan {
            capabilities: Capabilities {
                driver: info.driver.clone(),
                rx_ipv4_checksum: rx_offloads & sys::HOMA_RX_IPV4_CKSUM != 0,
                tx_ipv4_checksum: tx_offloads & sys::HOMA_TX_IPV4_CKSUM != 0,
                tx_tcp_checksum: tx_offloads & sys::HOMA_TX_TCP_CKSUM != 0,
                tx_tcp_segment_max_bytes: if tx_offloads & sys::HOMA_TX_TCP_TSO != 0 {
                    info.segment_max_bytes(self.mtu)
                } else {
                    [0; 2]
                },
                multi_segs,
                scatter,
                rss: rss_hf != 0,
                reta_size: if rss_hf != 0 { raw.reta_size } else { 0 },
                rss_key_bytes: raw.hash_key_size,
                mtu: self.mtu,
                rx_queues: self.rx_queues,
                tx_queues: self.tx_queues,
                rx_descriptors: self.rx_descriptors,
                tx_descriptors: self.tx_descriptors,
                segments_max: match (multi_segs, raw.tx_nb_seg_max) {
                    (false, _) => 1,
                    (true, 0) => u16::MAX,
                    (true, max) => max,
                },
                shares_mbufs_with_receiver: info.shares_mbufs(),
                unmaps_when_peer_leaves: info.is_memif(),
            },
            // A driver that carries any frame may refuse to hear of it.
            mtu: if any_frame { 0 } else { u32::from(self.mtu) },
            rx_offloads,
            tx_offloads,
            rss_hf,
        })
    }

    fn check_queues(&self, spec: &DeviceSpec, raw: &sys::homa_port_info) -> Result<(), Error> {
        for (kind, wanted, max) in [
            ("receive", self.rx_queues, raw.max_rx_queues),
            ("transmit", self.tx_queues, raw.max_tx_queues),
        ] {
            let max = max.min(sys::HOMA_MAX_QUEUES_PER_PORT);
            if wanted == 0 || wanted > max {
                let text = format!("{wanted} {kind} queues: the driver takes 1 to {max}");
                return Err(Error::device(spec, text));
            }
        }
        Ok(())
    }

    fn check_pools(&self, spec: &DeviceSpec, scatter: bool) -> Result<(), Error> {
        if self.pools.len() != 1 && self.pools.len() != usize::from(self.rx_queues) {
            return Err(Error::Config(format!(
                "{} pools for {} receive queues: give one, or one for each",
                self.pools.len(),
                self.rx_queues
            )));
        }
        let frame = usize::from(self.mtu) + FRAME_OVERHEAD_BYTES;
        match self.pools.iter().find(|pool| !scatter && pool.data_room_bytes() < frame) {
            Some(pool) => Err(Error::device(
                spec,
                format!(
                    "a frame of {frame} bytes does not fit a packet buffer of {} and the driver \
                     cannot spread it over several: make the data room larger",
                    pool.data_room_bytes()
                ),
            )),
            None => Ok(()),
        }
    }

    fn configure(&self, port: &Owned, plan: &Plan) -> Result<(u16, u16), Error> {
        let (id, spec) = (port.port_id, &port.spec);
        let key = self.rss_key.as_deref().unwrap_or_default();
        let conf = sys::homa_port_conf {
            rx_offloads: plan.rx_offloads,
            tx_offloads: plan.tx_offloads,
            rss_hf: plan.rss_hf,
            rss_key: if key.is_empty() { std::ptr::null() } else { key.as_ptr() },
            mtu: plan.mtu,
            rx_queues: self.rx_queues,
            tx_queues: self.tx_queues,
            rss_key_len: u8::try_from(key.len()).map_err(|_| {
                Error::Config(format!("an RSS key of {} bytes is too long", key.len()))
            })?,
        };
        // SAFETY: the port exists and is ours; the structure and the key live during the call.
        let rc = unsafe { sys::homa_port_configure(id, &conf) };
        check(rc, || format!("configuring port {spec}"))?;
        let (mut rx, mut tx) = (self.rx_descriptors, self.tx_descriptors);
        // SAFETY: the port exists; there is room for both numbers.
        let rc = unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &mut rx, &mut tx) };
        check(rc, || format!("finding the number of descriptors of port {spec}"))?;
        // SAFETY: asks for a number.
        let numa_node = unsafe { sys::rte_eth_dev_socket_id(id) }.cast_unsigned();
        for queue_id in 0..self.rx_queues {
            let pool = self.pool_of(queue_id).as_raw();
            // SAFETY: the port is configured with this many queues; the pool outlives the port,
            // which holds a handle of it.
            let rc = unsafe { sys::homa_rx_queue_setup(id, queue_id, rx, numa_node, pool) };
            check(rc, || format!("setting receive queue {queue_id} of port {spec} up"))?;
        }
        for queue_id in 0..self.tx_queues {
            // SAFETY: the port is configured with this many queues.
            let rc =
                unsafe { sys::homa_tx_queue_setup(id, queue_id, tx, numa_node, plan.tx_offloads) };
            check(rc, || format!("setting transmit queue {queue_id} of port {spec} up"))?;
        }
        Ok((rx, tx))
    }

    /// Returns the address in force. A driver that has none to set leaves it to us to look.
    fn set_mac(&self, port: &Owned) -> Result<MacBytes, Error> {
        let is_tap = matches!(port.spec, DeviceSpec::Tap { .. });
        if let Some(mac) = self.mac {
            let theirs = if is_tap { across_tap(mac) } else { mac };
            let mut address = sys::rte_ether_addr { addr_bytes: theirs };
            // SAFETY: the port exists and the address lives during the call.
            let rc = unsafe { sys::rte_eth_dev_default_mac_addr_set(port.port_id, &mut address) };
            if rc != 0 {
                log::debug!("port {} keeps its own address: {}", port.spec, errno_text(-rc));
            }
            return Ok(mac);
        }
        let mut address = sys::rte_ether_addr { addr_bytes: [0; 6] };
        // SAFETY: the port exists and there is room for the address.
        let rc = unsafe { sys::rte_eth_macaddr_get(port.port_id, &mut address) };
        check(rc, || format!("reading the hardware address of port {}", port.spec))?;
        if address.addr_bytes == [0; 6] {
            // Locally administered, and different for each port of the process.
            let [high, low] = port.port_id.to_be_bytes();
            return Ok([0x02, 0x68, 0x6f, 0x6d, high, low]);
        }
        Ok(if is_tap { across_tap(address.addr_bytes) } else { address.addr_bytes })
    }

    fn start(&self, port: &Owned) -> Result<(), Error> {
        if matches!(port.spec, DeviceSpec::Memif { role: MemifRole::Client, .. }) {
            return self.connect(port);
        }
        // SAFETY: the port is configured and all its queues are set up.
        let rc = unsafe { sys::rte_eth_dev_start(port.port_id) };
        check(rc, || format!("starting port {}", port.spec))
    }

    /// Starts a client again and again. Its driver tries once, and a server turns clients away
    /// between making its socket and being started.
    fn connect(&self, port: &Owned) -> Result<(), Error> {
        let deadline = Instant::now() + self.start_timeout;
        loop {
            // SAFETY: the port is configured, all its queues are set up, and it is stopped.
            if unsafe { sys::rte_eth_dev_start(port.port_id) } == 0 {
                if wait_for_link(port, CONNECT_INTERVAL)? {
                    return Ok(());
                }
                // SAFETY: the port is started, and nobody has its queues yet.
                unsafe { sys::rte_eth_dev_stop(port.port_id) };
            }
            if Instant::now() >= deadline {
                let text = "no server answers on the socket: start it first";
                return Err(Error::device(&port.spec, text));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Opens the filter of hardware addresses as far as was asked. Drivers without the notion of one
    /// receive everything.
    fn set_filters(&self, port: &Owned) -> Result<(), Error> {
        let mut promiscuous = self.promiscuous;
        if self.all_multicast && !promiscuous {
            // SAFETY: the port is started.
            let rc = unsafe { sys::rte_eth_allmulticast_enable(port.port_id) };
            // There are drivers that can only have all frames or those for one station.
            promiscuous = rc != 0;
        }
        if !promiscuous {
            return Ok(());
        }
        // SAFETY: the port is started.
        let rc = unsafe { sys::rte_eth_promiscuous_enable(port.port_id) };
        if rc == -libc::ENOTSUP {
            return Ok(());
        }
        check(rc, || format!("making port {} promiscuous", port.spec))
    }

    fn port(&self, owned: Owned, capabilities: Capabilities, mac: MacBytes) -> Port {
        let owned = Arc::new(owned);
        let copy_shared = capabilities.shares_mbufs_with_receiver;
        let rx = (0..self.rx_queues)
            .map(|id| Some(RxQueue::new(&owned, id, self.pool_of(id).clone(), copy_shared)))
            .collect();
        let prepare = capabilities.tx_ipv4_checksum || capabilities.tx_tcp_checksum;
        let segments_max = capabilities.segments_max;
        let tx = (0..self.tx_queues)
            .map(|id| Some(TxQueue::new(&owned, id, segments_max, prepare)))
            .collect();
        Port { rx, tx, flows: Vec::new(), capabilities, mac, owned }
    }

    fn pool_of(&self, queue_id: u16) -> &Mempool {
        self.pools.get(usize::from(queue_id)).unwrap_or(&self.pools[0])
    }
}

/// Protocol 146 has no ports that a NIC would know, so addresses decide; TCP is for the
/// TCP-marked form.
const RSS_WANTED: u64 = sys::HOMA_RSS_IPV4
    | sys::HOMA_RSS_IPV4_OTHER
    | sys::HOMA_RSS_IPV4_TCP
    | sys::HOMA_RSS_IPV6
    | sys::HOMA_RSS_IPV6_OTHER
    | sys::HOMA_RSS_IPV6_TCP;

const TX_CHECKSUM_OFFLOADS: u64 =
    sys::HOMA_TX_IPV4_CKSUM | sys::HOMA_TX_TCP_CKSUM | sys::HOMA_TX_TCP_TSO;
/// What a port needs to cut packets of ours into segments.
const TX_SEGMENTATION_OFFLOADS: u64 = TX_CHECKSUM_OFFLOADS | sys::HOMA_TX_MULTI_SEGS;

struct Plan {
    capabilities: Capabilities,
    mtu: u32,
    rx_offloads: u64,
    tx_offloads: u64,
    rss_hf: u64,
}

/// An open port: its control side. The queues are taken from it, one handle each, and moved to
/// the threads that poll them. The port is stopped and closed when this and all queues are gone.
#[derive(Debug)]
pub struct Port {
    // Before `owned`: they hold it, too.
    rx: Vec<Option<RxQueue>>,
    tx: Vec<Option<TxQueue>>,
    flows: Vec<Flow>,
    capabilities: Capabilities,
    mac: MacBytes,
    owned: Arc<Owned>,
}

impl Port {
    /// What was agreed with the driver.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// How the device was described.
    pub fn spec(&self) -> &DeviceSpec {
        &self.owned.spec
    }

    /// DPDK's number of the port, as in [`super::Mbuf::port_id`].
    pub fn port_id(&self) -> u16 {
        self.owned.port_id
    }

    /// The hardware address.
    pub fn mac(&self) -> MacBytes {
        self.mac
    }

    /// The handle of a receive queue; `None` if there is no such queue or it was taken before.
    pub fn take_rx_queue(&mut self, queue_id: u16) -> Option<RxQueue> {
        self.rx.get_mut(usize::from(queue_id))?.take()
    }

    /// The handle of a transmit queue; `None` if there is no such queue or it was taken before.
    pub fn take_tx_queue(&mut self, queue_id: u16) -> Option<TxQueue> {
        self.tx.get_mut(usize::from(queue_id))?.take()
    }

    /// The state of the link now. Cheap, but not for every burst.
    ///
    /// # Errors
    /// When the driver cannot say.
    pub fn link(&self) -> Result<Link, Error> {
        self.owned.link()
    }

    /// Waits until the link is up; `false` if it is not within `timeout`.
    ///
    /// # Errors
    /// When the driver cannot say.
    pub fn wait_for_link(&self, timeout: Duration) -> Result<bool, Error> {
        wait_for_link(&self.owned, timeout)
    }

    /// The port's counters.
    ///
    /// # Errors
    /// When the driver cannot say.
    pub fn stats(&self) -> Result<PortStats, Error> {
        stats::read(self.owned.port_id)
    }

    /// The driver's own counters by name.
    ///
    /// # Errors
    /// When the driver cannot say.
    pub fn extended_stats(&self) -> Result<Vec<(String, u64)>, Error> {
        stats::read_extended(self.owned.port_id)
    }

    /// The table that maps hashes to receive queues; empty without RSS.
    ///
    /// # Errors
    /// When the driver cannot say.
    pub fn redirection_table(&self) -> Result<Vec<u16>, Error> {
        let n = self.capabilities.reta_size;
        let mut queues = vec![0; usize::from(n)];
        if n > 0 {
            // SAFETY: the array has `n` elements.
            let rc = unsafe { sys::homa_port_reta(self.owned.port_id, queues.as_mut_ptr(), n) };
            check(rc, || format!("reading the redirection table of port {}", self.owned.spec))?;
        }
        Ok(queues)
    }

    /// Sets which queue each hash goes to, by its low bits.
    ///
    /// # Errors
    /// When the driver does not take it.
    pub fn set_redirection_table(&self, queues: &[u16]) -> Result<(), Error> {
        let entries = u16::try_from(queues.len())
            .map_err(|_| Error::Config(format!("a redirection table of {}", queues.len())))?;
        // SAFETY: the array has as many elements as said.
        let rc = unsafe { sys::homa_port_set_reta(self.owned.port_id, queues.as_ptr(), entries) };
        check(rc, || format!("setting the redirection table of port {}", self.owned.spec))
    }

    /// Has the port sort received packets by these rules, for as long as it is open; all of them, or
    /// none. Gives the form in which the driver took them.
    ///
    /// # Errors
    /// When the driver does not take a rule in any form; the text says what it has against it.
    pub fn add_flow_rules(&mut self, rules: &[FlowRule]) -> Result<FlowForm, Error> {
        let (form, flows) = flow::create_all(&self.owned, rules)?;
        self.flows.extend(flows);
        Ok(form)
    }

    /// Stops and closes the port now.
    ///
    /// # Errors
    /// When queues are still out: the port is closed when the last of them is dropped.
    pub fn close(self) -> Result<(), Error> {
        let Self { rx, tx, flows, owned, .. } = self;
        drop((rx, tx, flows));
        match Arc::try_unwrap(owned) {
            Ok(owned) => {
                drop(owned);
                Ok(())
            }
            Err(owned) => Err(Error::InUse(format!(
                "port {} has {} queues in use: drop them first",
                owned.spec,
                Arc::strong_count(&owned) - 1
            ))),
        }
    }
}

fn wait_for_link(port: &Owned, timeout: Duration) -> Result<bool, Error> {
    let deadline = Instant::now() + timeout;
    loop {
        if port.link()?.up {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// What is closed when the port and its queues are gone.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) port_id: u16,
    pub(super) spec: DeviceSpec,
    rx_queues: u16,
    /// Packets left in the rings must be taken out before they go.
    drain: bool,
    started: bool,
    ring_pair: Option<Arc<RingPair>>,
    /// The rings hold buffers of these.
    pools: Vec<Mempool>,
    _eal: Eal,
}

impl Owned {
    fn link(&self) -> Result<Link, Error> {
        let link = stats::link(self.port_id)?;
        Ok(Link { up: link.up && kernel_link::is_up(&self.spec)?, ..link })
    }

    fn drain_rings(&self) {
        let mut mbufs = [std::ptr::null_mut(); 32];
        for queue_id in 0..self.rx_queues {
            loop {
                let room = mbufs.len() as u16;
                // SAFETY: the port is started and no handle of its queues is left; the array has
                // the room.
                let n =
                    unsafe { sys::homa_rx_burst(self.port_id, queue_id, mbufs.as_mut_ptr(), room) };
                if n == 0 {
                    break;
                }
                // SAFETY: the driver filled in `n` packets, now ours.
                unsafe { sys::rte_pktmbuf_free_bulk(mbufs.as_mut_ptr(), u32::from(n)) };
            }
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if self.started {
            if self.drain {
                self.drain_rings();
            }
            // SAFETY: the port is started, and no queue handle is left that could poll it.
            let rc = unsafe { sys::rte_eth_dev_stop(self.port_id) };
            if rc != 0 {
                log::warn!("stopping port {}: {}", self.spec, errno_text(-rc));
            }
        }
        // SAFETY: the port is stopped or was never started, and is ours.
        let rc = unsafe { sys::rte_eth_dev_close(self.port_id) };
        if rc != 0 {
            log::warn!("closing port {}: {}", self.spec, errno_text(-rc));
        }
        if let Some(pair) = &self.ring_pair {
            pair.port_closed();
        }
        log::debug!("port {} is closed; its {} pools may go", self.spec, self.pools.len());
    }
}
