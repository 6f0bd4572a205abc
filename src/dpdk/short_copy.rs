//! Copies of a few bytes, which a call of the general copy takes longer to start than to make.

/// Copies `from` to `to`, which is as long. Up to 256 bytes are copied in place: as two pieces of a fixed length, of
/// which one begins at the start and one ends at the end.
///
/// # Panics
/// If the lengths differ.
#[inline(always)]
pub fn copy_short(to: &mut [u8], from: &[u8]) {
    match from.len() {
        17..=32 => from_both_ends::<16>(to, from),
        33..=64 => from_both_ends::<32>(to, from),
        65..=128 => from_both_ends::<64>(to, from),
        129..=256 => from_both_ends::<128>(to, from),
        _ => to.copy_from_slice(from),
    }
}

#[inline(always)]
fn from_both_ends<const N: usize>(to: &mut [u8], from: &[u8]) {
    assert!(to.len() == from.len(), "{} bytes for {}", to.len(), from.len());
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk()) {
        *to = *from;
    }
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<N>(), from.last_chunk()) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_arrives_whole() {
        let from: Vec<u8> = (0..600_u32).map(|i| (i * 7 + 1) as u8).collect();
        for len in 0..from.len() {
            let mut to = vec![0; len];
            copy_short(&mut to, &from[..len]);
            assert_eq!(to, from[..len], "{len} bytes");
        }
    }

    #[test]
    #[should_panic(expected = "40 bytes for 39")]
    fn lengths_that_differ_are_an_error() {
        copy_short(&mut [0; 40], &[0; 39]);
    }
}
