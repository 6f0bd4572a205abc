//! What the user reads when DPDK itself refuses to start.
#![cfg(feature = "dpdk")]

use homa::dpdk::{Eal, EalConfig, Error, Hugepages};

#[test]
fn the_first_complaint_and_nothing_on_the_terminal() {
    // Errors of the configuration leave the one start of the process unused.
    let require =
        EalConfig { hugepages: Hugepages::Require, memory_mb: 1 << 30, ..EalConfig::default() };
    let text = Eal::start(&require).unwrap_err().to_string();
    assert!(text.contains("1073741824 MB are needed"), "{text}");
    let half = EalConfig { devices: vec!["ring:a".parse().unwrap()], ..EalConfig::default() };
    assert!(Eal::start(&half).unwrap_err().to_string().contains("give ring:a twice"));

    let config = EalConfig {
        extra_args: vec!["--no-such-option".into()],
        hugepages: Hugepages::Never,
        ..EalConfig::default()
    };
    let error = Eal::start(&config).unwrap_err();
    let Error::Start { complaint, advice } = &error else { panic!("{error:?}") };
    assert!(!complaint.contains("Usage") && !complaint.contains('\n'), "{complaint}");
    assert!(!advice.is_empty());
    assert_eq!(Eal::start(&config).unwrap_err(), Error::AlreadyStarted);
}
