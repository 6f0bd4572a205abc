//! DPDK's environment layer: started once, ended when nothing needs it any more.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dpdk_sys as sys;

use super::device::DeviceSpec;
use super::eal_args::{EalConfig, hugepage_advice};
use super::error::{Error, errno_text, last_errno};
use super::ring_pair::RingPair;
use super::{lcore, log_capture};

/// DPDK cannot start twice in a process, not even after its cleanup.
static STARTED: AtomicBool = AtomicBool::new(false);
/// How long a busy machine may keep DPDK's interrupt thread from running.
const INTERRUPTS_TIMEOUT_MS: u32 = 2_000;

/// DPDK, running. Clones are the same; pools, ports and registered threads hold one each. When the
/// last is gone, DPDK is shut down.
#[derive(Clone, Debug)]
pub struct Eal(Arc<Running>);

#[derive(Debug)]
struct Running {
    devices: Vec<Device>,
    hugepages: bool,
    memory_mb: u32,
    /// A pool could not be freed: its memory must stay.
    leaked: AtomicBool,
}

/// A device that EAL found, to be opened with [`super::PortBuilder`].
#[derive(Debug)]
pub struct Device {
    spec: DeviceSpec,
    port_id: u16,
    pub(super) ring_pair: Option<Arc<RingPair>>,
    opened: AtomicBool,
}

impl Device {
    /// How the device was described.
    pub fn spec(&self) -> &DeviceSpec {
        &self.spec
    }

    /// DPDK's number of the port.
    pub fn port_id(&self) -> u16 {
        self.port_id
    }

    /// Refuses a device that was opened before: a closed one cannot be opened again.
    pub(super) fn check_unopened(&self) -> Result<(), Error> {
        self.refuse_if(self.opened.load(Ordering::Acquire))
    }

    /// The right to open the device, given once.
    pub(super) fn claim(&self) -> Result<(), Error> {
        self.refuse_if(self.opened.swap(true, Ordering::AcqRel))
    }

    fn refuse_if(&self, opened: bool) -> Result<(), Error> {
        if opened {
            let text = "was opened before: a device is opened once per process";
            return Err(Error::device(&self.spec, text));
        }
        Ok(())
    }
}

