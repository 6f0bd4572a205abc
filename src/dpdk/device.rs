//! Devices as one writes them: `memif:/run/a.sock,role=server`, `tap:homa0`, `pci:0000:3b:00.0`.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::str::FromStr;

use super::error::Error;

/// A hardware address.
pub type MacBytes = [u8; 6];

/// Which side of a memif connection a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemifRole {
    /// Makes the socket and waits.
    Server,
    /// Connects to it.
    Client,
}

/// A description of a port that DPDK is to open. Written as `kind`, `kind:name` or
/// `kind:name,key=value,...`; the same text comes out of `Display`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceSpec {
    /// `memif:SOCKET,role=server|client[,id=N][,bsize=BYTES][,rsize=LOG2][,zero-copy=yes]`
    /// `[,mac=ADDRESS][,socket-abstract=yes]`: shared memory between two processes. Role client
    /// unless given; start the server first.
    Memif {
        /// Path (or abstract name) of the socket.
        socket: String,
        /// Which side this process is.
        role: MemifRole,
        /// Number of the connection on the socket.
        id: u32,
        /// Bytes of each buffer in shared memory.
        buffer_bytes: Option<u32>,
        /// Binary logarithm of the ring's slots.
        ring_log2: Option<u8>,
        /// Let the client's packet buffers be the shared memory. Needs hugepages.
        zero_copy: bool,
        /// The hardware address.
        mac: Option<MacBytes>,
        /// The socket has no file.
        abstract_socket: bool,
    },
    /// `ring`: a port that receives what it transmits, queue by queue. `ring:NAME[,queues=N]`
    /// `[,entries=N]`, given twice: two ports wired crosswise.
    Ring {
        /// The name of a pair; `None` for a loop.
        pair: Option<String>,
        /// Queues of each port of the pair.
        queues: u16,
        /// Slots of each ring of the pair, a power of two.
        entries: u32,
    },
    /// `tap:NAME[,mac=ADDRESS]`: a new network interface of the kernel.
    Tap {
        /// The interface's name.
        interface: String,
        /// The hardware address of our side.
        mac: Option<MacBytes>,
    },
    /// `af_packet:INTERFACE[,qpairs=N][,framesz=BYTES][,framecnt=N][,blocksz=BYTES]`
    /// `[,qdisc_bypass=1]`: an interface of the kernel through packet sockets.
    AfPacket {
        /// The interface's name.
        interface: String,
        /// Driver options, in order of name.
        options: BTreeMap<String, u32>,
    },
    /// `af_xdp:INTERFACE[,start_queue=N][,queue_count=N][,force_copy=1]`: the same through XDP
    /// sockets.
    AfXdp {
        /// The interface's name.
        interface: String,
        /// Driver options, in order of name.
        options: BTreeMap<String, u32>,
    },
    /// `pcap:rx=FILE,tx=FILE`: receive from one capture file, transmit to another; either may be
    /// left out.
    Pcap {
        /// Packets to receive.
        rx: Option<String>,
        /// Where transmitted packets go.
        tx: Option<String>,
    },
    /// `null[:size=BYTES]`: receives packets of zeros without end, transmits to nowhere.
    Null {
        /// Bytes of each received packet.
        size_bytes: Option<u32>,
    },
    /// `pci:ADDRESS`: hardware.
    Pci {
        /// Domain, bus, device and function, such as `0000:3b:00.0`.
        address: String,
    },
}

const KINDS: &str = "memif:SOCKET,role=server, ring, ring:NAME, tap:NAME, af_packet:INTERFACE, af_xdp:INTERFACE, \
     pcap:rx=FILE,tx=FILE, null, pci:ADDRESS";
