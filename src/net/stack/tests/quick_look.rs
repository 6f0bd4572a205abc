//! The quick look at frames that are as almost all are, beside the close one.

use super::*;

const NOW: Nanos = Nanos::from_secs(1);

/// Also right behind a frame that it has found, and where the port has found the checksum right.
#[test]
fn what_is_taken_for_expected_passes_the_close_look() {
    let good = homa_frame();
    let mut taken = 0;
    let hosts = [PEER, IP, FAR, Ipv4Addr::BROADCAST, Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST];
    let addresses = hosts.iter().flat_map(|src| hosts.map(|dst| (*src, dst)));
    let other_addresses = addresses.map(|(src, dst)| {
        let mut frame = good.clone();
        frame[26..30].copy_from_slice(&src.octets());
        frame[30..34].copy_from_slice(&dst.octets());
        frame
    });
    let flipped = (0..34 * 8).map(|bit| {
        let mut frame = good.clone();
        frame[bit / 8] ^= 1 << (bit % 8);
        frame
    });
    for frame in other_addresses.chain(flipped) {
        for checksum in [IpChecksum::Good, IpChecksum::Unknown, IpChecksum::Bad] {
            let mut stack = stack();
            let first = stack.receive(NOW, &good, good.len(), IpChecksum::Unknown);
            assert!(matches!(first, Received::Homa(_)));
            if let Some(datagram) = stack.expected(&frame, frame.len(), checksum) {
                taken += 1;
                let looked_into = stack.classify(NOW, &frame, frame.len(), checksum);
                assert_eq!(looked_into, Ok(Received::Homa(datagram)), "{frame:02x?}");
            }
        }
    }
    assert!(taken > 50, "{taken} were taken");
}
