//! The bytes of a message as a function of what it belongs to, so that both ends can make and check
//! them without talking about it.
//!
//! A [`Pattern`] is an endless string of bytes, different for every RPC and direction, of which any
//! piece can be written or checked alone. A packet put at the wrong offset, into the wrong message,
//! twice, or not at all does not match.

use core::fmt;

/// Which message of an RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From client to server.
    Request,
    /// From server to client.
    Response,
}

/// Odd constants with well spread bits: the golden ratio, and one of the multipliers with which
/// MurmurHash3 finishes.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
const SPREAD: u64 = 0xFF51_AFD7_ED55_8CCD;

/// The bytes of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    seed: u64,
}

impl Pattern {
    /// The bytes of the request or the response of RPC `rpc_id`. Both ends must name the RPC by the
    /// same number.
    pub const fn new(rpc_id: u64, direction: Direction) -> Self {
        let key = rpc_id ^ ((matches!(direction, Direction::Response) as u64) << 63);
        // Ids are neighbours; their seeds must not be, or one message would be another one shifted.
        Self { seed: mix(mix(key).wrapping_add(STEP)) }
    }

    /// The eight bytes from offset `8 * index`, first byte lowest.
    ///
    /// Additions and shifts only, which every processor does for several words at once. Both steps are
    /// one to one, so that the words of a message all differ.
    #[inline(always)]
    const fn word(self, index: u64) -> u64 {
        let x = self.seed.wrapping_add(index.wrapping_mul(STEP));
        x ^ (x >> 29)
    }

    /// The byte at `offset`.
    #[inline]
    pub const fn byte(self, offset: usize) -> u8 {
        self.word(offset as u64 / 8).to_le_bytes()[offset % 8]
    }

    /// Writes the bytes from `offset` on into `piece`.
    pub fn fill(self, offset: usize, piece: &mut [u8]) {
        let (head, body) = piece.split_at_mut(head_len(offset, piece.len()));
        for (i, byte) in head.iter_mut().enumerate() {
            *byte = self.byte(offset + i);
        }
        let mut index = ((offset + head.len()) / 8) as u64;
        let (words, tail) = body.as_chunks_mut::<8>();
        for word in words {
            *word = self.word(index).to_le_bytes();
            index += 1;
        }
        let last = self.word(index).to_le_bytes();
        tail.copy_from_slice(&last[..tail.len()]);
    }

    /// Checks that `piece` holds the bytes from `offset` on.
    ///
    /// # Errors
    /// The first byte that differs.
    pub fn check(self, offset: usize, piece: &[u8]) -> Result<(), Mismatch> {
        let (head, body) = piece.split_at(head_len(offset, piece.len()));
        let first = ((offset + head.len()) / 8) as u64;
        let (words, tail) = body.as_chunks::<8>();
        // Differences are gathered and looked at once, so that the loop has no branch.
        let mut difference = 0;
        let mut index = first;
        for word in words {
            difference |= u64::from_le_bytes(*word) ^ self.word(index);
            index += 1;
        }
        let last = self.word(index).to_le_bytes();
        let head_good = head.iter().enumerate().all(|(i, &byte)| byte == self.byte(offset + i));
        if difference == 0 && head_good && tail == &last[..tail.len()] {
            return Ok(());
        }
        self.find_mismatch(offset, piece)
    }

    #[cold]
    fn find_mismatch(self, offset: usize, piece: &[u8]) -> Result<(), Mismatch> {
        for (i, &got) in piece.iter().enumerate() {
            let expected = self.byte(offset + i);
            if got != expected {
                return Err(Mismatch { offset: offset + i, expected, got });
            }
        }
        Ok(())
    }
}

/// Bytes from `offset` to the next multiple of eight, at most `len`.
#[inline]
const fn head_len(offset: usize, len: usize) -> usize {
    let head = offset.wrapping_neg() % 8;
    if head < len { head } else { len }
}