impl Eal {
    /// Starts DPDK with the devices of `config`, each of which is there afterwards.
    ///
    /// For the time of the start, standard output and error of the process are turned away, since
    /// DPDK prints there; what it says goes to the `log` crate, target `dpdk`. The thread's
    /// affinity is as before.
    ///
    /// # Errors
    /// When the configuration cannot be, DPDK ran in this process before, it does not start, or a
    /// device is missing. After an error other than of the configuration the process cannot try
    /// again.
    pub fn start(config: &EalConfig) -> Result<Self, Error> {
        for device in &config.devices {
            device.check()?;
        }
        check_pairs(&config.devices)?;
        let hugepages = config.use_hugepages()?;
        let arguments = config.arguments(hugepages)?;
        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(Error::AlreadyStarted);
        }
        let memory = Memory { hugepages, mb: config.memory_mb };
        let messages = initialise(arguments, memory)?;
        // From here on a failure drops this and thereby ends EAL.
        let mut running = Running {
            devices: Vec::new(),
            hugepages,
            memory_mb: config.memory_mb,
            leaked: AtomicBool::new(false),
        };
        running.devices = find_devices(&config.devices, &messages)?;
        log::info!(
            "DPDK runs with {} MB of {}",
            config.memory_mb,
            if hugepages { "hugepages" } else { "ordinary memory" }
        );
        Ok(Self(Arc::new(running)))
    }

    /// The devices, in the order of [`EalConfig::devices`].
    pub fn devices(&self) -> &[Device] {
        &self.0.devices
    }

    /// Where DPDK keeps its files and the socket of its telemetry.
    pub fn runtime_directory(&self) -> PathBuf {
        runtime_directory()
    }

    /// Whether hugepages are in use.
    pub fn has_hugepages(&self) -> bool {
        self.0.hugepages
    }

    /// Whether a device reads memory by DMA.
    pub fn has_hardware(&self) -> bool {
        self.0.devices.iter().any(|device| device.spec.is_hardware())
    }

    /// The memory DPDK was started with, in MB.
    pub fn memory_mb(&self) -> u32 {
        self.0.memory_mb
    }

    /// Ends DPDK now, which dropping the last handle does as well.
    ///
    /// # Errors
    /// When pools, ports or threads are left, or packet buffers were not returned: DPDK goes on
    /// until the process ends, so that they stay valid.
    pub fn shutdown(self) -> Result<(), Error> {
        let running = Arc::try_unwrap(self.0).map_err(|shared| {
            Error::InUse(format!(
                "DPDK is in use by {} pools, ports or threads: drop them first",
                Arc::strong_count(&shared) - 1
            ))
        })?;
        if running.leaked.load(Ordering::Acquire) {
            return Err(Error::InUse(
                "packet buffers were not returned before their pool went: DPDK stays until the \
                 process ends"
                    .into(),
            ));
        }
        Ok(())
    }

    pub(super) fn note_leak(&self) {
        self.0.leaked.store(true, Ordering::Release);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.leaked.load(Ordering::Acquire) {
            return;
        }
        park_interrupts();
        let directory = runtime_directory();
        // SAFETY: everything of this program that uses DPDK holds a handle, and the last is gone.
        let rc = unsafe { sys::rte_eal_cleanup() };
        if rc != 0 {
            log::debug!("DPDK's cleanup: {}", errno_text(-rc));
        }
        // It would stay, one for each process. Not removed if something is in it.
        if let Err(error) = fs::remove_dir(&directory) {
            log::debug!("{} stays: {error}", directory.display());
        }
    }
}

/// Where DPDK keeps its files.
fn runtime_directory() -> PathBuf {
    // SAFETY: EAL has been started; the text is its own and stays.
    let path = unsafe { CStr::from_ptr(sys::rte_eal_get_runtime_dir()) };
    PathBuf::from(path.to_string_lossy().into_owned())
}

/// Stops DPDK's interrupt thread. Closing a port takes the port's file descriptors from that thread,
/// which notices when it runs next and then looks through what is in memory that the cleanup unmaps: if
/// it runs late, it crashes. It cannot be waited for, since one event of its own can follow another.
fn park_interrupts() {
    // SAFETY: EAL is running; what runs on the other thread touches nothing of this program.
    let rc = unsafe { sys::homa_park_interrupts(INTERRUPTS_TIMEOUT_MS) };
    if rc != 0 {
        log::debug!("DPDK's interrupt thread cannot be stopped: {}", errno_text(-rc));
    }
}

/// Starts EAL; returns what it said.
fn initialise(arguments: Vec<String>, memory: Memory) -> Result<Vec<String>, Error> {
    log::debug!("starting DPDK: {}", arguments.join(" "));
    // EAL permutes the array and keeps pointers to the strings: both live until the process ends.
    let strings = arguments.into_iter().map(|arg| CString::new(arg).unwrap_or_default().into_raw());
    let pointers: &'static mut [*mut c_char] = Vec::leak(strings.collect());
    let count = i32::try_from(pointers.len()).unwrap_or(i32::MAX);

    let affinity = lcore::affinity();
    log_capture::begin();
    let silence = log_capture::Silence::begin();
    // SAFETY: the array holds `count` NUL-terminated strings, and nobody else touches it.
    let rc = unsafe { sys::rte_eal_init(count, pointers.as_mut_ptr()) };
    let errno = last_errno();
    let printed = silence.map(log_capture::Silence::end).unwrap_or_default();
    let logged = log_capture::finish();
    // EAL pinned this thread; the threads it starts later would inherit that.
    if let Ok(set) = affinity
        && let Err(error) = lcore::set_affinity(&set)
    {
        log::warn!("cannot undo DPDK's pinning of this thread: {error}");
    }
    if rc < 0 {
        return Err(start_error(&logged, &printed, errno, memory));
    }
    Ok(logged)
}