const AF_PACKET_OPTIONS: [&str; 5] = ["blocksz", "framecnt", "framesz", "qdisc_bypass", "qpairs"];
const AF_XDP_OPTIONS: [&str; 4] = ["busy_budget", "force_copy", "queue_count", "start_queue"];
/// Bytes of a slot of packet sockets unless given, and the largest MTU that the driver knows of.
const SLOT_BYTES: u32 = 2048;
const SLOT_MTU: u16 = 1500;
/// Slots grow in these steps, so that eight of any size fill whole pages; their number stays that of
/// the driver, 512.
const SLOT_STEP_BYTES: u32 = 512;
const PAGE_BYTES: u32 = 4096;
/// What the kernel puts in front of a frame in its slot, and the headers of Ethernet.
const SLOT_OVERHEAD_BYTES: u32 = 96;
/// Bytes of a buffer of memif unless given, and the most that its driver takes.
const MEMIF_BUFFER_BYTES: u32 = 2048;
const MEMIF_BUFFER_BYTES_MAX: u32 = 65_535;
/// Binary logarithm of the most slots of a memif ring.
const MEMIF_RING_LOG2_MAX: u8 = 14;
/// What of a frame is not counted in the MTU: the headers of Ethernet and 802.1Q.
const ETHERNET_BYTES: u32 = 18;
/// Queues and slots of a ring pair unless given.
const PAIR_QUEUES: u16 = 1;
const PAIR_QUEUES_MAX: u16 = 16;
const PAIR_ENTRIES: u32 = 1024;
/// Characters of a pair's name, which becomes part of DPDK names of limited length.
const PAIR_NAME_MAX: usize = 12;
/// Bytes of the path of a socket, without the one that ends it.
const SOCKET_PATH_MAX: usize = 107;
/// Characters of the kernel's interface names.
const INTERFACE_NAME_MAX: usize = 15;

impl FromStr for DeviceSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let mut parts = Parts::new(text, rest)?;
        let spec = match kind {
            "memif" => memif(&mut parts)?,
            "ring" => ring(&mut parts)?,
            "tap" => Self::Tap { interface: parts.interface()?, mac: parts.take_mac()? },
            "af_packet" => Self::AfPacket {
                interface: parts.interface()?,
                options: parts.take_numbers(&AF_PACKET_OPTIONS)?,
            },
            "af_xdp" => Self::AfXdp {
                interface: parts.interface()?,
                options: parts.take_numbers(&AF_XDP_OPTIONS)?,
            },
            "pcap" => Self::Pcap { rx: parts.take("rx"), tx: parts.take("tx") },
            "null" => Self::Null { size_bytes: parts.take_number("size")? },
            "pci" => Self::Pci { address: pci_address(&mut parts)? },
            _ => return Err(parts.wrong(format!("there is no kind {kind:?}; write {KINDS}"))),
        };
        parts.finish()?;
        if spec == (Self::Pcap { rx: None, tx: None }) {
            return Err(Error::device(&text, "name a file: pcap:rx=FILE,tx=FILE"));
        }
        Ok(spec)
    }
}

fn memif(parts: &mut Parts<'_>) -> Result<DeviceSpec, Error> {
    let role = match parts.take("role").as_deref() {
        Some("server") => MemifRole::Server,
        Some("client") | None => MemifRole::Client,
        Some(other) => {
            return Err(parts.wrong(format!("role {other:?} is neither server nor client")));
        }
    };
    let (buffer_bytes, ring_log2) = (parts.take_number("bsize")?, parts.take_number("rsize")?);
    if let Some(bytes) = buffer_bytes
        && !(1..=MEMIF_BUFFER_BYTES_MAX).contains(&bytes)
    {
        return Err(parts.wrong(format!("bsize={bytes}: write 1 to {MEMIF_BUFFER_BYTES_MAX}")));
    }
    if let Some(log2) = ring_log2
        && !(1..=MEMIF_RING_LOG2_MAX).contains(&log2)
    {
        return Err(parts.wrong(format!("rsize={log2}: write 1 to {MEMIF_RING_LOG2_MAX}")));
    }
    Ok(DeviceSpec::Memif {
        socket: parts.name("the path of a socket")?,
        role,
        id: parts.take_number("id")?.unwrap_or(0),
        buffer_bytes,
        ring_log2,
        zero_copy: parts.take_yes("zero-copy")?,
        mac: parts.take_mac()?,
        abstract_socket: parts.take_yes("socket-abstract")?,
    })
}

