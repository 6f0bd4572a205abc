//! A device that passes every check and that the driver refuses all the same: DPDK starts without
//! a word, so the error must come from us.
#![cfg(feature = "dpdk")]

use std::fs;

use homa::dpdk::{Eal, EalConfig, Error};

#[test]
fn a_device_that_dpdk_passes_over_is_named() {
    let path = std::env::temp_dir().join(format!("not-a-capture-{}", std::process::id()));
    fs::write(&path, "not a capture").unwrap();
    let spec = format!("pcap:rx={}", path.display());
    let devices = ["ring".parse().unwrap(), spec.parse().unwrap()];
    let config = EalConfig { devices: devices.into(), memory_mb: 64, ..EalConfig::default() };
    let error = Eal::start(&config).unwrap_err();
    fs::remove_file(&path).unwrap();
    let Error::Device { device, problem } = &error else { panic!("{error:?}") };
    assert_eq!(*device, spec);
    assert!(problem.contains("DPDK did not open it"), "{problem}");
    assert!(problem.contains("pcap"), "names what the driver said: {problem}");
}
