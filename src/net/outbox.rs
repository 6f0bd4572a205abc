//! The frames a stack sends on its own, waiting to be polled.

use super::ethernet::FRAME_MIN_BYTES;

/// A queue of frames in memory taken once; when it is full, new frames are refused.
#[derive(Debug)]
pub(super) struct Outbox {
    /// As many slots of `frame_bytes` as there are `lens`.
    slots: Box<[u8]>,
    /// The length of the frame in each slot.
    lens: Box<[usize]>,
    frame_bytes: usize,
    first: usize,
    queued: usize,
}

impl Outbox {
    /// Room for `frames_max` frames of up to `frame_bytes`, at least the Ethernet minimum.
    pub(super) fn new(frames_max: usize, frame_bytes: usize) -> Self {
        let frame_bytes = frame_bytes.max(FRAME_MIN_BYTES);
        let slots = vec![0; frames_max * frame_bytes].into_boxed_slice();
        let lens = vec![0; frames_max].into_boxed_slice();
        Self { slots, lens, frame_bytes, first: 0, queued: 0 }
    }

    /// Queues a frame made of `parts` behind each other, padded to the Ethernet minimum. `false` if
    /// the queue is full or the frame too long.
    pub(super) fn push(&mut self, parts: &[&[u8]]) -> bool {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if self.queued == self.lens.len() || len > self.frame_bytes {
            return false;
        }
        let at = (self.first + self.queued) % self.lens.len();
        let slot = &mut self.slots[at * self.frame_bytes..][..self.frame_bytes];
        let mut end = 0;
        for part in parts {
            slot[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        let padded_len = len.max(FRAME_MIN_BYTES);
        slot[end..padded_len].fill(0);
        self.lens[at] = padded_len;
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
            let start = self.first * self.frame_bytes;
            emit(&self.slots[start..][..self.lens[self.first]]);
            self.first = (self.first + 1) % self.lens.len();
            self.queued -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME_BYTES: usize = 1518;

    fn drained(outbox: &mut Outbox) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        outbox.drain(usize::MAX, |frame| frames.push(frame.to_vec()));
        frames
    }

    #[test]
    fn what_is_not_taken_stays() {
        let mut outbox = Outbox::new(3, FRAME_BYTES);
        assert!((1..=3).all(|n| outbox.push(&[&[n; 60]])));
        let mut taken = Vec::new();
        outbox.drain(0, |frame| taken.push(frame[0]));
        outbox.drain(2, |frame| taken.push(frame[0]));
        assert_eq!((taken, outbox.is_empty()), (vec![1, 2], false));
        assert_eq!(drained(&mut outbox), [[3; 60]]);
    }

    #[test]
    fn frames_come_out_in_order_and_the_ring_wraps() {
        let mut outbox = Outbox::new(3, FRAME_BYTES);
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
        let mut outbox = Outbox::new(2, FRAME_BYTES);
        assert!(outbox.push(&[&[1; 60]]) && outbox.push(&[&[2; 60]]));
        assert!(!outbox.push(&[&[3; 60]]));
        assert_eq!(drained(&mut outbox), [[1; 60], [2; 60]]);
        assert!(outbox.push(&[&[4; 60]]));
    }

    #[test]
    fn short_frames_are_padded_with_zeros_and_long_ones_refused() {
        let mut outbox = Outbox::new(1, FRAME_BYTES);
        assert!(outbox.push(&[&[9; FRAME_BYTES]]));
        assert_eq!(drained(&mut outbox)[0].len(), FRAME_BYTES);
        assert!(outbox.push(&[&[9; 42]]));
        let frame = drained(&mut outbox).remove(0);
        assert_eq!((&frame[..42], &frame[42..]), (&[9; 42][..], &[0; 18][..]));
        assert!(!outbox.push(&[&[9; FRAME_BYTES], &[9]]));
    }
}