fn ring(parts: &mut Parts<'_>) -> Result<DeviceSpec, Error> {
    let pair = parts.name.take();
    if let Some(name) = &pair
        && (name.len() > PAIR_NAME_MAX || !name.bytes().all(|b| b.is_ascii_alphanumeric()))
    {
        return Err(parts.wrong(format!(
            "the name of a ring pair is 1 to {PAIR_NAME_MAX} letters and digits, not {name:?}"
        )));
    }
    if pair.is_none() && !parts.options.is_empty() {
        return Err(parts.wrong("queues and entries belong to a pair: ring:NAME,queues=N".into()));
    }
    let queues = parts.take_number("queues")?.unwrap_or(PAIR_QUEUES);
    let entries = parts.take_number("entries")?.unwrap_or(PAIR_ENTRIES);
    if !(1..=PAIR_QUEUES_MAX).contains(&queues) {
        return Err(parts.wrong(format!("{queues} queues: write 1 to {PAIR_QUEUES_MAX}")));
    }
    if !u32::is_power_of_two(entries) {
        return Err(parts.wrong(format!("{entries} entries is not a power of two")));
    }
    Ok(DeviceSpec::Ring { pair, queues, entries })
}

fn pci_address(parts: &mut Parts<'_>) -> Result<String, Error> {
    let address = parts.name("a PCI address")?;
    let hex =
        |text: &str, len: usize| text.len() == len && text.bytes().all(|b| b.is_ascii_hexdigit());
    let fields: Vec<&str> = address.split([':', '.']).collect();
    let lengths: &[usize] = if fields.len() == 4 { &[4, 2, 2, 1] } else { &[2, 2, 1] };
    let fits = fields.len() == lengths.len()
        && address.rfind('.') == Some(address.len().saturating_sub(2))
        && fields.iter().zip(lengths).all(|(field, len)| hex(field, *len));
    if fits { Ok(address) } else { Err(parts.wrong("write pci:0000:3b:00.0".into())) }
}

/// The text of a device taken apart: a name, then `key=value` pairs.
struct Parts<'a> {
    text: &'a str,
    name: Option<String>,
    options: BTreeMap<&'a str, &'a str>,
}

impl<'a> Parts<'a> {
    fn new(text: &'a str, rest: &'a str) -> Result<Self, Error> {
        let mut parts = Self { text, name: None, options: BTreeMap::new() };
        for (at, part) in rest.split(',').enumerate() {
            match part.split_once('=') {
                Some((key, value)) if !key.is_empty() && !value.is_empty() => {
                    if parts.options.insert(key, value).is_some() {
                        return Err(parts.wrong(format!("{key} is given twice")));
                    }
                }
                None if at == 0 && part.is_empty() => {}
                None if at == 0 => parts.name = Some(part.to_owned()),
                _ => return Err(parts.wrong(format!("{part:?} is not of the form key=value"))),
            }
        }
        Ok(parts)
    }

    fn wrong(&self, problem: String) -> Error {
        Error::device(&self.text, problem)
    }

    fn name(&mut self, what: &str) -> Result<String, Error> {
        self.name.take().ok_or_else(|| self.wrong(format!("write {what} behind the colon")))
    }

    fn interface(&mut self) -> Result<String, Error> {
        let name = self.name("the name of an interface")?;
        let fits = name.len() <= INTERFACE_NAME_MAX && !name.contains(['/', ' ', ':']);
        if fits {
            Ok(name)
        } else {
            Err(self.wrong(format!(
                "{name:?} is not an interface name (up to {INTERFACE_NAME_MAX} characters)"
            )))
        }
    }

    fn take(&mut self, key: &str) -> Option<String> {
        self.options.remove(key).map(str::to_owned)
    }

    fn take_number<T: FromStr>(&mut self, key: &str) -> Result<Option<T>, Error> {
        let Some(value) = self.options.remove(key) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| self.wrong(format!("{key}={value} is not a number")))
    }

    fn take_numbers(&mut self, keys: &[&str]) -> Result<BTreeMap<String, u32>, Error> {
        let mut numbers = BTreeMap::new();
        for key in keys {
            if let Some(number) = self.take_number(key)? {
                numbers.insert((*key).to_owned(), number);
            }
        }
        Ok(numbers)
    }

    fn take_yes(&mut self, key: &str) -> Result<bool, Error> {
        match self.options.remove(key) {
            Some("yes") => Ok(true),
            Some("no") | None => Ok(false),
            Some(other) => Err(self.wrong(format!("{key}={other} is neither yes nor no"))),
        }
    }

    fn take_mac(&mut self) -> Result<Option<MacBytes>, Error> {
        let Some(value) = self.options.remove("mac") else { return Ok(None) };
        parse_mac(value).map(Some).ok_or_else(|| {
            self.wrong(format!("mac={value} is not an address such as 02:00:00:00:00:01"))
        })
    }

    fn finish(self) -> Result<(), Error> {
        if let Some(name) = &self.name {
            return Err(self.wrong(format!("{name:?} is not of the form key=value")));
        }
        match self.options.keys().next() {
            Some(key) => Err(self.wrong(format!("there is no option {key} for this kind"))),
            None => Ok(()),
        }
    }
}

