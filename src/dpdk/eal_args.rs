//! How EAL is to be started, and the command line that makes it so.

use super::device::DeviceSpec;
use super::error::Error;
use super::hugepages::{HUGEPAGE_MB, free_hugepages};
use super::lcore::allowed_cpus;

/// Whether to use hugepages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hugepages {
    /// If enough are free.
    #[default]
    Auto,
    /// No: ordinary memory. Enough for software ports.
    Never,
    /// Yes, or fail.
    Require,
}

/// How to start EAL; see [`super::Eal::start`].
#[derive(Clone, Debug)]
pub struct EalConfig {
    /// Whether to use hugepages.
    pub hugepages: Hugepages,
    /// Memory for all pools and queues, in MB.
    pub memory_mb: u32,
    /// The CPU of the thread that starts EAL, while it does; the first allowed one if not given.
    /// Threads for shards are registered later ([`super::Eal::register_lcore_thread`]).
    pub main_cpu: Option<usize>,
    /// Name of DPDK's runtime directory.
    pub file_prefix: String,
    /// The devices to open.
    pub devices: Vec<DeviceSpec>,
    /// DPDK's own verbosity, in its notation (`--log-level`), such as `pmd.net.memif:debug`. What
    /// it logs goes to the `log` crate, target `dpdk`.
    pub log_level: Option<String>,
    /// Answer DPDK's telemetry, over a socket in the runtime directory: `dpdk-telemetry.py` asks there.
    pub telemetry: bool,
    /// Further arguments, as they are.
    pub extra_args: Vec<String>,
}

impl Default for EalConfig {
    fn default() -> Self {
        Self {
            hugepages: Hugepages::Auto,
            memory_mb: 256,
            main_cpu: None,
            file_prefix: "homa".into(),
            devices: Vec::new(),
            log_level: None,
            telemetry: false,
            extra_args: Vec::new(),
        }
    }
}

impl EalConfig {
    /// Whether to start with hugepages, given how many are free.
    pub(super) fn use_hugepages(&self) -> Result<bool, Error> {
        self.decide_hugepages(free_hugepages())
    }

    fn decide_hugepages(&self, free: u64) -> Result<bool, Error> {
        let enough = free * HUGEPAGE_MB >= u64::from(self.memory_mb);
        let needed_by = self.devices.iter().find(|d| d.is_hardware() || d.shares_memory());
        match self.hugepages {
            Hugepages::Never => match needed_by {
                Some(device) if device.shares_memory() => {
                    Err(Error::device(device, "zero-copy needs hugepages"))
                }
                _ => Ok(false),
            },
            Hugepages::Auto if enough => Ok(true),
            Hugepages::Auto if needed_by.is_none() => Ok(false),
            Hugepages::Require if enough => Ok(true),
            Hugepages::Auto | Hugepages::Require => Err(Error::Config(format!(
                "{} MB of hugepages are free, {} MB are needed: {}",
                free * HUGEPAGE_MB,
                self.memory_mb,
                hugepage_advice(self.memory_mb),
            ))),
        }
    }

    /// The arguments, the program's name first.
    pub(super) fn arguments(&self, with_hugepages: bool) -> Result<Vec<String>, Error> {
        let cpu = match self.main_cpu {
            Some(cpu) => cpu,
            None => allowed_cpus().first().copied().unwrap_or(0),
        };
        let mut args = vec!["homa".to_owned()];
        if !self.telemetry {
            args.push("--no-telemetry".into());
        }
        args.push(format!("--lcores=0@{cpu}"));
        args.push(format!("--file-prefix={}", self.file_prefix));
        args.extend(["-m".into(), self.memory_mb.to_string()]);
        // DPDK before 25.11 takes one or the other; both leave no files and need no locks.
        if with_hugepages {
            args.push("--in-memory".into());
        } else {
            args.extend(["--no-huge".into(), "--no-shconf".into()]);
        }
        if self.devices.iter().any(DeviceSpec::shares_memory) {
            args.push("--single-file-segments".into());
        }
        if !self.devices.iter().any(DeviceSpec::is_hardware) {
            // Without a device that does DMA, virtual addresses need no privilege.
            args.extend(["--no-pci".into(), "--iova-mode=va".into()]);
        }
        if let Some(level) = &self.log_level {
            args.push(format!("--log-level={level}"));
        }
        let devices = self.devices.iter().enumerate();
        args.extend(devices.filter_map(|(index, device)| device.eal_argument(index)));
        args.extend(self.extra_args.iter().cloned());
        if let Some(arg) = args.iter().find(|arg| arg.contains('\0')) {
            return Err(Error::Config(format!("the argument {arg:?} contains a NUL character")));
        }
        Ok(args)
    }
}

