//! The Internet checksum (RFC 1071): the one's complement of the one's complement sum of the 16-bit
//! words. Partial sums are `u32` and may be added up before they are folded.

/// The partial sum of any number of bytes up to 64 KiB; an odd last byte is padded with a zero.
pub(super) fn sum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<2>();
    let odd = rest.first().map_or(0, |&byte| u32::from(byte) << 8);
    words.iter().map(|&word| u32::from(u16::from_be_bytes(word))).sum::<u32>() + odd
}

/// The partial sum of an IPv4 header without options: ten words, no loop.
pub(super) fn sum_20(header: &[u8; 20]) -> u32 {
    let word = |at: usize| u32::from(u16::from_be_bytes([header[at], header[at + 1]]));
    word(0)
        + word(2)
        + word(4)
        + word(6)
        + word(8)
        + word(10)
        + word(12)
        + word(14)
        + word(16)
        + word(18)
}

/// Whether a header of 20 bytes, its checksum included, sums up to what it must (RFC 1071): by words of
/// 32 bits, in the byte order of the machine, which makes no difference to the outcome. To fold carries is
/// to divide by 0xFFFF, and a remainder of 0 stands for 0xFFFF unless all bytes are 0.
#[inline(always)]
pub(super) fn is_intact_20(header: &[u8; 20]) -> bool {
    let sum: u64 =
        header.as_chunks::<4>().0.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    sum.is_multiple_of(0xFFFF) && sum != 0
}

/// A partial sum with its carries added back in.
///
/// Two rounds are enough for any `u32`: the first leaves at most 0x1FFFE.
pub(super) const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xFFFF) + (sum >> 16);
    ((sum & 0xFFFF) + (sum >> 16)) as u16
}

/// What to write in the checksum field, given the sum of everything else with that field zero.
pub(super) const fn finish(sum: u32) -> u16 {
    !fold(sum)
}

/// Whether a sum that includes the checksum field is that of undamaged data.
pub(super) const fn is_valid(sum: u32) -> bool {
    fold(sum) == 0xFFFF
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn the_fast_check_agrees_with_the_sum(header in proptest::array::uniform20(0u8..)) {
            let mut header = header;
            let plain = |header: &[u8; 20]| fold(sum_20(header)) == 0xFFFF;
            proptest::prop_assert_eq!(is_intact_20(&header), plain(&header));
            // And with the checksum that makes it right.
            header[10..12].fill(0);
            let checksum = !fold(sum_20(&header));
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            proptest::prop_assert!(is_intact_20(&header));
        }
    }
    use proptest::prelude::*;

    #[test]
    fn example_of_rfc_1071_section_3() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(sum(&bytes), 0x2ddf0);
        assert_eq!(fold(sum(&bytes)), 0xddf2);
        assert_eq!(finish(sum(&bytes)), 0x220d);
    }

    #[test]
    fn an_odd_byte_is_the_high_half_of_a_word() {
        assert_eq!(sum(&[0x12]), 0x1200);
        assert_eq!(sum(&[0x00, 0x01, 0x12]), 0x1201);
        assert_eq!(sum(&[]), 0);
    }

    #[test]
    fn the_largest_sums_do_not_overflow() {
        assert_eq!(fold(sum(&[0xff; 65_536])), 0xFFFF);
        assert_eq!(fold(u32::MAX), 0xFFFF);
        assert_eq!(fold(0x1_FFFF), 1);
    }

    #[test]
    fn headers_seen_on_the_wire_are_valid() {
        let header: [u8; 20] = [
            0x45, 0xe0, 0x00, 0x30, 0x00, 0x00, 0x40, 0x00, 0x40, 0x92, 0x23, 0x56, 0x0a, 0x00,
            0x01, 0x02, 0x0a, 0x00, 0x01, 0x05,
        ];
        assert!(is_valid(sum_20(&header)));
        let mut damaged = header;
        damaged[9] ^= 1;
        assert!(!is_valid(sum_20(&damaged)));
    }

    proptest! {
        #[test]
        fn unrolled_and_general_sums_agree(header: [u8; 20]) {
            prop_assert_eq!(sum_20(&header), sum(&header));
        }

        #[test]
        fn what_is_finished_is_valid(mut bytes in proptest::collection::vec(any::<u8>(), 4..80)) {
            bytes[2..4].fill(0);
            let field = finish(sum(&bytes));
            bytes[2..4].copy_from_slice(&field.to_be_bytes());
            prop_assert!(is_valid(sum(&bytes)));
        }
    }
}