fn parse_mac(text: &str) -> Option<MacBytes> {
    let mut mac = [0; 6];
    let mut bytes = text.split(':');
    for byte in &mut mac {
        // The conversion would take a sign for a digit.
        let is_byte = |s: &&str| s.len() == 2 && s.bytes().all(|b| b.is_ascii_hexdigit());
        let digits = bytes.next().filter(is_byte)?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    bytes.next().is_none().then_some(mac)
}

fn mac_text(mac: &MacBytes) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memif { socket, role, .. } => {
                let role = if *role == MemifRole::Server { "server" } else { "client" };
                write!(f, "memif:{socket},role={role}{}", self.memif_options())
            }
            Self::Ring { pair: None, .. } => f.write_str("ring"),
            Self::Ring { pair: Some(name), queues, entries } => {
                write!(f, "ring:{name}")?;
                if *queues != PAIR_QUEUES {
                    write!(f, ",queues={queues}")?;
                }
                if *entries != PAIR_ENTRIES {
                    write!(f, ",entries={entries}")?;
                }
                Ok(())
            }
            Self::Tap { interface, mac } => {
                write!(f, "tap:{interface}{}", text_option("mac", mac.as_ref().map(mac_text)))
            }
            Self::AfPacket { interface, options } => {
                write!(f, "af_packet:{interface}{}", number_options(options))
            }
            Self::AfXdp { interface, options } => {
                write!(f, "af_xdp:{interface}{}", number_options(options))
            }
            Self::Pcap { rx, tx } => {
                let both = text_option("rx", rx.as_ref()) + &text_option("tx", tx.as_ref());
                write!(f, "pcap:{}", both.trim_start_matches(','))
            }
            Self::Null { size_bytes: None } => f.write_str("null"),
            Self::Null { size_bytes: Some(size) } => write!(f, "null:size={size}"),
            Self::Pci { address } => write!(f, "pci:{address}"),
        }
    }
}

fn text_option(key: &str, value: Option<impl fmt::Display>) -> String {
    value.map_or_else(String::new, |value| format!(",{key}={value}"))
}

fn number_options(options: &BTreeMap<String, u32>) -> String {
    options.iter().map(|(key, value)| format!(",{key}={value}")).collect()
}

impl DeviceSpec {
    /// The options behind the role, as both users and the driver write them.
    fn memif_options(&self) -> String {
        let Self::Memif { id, buffer_bytes, ring_log2, zero_copy, mac, abstract_socket, .. } = self
        else {
            return String::new();
        };
        text_option("id", (*id != 0).then_some(id))
            + &text_option("bsize", buffer_bytes.as_ref())
            + &text_option("rsize", ring_log2.as_ref())
            + &text_option("zero-copy", zero_copy.then_some("yes"))
            + &text_option("mac", mac.as_ref().map(mac_text))
            + &text_option("socket-abstract", abstract_socket.then_some("yes"))
    }

    /// The device with what its driver needs to be told for frames of this MTU, unless it was told.
    pub fn for_mtu(mut self, mtu: u16) -> Self {
        match &mut self {
            Self::AfPacket { options, .. }
                if mtu > SLOT_MTU && !options.contains_key("framesz") =>
            {
                // The driver takes the ring for one array of slots, so they must fill whole pages together.
                let slot_bytes =
                    (u32::from(mtu) + SLOT_OVERHEAD_BYTES).next_multiple_of(SLOT_STEP_BYTES);
                options.insert("framesz".to_owned(), slot_bytes);
                options.insert("blocksz".to_owned(), slot_bytes * (PAGE_BYTES / SLOT_STEP_BYTES));
            }
            Self::Memif { buffer_bytes: buffer @ None, .. }
                if frame_bytes(mtu) > MEMIF_BUFFER_BYTES =>
            {
                *buffer = Some(frame_bytes(mtu).next_multiple_of(SLOT_STEP_BYTES));
            }
            _ => {}
        }
        self
    }