/// What to do when hugepages are missing.
pub(super) fn hugepage_advice(memory_mb: u32) -> String {
    let pages = u64::from(memory_mb).div_ceil(HUGEPAGE_MB);
    format!(
        "reserve them (scripts/hugepages.sh {pages}, as root), ask for less memory, or do \
         without (--no-huge; software ports only)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(hugepages: Hugepages, devices: &[&str]) -> EalConfig {
        let devices = devices.iter().map(|text| text.parse().unwrap()).collect();
        EalConfig { hugepages, devices, memory_mb: 128, ..EalConfig::default() }
    }

    #[test]
    fn hugepages_are_used_when_enough_are_free() {
        let decide = |hugepages, free| config(hugepages, &["ring"]).decide_hugepages(free);
        assert_eq!(decide(Hugepages::Auto, 64), Ok(true));
        assert_eq!(decide(Hugepages::Auto, 63), Ok(false));
        assert_eq!(decide(Hugepages::Never, 64), Ok(false));
        assert_eq!(decide(Hugepages::Require, 64), Ok(true));
        let text = decide(Hugepages::Require, 10).unwrap_err().to_string();
        assert!(text.contains("20 MB of hugepages are free, 128 MB are needed"), "{text}");
        assert!(text.contains("scripts/hugepages.sh 64"), "{text}");
    }

    #[test]
    fn devices_that_need_hugepages_say_so() {
        let zero_copy = config(Hugepages::Never, &["memif:/tmp/a,zero-copy=yes"]);
        let text = zero_copy.decide_hugepages(64).unwrap_err().to_string();
        assert!(text.contains("zero-copy needs hugepages"), "{text}");
        assert!(config(Hugepages::Auto, &["pci:3b:00.0"]).decide_hugepages(0).is_err());
    }

    #[test]
    fn arguments_of_both_kinds_of_memory() {
        let config = config(Hugepages::Auto, &["ring", "ring:a", "memif:/tmp/a,role=server"]);
        let plain = config.arguments(false).unwrap();
        for arg in ["--no-huge", "--no-shconf", "--no-pci", "--iova-mode=va"] {
            assert!(plain.contains(&arg.to_owned()), "{arg} in {plain:?}");
        }
        assert!(!plain.contains(&"--in-memory".to_owned()), "rejected with --no-huge");
        let vdevs: Vec<_> = plain.iter().filter(|arg| arg.starts_with("--vdev")).collect();
        assert_eq!(
            vdevs,
            ["--vdev=net_ring0", "--vdev=net_memif2,role=server,socket=/tmp/a,socket-abstract=no"]
        );
        let huge = config.arguments(true).unwrap();
        assert!(huge.contains(&"--in-memory".to_owned()));
        assert!(!huge.contains(&"--no-huge".to_owned()));
    }

    #[test]
    fn telemetry_is_off_unless_wanted() {
        let mut config = config(Hugepages::Never, &["ring"]);
        let off = "--no-telemetry".to_owned();
        assert!(config.arguments(false).unwrap().contains(&off));
        config.telemetry = true;
        assert!(!config.arguments(false).unwrap().contains(&off));
    }

    #[test]
    fn hardware_is_allowed_by_address() {
        let args = config(Hugepages::Auto, &["pci:3b:00.0"]).arguments(true).unwrap();
        assert!(args.contains(&"--allow=0000:3b:00.0".to_owned()));
        assert!(!args.contains(&"--no-pci".to_owned()));
    }
}
