//! Reads an input from front to back. What is missing at its end reads as zero, so that every input
//! means something and a shorter one means something similar.

use homa::time::Nanos;

/// What is left of an input.
#[derive(Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// The next two bytes, high byte first.
    pub fn short(&mut self) -> u16 {
        u16::from(self.byte()) << 8 | u16::from(self.byte())
    }

    /// The next four bytes, high byte first.
    pub fn word(&mut self) -> u32 {
        u32::from(self.short()) << 16 | u32::from(self.short())
    }

    /// Up to `count` bytes.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// Bytes behind their length in two bytes.
    pub fn string(&mut self) -> &'a [u8] {
        let count = self.short();
        self.bytes(usize::from(count))
    }

    /// A time from a nanosecond to 2 s: four bits of exponent are enough to reach every timer.
    pub fn duration(&mut self) -> Nanos {
        let short = self.short();
        Nanos(u64::from(short & 0x0FFF) << (short >> 12)).max(Nanos(1))
            + Nanos(u64::from(short >> 12) * 100_000)
    }
}