/// What EAL was told to take.
#[derive(Clone, Copy, Debug)]
struct Memory {
    hugepages: bool,
    mb: u32,
}

impl Memory {
    /// Whether what EAL said is about memory.
    fn is_short(self, errno: i32, said: &str) -> bool {
        let signs = ["Cannot init mem", "hugepage", "hugetlb"];
        // Without hugepages it may mention them all the same.
        let signs = if self.hugepages { &signs[..] } else { &signs[..1] };
        errno == libc::ENOMEM || signs.iter().any(|sign| said.contains(sign))
    }

    fn advice(self) -> String {
        if self.hugepages {
            return hugepage_advice(self.mb);
        }
        format!("{} MB of ordinary memory cannot be had: ask for less, or see ulimit -v", self.mb)
    }
}

fn start_error(logged: &[String], printed: &[String], errno: i32, memory: Memory) -> Error {
    let complaint = logged
        .iter()
        .chain(printed)
        .find(|line| line.starts_with("EAL: "))
        .map_or_else(|| errno_text(errno), |line| line.trim_start_matches("EAL: ").to_owned());
    let all = logged.iter().chain(printed).fold(String::new(), |all, line| all + line + "\n");
    let advice = if errno == libc::EALREADY {
        "DPDK runs once per process: use another process".into()
    } else if memory.is_short(errno, &all) {
        memory.advice()
    } else if all.contains("Cannot create lock") {
        "another process uses the same file prefix: choose another".into()
    } else if all.contains("plugin") || all.contains("No such device") || errno == libc::ENODEV {
        "a driver is not installed or refuses the device: install the dpdk runtime packages \
         (librte-net-*, librte-bus-vdev*)"
            .into()
    } else if errno == libc::EACCES || errno == libc::EPERM || all.contains("Permission denied") {
        "run as root, or without hugepages".into()
    } else {
        "see what DPDK says with RUST_LOG=dpdk=trace".into()
    };
    Error::Start { complaint, advice }
}

/// A pair of ring ports is described twice, alike.
fn check_pairs(specs: &[DeviceSpec]) -> Result<(), Error> {
    let mut halves: BTreeMap<&str, Vec<&DeviceSpec>> = BTreeMap::new();
    for spec in specs {
        if let DeviceSpec::Ring { pair: Some(name), .. } = spec {
            halves.entry(name).or_default().push(spec);
        }
    }
    for (name, specs) in halves {
        if specs.len() != 2 || specs[0] != specs[1] {
            return Err(Error::device(
                specs[0],
                format!("a pair has two ends: give ring:{name} twice, with the same options"),
            ));
        }
    }
    Ok(())
}

/// Finds the port of each device; EAL passes over those that fail, so this is where they show.
fn find_devices(specs: &[DeviceSpec], messages: &[String]) -> Result<Vec<Device>, Error> {
    let mut second_ends: BTreeMap<&str, (Arc<RingPair>, u16)> = BTreeMap::new();
    let mut devices = Vec::with_capacity(specs.len());
    for (index, spec) in specs.iter().enumerate() {
        let (port_id, ring_pair) = match spec {
            DeviceSpec::Ring { pair: Some(name), queues, entries } => {
                match second_ends.remove(name.as_str()) {
                    Some((pair, port_id)) => (port_id, Some(pair)),
                    None => {
                        let (pair, [a, b]) = RingPair::new(name, *queues, *entries)?;
                        let pair = Arc::new(pair);
                        second_ends.insert(name, (Arc::clone(&pair), b));
                        (a, Some(pair))
                    }
                }
            }
            _ => (find_port(spec, index, messages)?, None),
        };
        let opened = AtomicBool::new(false);
        devices.push(Device { spec: spec.clone(), port_id, ring_pair, opened });
    }
    Ok(devices)
}