    /// Checks that frames of this MTU fit where the description says that they go.
    ///
    /// # Errors
    /// When buffers of memif are too small. Its driver would spread a frame over several, and
    /// does not take the mark of a spread frame off a buffer that it uses again, so that the receiver
    /// puts strange frames together.
    pub fn check_mtu(&self, mtu: u16) -> Result<(), Error> {
        let Self::Memif { buffer_bytes, .. } = self else { return Ok(()) };
        let (bytes, needed) = (buffer_bytes.unwrap_or(MEMIF_BUFFER_BYTES), frame_bytes(mtu));
        if bytes >= needed {
            return Ok(());
        }
        let problem = format!(
            "buffers of {bytes} bytes are too small for frames of MTU {mtu}: write bsize={needed}"
        );
        Err(Error::device(self, problem))
    }

    /// Whether the driver says that it takes the frames of Ethernet alone, and yet carries those of this
    /// MTU because its slots have the room.
    pub(super) fn has_slots_for(&self, mtu: u16) -> bool {
        let Self::AfPacket { options, .. } = self else { return false };
        let slot_bytes = options.get("framesz").copied().unwrap_or(SLOT_BYTES);
        mtu > SLOT_MTU && u32::from(mtu) + SLOT_OVERHEAD_BYTES <= slot_bytes
    }

    /// Whether this is a device of the PCI bus.
    pub fn is_hardware(&self) -> bool {
        matches!(self, Self::Pci { .. })
    }

    /// Whether its link may go and come back while the port is open.
    pub(crate) fn has_lasting_link(&self) -> bool {
        matches!(
            self,
            Self::Pci { .. } | Self::Tap { .. } | Self::AfPacket { .. } | Self::AfXdp { .. }
        )
    }

    /// Whether EAL must lay its memory out for sharing it with a peer.
    pub(super) fn shares_memory(&self) -> bool {
        matches!(self, Self::Memif { zero_copy: true, .. })
    }

    /// The name DPDK will know the device by, if EAL makes it.
    pub(super) fn eal_name(&self, index: usize) -> Option<String> {
        let driver = match self {
            Self::Memif { .. } => "net_memif",
            Self::Ring { pair: None, .. } => "net_ring",
            Self::Ring { pair: Some(_), .. } => return None,
            Self::Tap { .. } => "net_tap",
            Self::AfPacket { .. } => "net_af_packet",
            Self::AfXdp { .. } => "net_af_xdp",
            Self::Pcap { .. } => "net_pcap",
            Self::Null { .. } => "net_null",
            Self::Pci { address } => return Some(with_domain(address)),
        };
        Some(format!("{driver}{index}"))
    }

    /// The argument that makes EAL open the device; `None` for those made afterwards.
    pub(super) fn eal_argument(&self, index: usize) -> Option<String> {
        let name = self.eal_name(index)?;
        let options = match self {
            Self::Memif { socket, role, abstract_socket, .. } => {
                let role = if *role == MemifRole::Server { "server" } else { "client" };
                // The driver's default is an abstract socket, ours is a file.
                let kind = if *abstract_socket { "" } else { ",socket-abstract=no" };
                format!(",role={role},socket={socket}{kind}{}", self.memif_options())
            }
            Self::Tap { interface, mac } => {
                let theirs = mac.map(|mac| mac_text(&across_tap(mac)));
                format!(",iface={interface}{}", text_option("mac", theirs))
            }
            Self::AfPacket { interface, options } | Self::AfXdp { interface, options } => {
                format!(",iface={interface}{}", number_options(options))
            }
            Self::Pcap { rx, tx } => {
                text_option("rx_pcap", rx.as_ref()) + &text_option("tx_pcap", tx.as_ref())
            }
            Self::Null { size_bytes } => text_option("size", size_bytes.as_ref()),
            Self::Ring { .. } => String::new(),
            Self::Pci { address } => return Some(format!("--allow={}", with_domain(address))),
        };
        Some(format!("--vdev={name}{options}"))
    }