/// Spreads every bit of `x`; one to one.
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 32)).wrapping_mul(SPREAD);
    x ^ (x >> 29)
}

/// A byte that is not what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Where in the message, from 0.
    pub offset: usize,
    /// The byte that belongs there.
    pub expected: u8,
    /// The byte that was there.
    pub got: u8,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, expected, got } = self;
        write!(f, "byte {offset} of the message is {got:#04x}, expected {expected:#04x}")
    }
}

impl std::error::Error for Mismatch {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(pattern: Pattern, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        pattern.fill(0, &mut bytes);
        bytes
    }

    #[test]
    fn messages_differ() {
        let mut firsts: Vec<u64> = (0..10_000)
            .flat_map(|id| [Direction::Request, Direction::Response].map(|d| Pattern::new(id, d)))
            .map(|pattern| pattern.word(0))
            .collect();
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts.len(), 20_000);
    }

    #[test]
    fn no_message_is_a_neighbour_shifted() {
        let message = bytes(Pattern::new(1, Direction::Request), 4096);
        for id in 2..20 {
            let other = bytes(Pattern::new(id, Direction::Request), 64);
            assert!(!message.windows(8).any(|w| w == &other[..8]), "id {id}");
        }
    }

    #[test]
    fn bytes_are_spread_evenly() {
        let mut counts = [0_u32; 256];
        for byte in bytes(Pattern::new(42, Direction::Response), 256 * 1024) {
            counts[usize::from(byte)] += 1;
        }
        // Mean 1024, standard deviation 32.
        assert!(counts.iter().all(|count| (824..1224).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_first_wrong_byte_is_told() {
        let pattern = Pattern::new(9, Direction::Request);
        let mut piece = vec![0; 100];
        pattern.fill(13, &mut piece);
        piece[50] ^= 0x10;
        piece[80] ^= 1;
        let expected = pattern.byte(63);
        let mismatch = pattern.check(13, &piece).unwrap_err();
        assert_eq!(mismatch, Mismatch { offset: 63, expected, got: expected ^ 0x10 });
        let told = Mismatch { offset: 63, expected: 0xab, got: 5 }.to_string();
        assert_eq!(told, "byte 63 of the message is 0x05, expected 0xab");
    }

    proptest! {
        /// Filling in pieces, cut anywhere, gives the bytes one by one.
        #[test]
        fn pieces_make_the_whole(id: u64, cuts in proptest::collection::vec(0_usize..40, 1..20)) {
            let pattern = Pattern::new(id, Direction::Request);
            let mut whole = Vec::new();
            for len in cuts {
                let mut piece = vec![0; len];
                pattern.fill(whole.len(), &mut piece);
                prop_assert_eq!(pattern.check(whole.len(), &piece), Ok(()));
                whole.extend(piece);
            }
            let one_by_one: Vec<u8> = (0..whole.len()).map(|at| pattern.byte(at)).collect();
            prop_assert_eq!(whole, one_by_one);
        }

        #[test]
        fn every_flipped_bit_is_found(
            id: u64, offset in 0_usize..1 << 40, len in 1_usize..70, at: prop::sample::Index, bit in 0_u32..8,
        ) {
            let pattern = Pattern::new(id, Direction::Response);
            let mut piece = vec![0; len];
            pattern.fill(offset, &mut piece);
            let at = at.index(len);
            piece[at] ^= 1_u8 << bit;
            prop_assert_eq!(pattern.check(offset, &piece).unwrap_err().offset, offset + at);
        }

        #[test]
        fn another_place_does_not_match(id: u64, from in 0_usize..4000, to in 0_usize..4000) {
            prop_assume!(from != to);
            let pattern = Pattern::new(id, Direction::Request);
            let mut piece = vec![0; 32];
            pattern.fill(from, &mut piece);
            prop_assert!(pattern.check(to, &piece).is_err());
        }
    }
}