fn find_port(spec: &DeviceSpec, index: usize, messages: &[String]) -> Result<u16, Error> {
    let name = spec.eal_name(index).unwrap_or_default();
    let c_name = CString::new(name.as_str()).unwrap_or_default();
    let mut port_id = 0;
    // SAFETY: the name is NUL-terminated and there is room for the number.
    let rc = unsafe { sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &mut port_id) };
    if rc == 0 {
        return Ok(port_id);
    }
    let said = complaint_about(&name, messages).unwrap_or("no driver took it");
    let advice = spec.advice_if_refused();
    Err(Error::device(spec, format!("DPDK did not open it: {said}: {advice}")))
}

/// What was said first about the device of this name, the driver's own words if there are some: the
/// bus, which speaks after it, only says that it has failed.
fn complaint_about<'a>(name: &str, messages: &'a [String]) -> Option<&'a str> {
    let driver = name.trim_start_matches("net_").trim_end_matches(|c: char| c.is_ascii_digit());
    let of_bus = |line: &&String| line.starts_with("vdev_probe()") && line.contains(name);
    let mut before = messages.iter().take_while(|line| !of_bus(line));
    let own = before.find(|line| line.contains(name) || line.contains(driver));
    own.or_else(|| messages.iter().find(|line| line.contains(name))).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_become_advice() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let text = start_error(
            &lines("EAL: No free 2048 kB hugepages reported on node 0\nEAL: other"),
            &lines("EAL: FATAL: Cannot get hugepage information."),
            libc::EACCES,
            Memory { hugepages: true, mb: 256 },
        )
        .to_string();
        assert!(text.contains("No free 2048 kB hugepages"), "{text}");
        assert!(text.contains("scripts/hugepages.sh 128"), "{text}");

        let plain = Memory { hugepages: false, mb: 256 };
        let text = start_error(
            &lines(
                "EAL: Cannot get a virtual area: Cannot allocate memory\nEAL: Cannot init memory",
            ),
            &[],
            libc::ENOMEM,
            plain,
        )
        .to_string();
        assert!(text.contains("256 MB of ordinary memory") && !text.contains("huge"), "{text}");

        let text = start_error(&[], &[], libc::EALREADY, plain).to_string();
        assert!(text.contains("another process"), "{text}");
        let text = start_error(&[], &[], libc::EINVAL, plain).to_string();
        assert!(text.contains("Invalid argument") && text.contains("RUST_LOG"), "{text}");
    }

    #[test]
    fn half_a_pair_is_refused() {
        let specs = |texts: &[&str]| -> Vec<DeviceSpec> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        assert!(check_pairs(&specs(&["ring:a", "ring", "ring:a"])).is_ok());
        for wrong in [&["ring:a"][..], &["ring:a"; 3], &["ring:a", "ring:a,queues=2"]] {
            let text = check_pairs(&specs(wrong)).unwrap_err().to_string();
            assert!(text.contains("give ring:a twice"), "{text}");
        }
    }

    #[test]
    fn the_driver_is_heard_before_the_bus() {
        let messages =
            |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
        let bus = "vdev_probe(): failed to initialize net_memif0 device";
        let socket = "memif_socket_create(): Failed to setup socket /a: Address already in use";
        let note = "rte_pmd_memif_probe(): Failed to register mp action callback";
        let said = messages(&["EAL: Detected", socket, bus, note]);
        assert_eq!(complaint_about("net_memif0", &said), Some(socket));
        assert_eq!(
            complaint_about("net_memif0", &messages(&["EAL: Detected", bus, note])),
            Some(bus)
        );
        assert_eq!(
            complaint_about("0000:3b:00.0", &messages(&["EAL: Detected CPU lcores: 2"])),
            None
        );
    }
}
