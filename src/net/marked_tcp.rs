//! Homa inside IP protocol 6, told from TCP by marks that TCP never makes (protocol.md section 2.2).

/// The IP protocol number of TCP.
pub(super) const PROTOCOL: u8 = 6;
/// Bytes that must be at hand to see the marks.
const MARKS_END: usize = 20;
/// SYN and RST together.
const FLAGS: u8 = 0x06;
const URGENT: [u8; 2] = [0xB9, 0x7D];

/// Whether the payload of a protocol 6 packet is Homa: both marks are compared in full.
#[inline]
pub(super) fn is_homa(segment: &[u8]) -> bool {
    match segment.first_chunk::<MARKS_END>() {
        Some(header) => header[13] == FLAGS && header[18..] == URGENT,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_marks_are_needed() {
        let mut segment = [0_u8; 28];
        segment[13] = 0x06;
        segment[18..20].copy_from_slice(&[0xB9, 0x7D]);
        assert!(is_homa(&segment));
        assert!(is_homa(&segment[..20]));
        assert!(!is_homa(&segment[..19]));
        for (at, value) in [(13, 0x02), (13, 0x26), (13, 0x04), (18, 0), (19, 0x7C)] {
            let mut other = segment;
            other[at] = value;
            assert!(!is_homa(&other), "byte {at} = {value:#x}");
        }
    }
}