    /// Checks what can be checked before EAL starts, since EAL passes over devices that fail.
    ///
    /// # Errors
    /// Says what is missing: an interface, a directory, a file, a privilege.
    pub fn check(&self) -> Result<(), Error> {
        match self {
            Self::Memif { socket, abstract_socket: false, .. } => self.check_socket(socket),
            Self::Tap { .. } => {
                self.check_privilege(CAP_NET_ADMIN, "CAP_NET_ADMIN")?;
                self.check_exists("/dev/net/tun", "load the kernel module tun")
            }
            Self::AfPacket { interface, .. } => {
                self.check_interface(interface)?;
                self.check_privilege(CAP_NET_RAW, "CAP_NET_RAW")
            }
            Self::AfXdp { interface, .. } => {
                self.check_interface(interface)?;
                self.check_privilege(CAP_NET_ADMIN, "CAP_NET_ADMIN")
            }
            Self::Pcap { rx, tx } => {
                if let Some(rx) = rx {
                    self.check_exists(rx, "give the path of a capture file")?;
                }
                tx.as_ref().map_or(Ok(()), |tx| self.check_directory(tx))
            }
            Self::Pci { address } => {
                let path = format!("/sys/bus/pci/devices/{}", with_domain(address));
                self.check_exists(&path, "see the addresses with lspci -D")
            }
            Self::Memif { .. } | Self::Ring { .. } | Self::Null { .. } => Ok(()),
        }
    }

    /// What to do when DPDK has passed the device over.
    pub(super) const fn advice_if_refused(&self) -> &'static str {
        match self {
            Self::Pci { .. } => {
                "bind it to vfio-pci (scripts/bind.sh), and install the driver for its kind of card"
            }
            Self::Tap { .. } => "choose a name that no other interface has",
            Self::Memif { .. } => {
                "end what serves this socket, remove the file if nothing does, and see that its \
                 directory may be written"
            }
            _ => "see all that DPDK says with RUST_LOG=dpdk=trace",
        }
    }

    fn check_interface(&self, interface: &str) -> Result<(), Error> {
        let name = CString::new(interface).unwrap_or_default();
        // SAFETY: the name is NUL-terminated. Asked of the kernel and not of /sys, which shows
        // another network namespace when the process has changed its own.
        if unsafe { libc::if_nametoindex(name.as_ptr()) } != 0 {
            return Ok(());
        }
        let problem = format!("there is no interface {interface}: see them with ip link");
        Err(Error::device(self, problem))
    }

    fn check_exists(&self, path: &str, advice: &str) -> Result<(), Error> {
        if Path::new(path).exists() {
            Ok(())
        } else {
            Err(Error::device(self, format!("{path} does not exist: {advice}")))
        }
    }

    fn check_socket(&self, path: &str) -> Result<(), Error> {
        if path.len() > SOCKET_PATH_MAX {
            let problem = format!(
                "the path of a socket has at most {SOCKET_PATH_MAX} bytes, not {}: use a shorter one",
                path.len()
            );
            return Err(Error::device(self, problem));
        }
        if fs::metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
            let problem = format!("{path} is there and no socket: name another file");
            return Err(Error::device(self, problem));
        }
        self.check_directory(path)
    }

    fn check_directory(&self, file: &str) -> Result<(), Error> {
        let directory = Path::new(file).parent().filter(|path| !path.as_os_str().is_empty());
        match directory {
            Some(path) if !path.is_dir() => {
                let path = path.display();
                Err(Error::device(self, format!("directory {path} does not exist: make it first")))
            }
            _ => Ok(()),
        }
    }

    fn check_privilege(&self, capability: u32, name: &str) -> Result<(), Error> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if effective_capabilities(&status) & (1 << capability) != 0 {
            return Ok(());
        }
        Err(Error::device(self, format!("needs the privilege {name}: run as root")))
    }
}

fn frame_bytes(mtu: u16) -> u32 {
    u32::from(mtu) + ETHERNET_BYTES
}

/// The hardware address of the other side of a tap. The driver gives both sides the same one, so that
/// the kernel takes for its own what we send, and a bridge keeps what is for us.
pub(super) const fn across_tap(mut mac: MacBytes) -> MacBytes {
    mac[5] ^= 1;
    mac
}

const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;

/// The capabilities in a process's status; all of them if the kernel does not say.
fn effective_capabilities(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(u64::MAX)
}

fn with_domain(address: &str) -> String {
    if address.len() == "3b:00.0".len() { format!("0000:{address}") } else { address.to_owned() }
}

#[cfg(test)]
mod tests;
