//! The frames a stack sends on its own, waiting to be polled.

use super::ethernet::FRAME_MIN_BYTES;

/// The longest frame we send on our own: a full Ethernet frame with a tag.
pub(super) const FRAME_MAX_BYTES: usize = 1518;

#[derive(Debug)]
struct Slot {
    bytes: [u8; FRAME_MAX_BYTES],
    len: usize,
}

/// A queue of frames in memory taken once; when it is full, new frames are refused.
#[derive(Debug)]
pub(super) struct Outbox {
    slots: Box<[Slot]>,
    first: usize,
    queued: usize,
}

impl Outbox {
    pub(super) fn new(frames_max: usize) -> Self {
        let slot = |_| Slot { bytes: [0; FRAME_MAX_BYTES], len: 0 };
        Self { slots: (0..frames_max).map(slot).collect(), first: 0, queued: 0 }
    }

    /// Queues a frame made of `parts` behind each other, padded to the Ethernet minimum. `false` if
    /// the queue is full or the frame too long.
    pub(super) fn push(&mut self, parts: &[&[u8]]) -> bool {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if self.queued == self.slots.len() || len > FRAME_MAX_BYTES {
            return false;
        }
        let at = (self.first + self.queued) % self.slots.len();
        let slot = &mut self.slots[at];
        let mut end = 0;
        for part in parts {
            slot.bytes[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        slot.len = len.max(FRAME_MIN_BYTES);
        slot.bytes[end..slot.len].fill(0);
        self.queued += 1;
        true
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Takes up to `frames_max` frames out, oldest first.
    pub(super) fn drain(&mut self, frames_max: usize, mut emit: impl FnMut(&[u8])) {
        for _ in 0..frames_max.min(self.queued) {
            let slot = &self.slots[self.first];
            emit(&slot.bytes[..slot.len]);
            self.first = (self.first + 1) % self.slots.len();
            self.queued -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(outbox: &mut Outbox) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        outbox.drain(usize::MAX, |frame| frames.push(frame.to_vec()));
        frames
    }

    #[test]
    fn what_is_not_taken_stays() {
        let mut outbox = Outbox::new(3);
        assert!((1..=3).all(|n| outbox.push(&[&[n; 60]])));
        let mut taken = Vec::new();
        outbox.drain(0, |frame| taken.push(frame[0]));
        outbox.drain(2, |frame| taken.push(frame[0]));
        assert_eq!((taken, outbox.is_empty()), (vec![1, 2], false));
        assert_eq!(drained(&mut outbox), [[3; 60]]);
    }

    #[test]
    fn frames_come_out_in_order_and_the_ring_wraps() {
        let mut outbox = Outbox::new(3);
        for round in 0..5_u8 {
            assert!(outbox.push(&[&[round; 70]]));
            assert!(outbox.push(&[&[round; 30], &[round + 100; 31]]));
            let mut joined = vec![round; 30];
            joined.extend([round + 100; 31]);
            assert_eq!(drained(&mut outbox), [vec![round; 70], joined]);
        }
    }

    #[test]
    fn a_full_queue_refuses() {
        let mut outbox = Outbox::new(2);
        assert!(outbox.push(&[&[1; 60]]) && outbox.push(&[&[2; 60]]));
        assert!(!outbox.push(&[&[3; 60]]));
        assert_eq!(drained(&mut outbox), [[1; 60], [2; 60]]);
        assert!(outbox.push(&[&[4; 60]]));
    }

    #[test]
    fn short_frames_are_padded_with_zeros_and_long_ones_refused() {
        let mut outbox = Outbox::new(1);
        assert!(outbox.push(&[&[9; FRAME_MAX_BYTES]]));
        assert_eq!(drained(&mut outbox)[0].len(), FRAME_MAX_BYTES);
        assert!(outbox.push(&[&[9; 42]]));
        let frame = drained(&mut outbox).remove(0);
        assert_eq!((&frame[..42], &frame[42..]), (&[9; 42][..], &[0; 18][..]));
        assert!(!outbox.push(&[&[9; FRAME_MAX_BYTES], &[9]]));
    }
}
