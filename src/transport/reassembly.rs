//! Putting a message together from packets that come in any order, overlap and repeat
//! (protocol.md section 8).

use core::ops::Range;

use super::buffers::Payload;
use super::message::{Fragment, Fragments, Ledger};
use super::mutation::Mutation;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// It brought this many bytes that were missing.
    New(u32),
    /// It brought nothing new.
    Duplicate,
    /// It would have opened one gap more than allowed.
    TooManyGaps,
}

/// The received part of one message: fragments in order of offset, never overlapping. The gaps
/// are what lies between them.
#[derive(Debug)]
pub(super) struct Reassembly<B> {
    length: u32,
    received: u32,
    /// One past the highest byte received.
    high: u32,
    gaps: u32,
    fragments: Fragments<B>,
}

impl<B: Payload> Reassembly<B> {
    /// `length` is the length of the message, already checked to be 1 to `Config::message_max_bytes`.
    pub(super) fn new(length: u32) -> Self {
        Self { length, received: 0, high: 0, gaps: 0, fragments: Fragments::None }
    }

    pub(super) fn length(&self) -> u32 {
        self.length
    }

    /// Distinct bytes received.
    pub(super) fn received(&self) -> u32 {
        self.received
    }

    /// Distinct bytes received that lie below `end`.
    pub(super) fn received_below(&self, end: u32) -> u32 {
        if self.high <= end {
            return self.received;
        }
        self.received - self.bytes_from(end)
    }

    /// Distinct bytes received from `end` on. Packets that the sender may send end where it may, or
    /// one reaches across.
    #[cold]
    fn bytes_from(&self, end: u32) -> u32 {
        let last = self.fragments.as_slice().iter().rev();
        let above = last.take_while(|fragment| fragment.end() > end);
        above.map(|fragment| fragment.end() - fragment.offset.max(end)).sum()
    }

    pub(super) fn remaining(&self) -> u32 {
        self.length - self.received
    }

    pub(super) fn is_complete(&self) -> bool {
        self.received == self.length
    }

    /// Gaps below the highest byte received.
    pub(super) fn gap_count(&self) -> u32 {
        self.gaps
    }

    /// One past the highest byte received.
    pub(super) fn high(&self) -> u32 {
        self.high
    }

    pub(super) fn packets(&self) -> u32 {
        self.fragments.as_slice().len() as u32
    }

    /// The payload that holds the first bytes of the message, if it has come.
    pub(super) fn head(&self) -> Option<&B> {
        self.fragments.as_slice().first().filter(|first| first.offset == 0).map(|f| &f.payload)
    }

    /// Adds the payload of a packet at `offset`. The caller has checked that it ends within the
    /// message. At most `gaps_max` gaps are kept open.
    pub(super) fn add(
        &mut self,
        offset: u32,
        payload: B,
        gaps_max: u32,
        ledger: &Ledger<B>,
    ) -> Added {
        let end = offset + payload.len();
        if payload.is_empty() {
            return Added::Duplicate;
        }
        match &mut self.fragments {
            Fragments::None => {
                if offset > 0 && gaps_max == 0 {
                    return Added::TooManyGaps;
                }
                self.gaps = u32::from(offset > 0);
                self.received = payload.len();
                self.high = end;
                self.fragments = Fragments::One(Fragment { offset, payload });
                ledger.retain(1);
                Added::New(self.received)
            }
            Fragments::One(_) => {
                self.spread_out(ledger);
                self.add_to_list(offset..end, payload, gaps_max, ledger)
            }
            Fragments::Many(_) => self.add_to_list(offset..end, payload, gaps_max, ledger),
        }
    }

    /// Adds a payload that goes on where those before it end.
    #[inline]
    pub(super) fn append(&mut self, payload: B, ledger: &Ledger<B>) {
        if let Fragments::Many(list) = &mut self.fragments {
            let (offset, bytes) = (self.high, payload.len());
            self.received += bytes;
            self.high += bytes;
            list.push(Fragment { offset, payload });
            ledger.retain(1);
        } else {
            self.add(self.high, payload, 0, ledger);
        }
    }

    fn spread_out(&mut self, ledger: &Ledger<B>) {
        if let Fragments::One(first) = core::mem::replace(&mut self.fragments, Fragments::None) {
            let mut list = ledger.take_list();
            list.push(first);
            self.fragments = Fragments::Many(list);
        }
    }

    fn add_to_list(
        &mut self,
        range: Range<u32>,
        mut payload: B,
        gaps_max: u32,
        ledger: &Ledger<B>,
    ) -> Added {
        if range.start == self.high {
            // In order: the case that must be fast.
            self.append(payload, ledger);
            return Added::New(range.end - range.start);
        }
        let Fragments::Many(list) = &mut self.fragments else { return Added::Duplicate };
        // Cut off what the neighbours have; what lies wholly inside the packet is replaced by it,
        // so that a packet always becomes one fragment.
        let first = list.partition_point(|fragment| fragment.end() <= range.start);
        let mut start = range.start;
        let mut from = first;
        if let Some(fragment) = list.get(first)
            && fragment.offset <= start
        {
            start = fragment.end() + u32::from(Mutation::GapOffByOne.is_on());
            from += 1;
        }
        let mut end = range.end;
        let mut to = from;
        let mut replaced_bytes = 0;
        while let Some(fragment) = list.get(to) {
            if fragment.offset >= end {
                break;
            }
            if fragment.end() > end {
                end = fragment.offset;
                break;
            }
            replaced_bytes += fragment.payload.len();
            to += 1;
        }
        if start >= end || end - start == replaced_bytes {
            return Added::Duplicate;
        }
        let gaps = self.gaps_after(from..to, start..end);
        if gaps > gaps_max && gaps > self.gaps {
            return Added::TooManyGaps;
        }
        let Fragments::Many(list) = &mut self.fragments else { return Added::Duplicate };
        payload.narrow(start - range.start..end - range.start);
        let replaced = (to - from) as u32;
        list.splice(from..to, [Fragment { offset: start, payload }]);
        ledger.retain(1);
        ledger.release(replaced);
        self.gaps = gaps;
        self.high = self.high.max(end);
        let new = end - start - replaced_bytes;
        self.received += new;
        Added::New(new)
    }

    /// The number of gaps once the fragments `old` have been replaced by one that covers `bytes`.
    fn gaps_after(&self, old: Range<usize>, bytes: Range<u32>) -> u32 {
        let list = self.fragments.as_slice();
        let before = old.start.checked_sub(1).map_or(0, |index| list[index].end());
        let mut covered = before;
        let mut closed = 0;
        for fragment in &list[old.clone()] {
            closed += u32::from(fragment.offset > covered);
            covered = fragment.end();
        }
        let mut opened = u32::from(bytes.start > before);
        if let Some(next) = list.get(old.end) {
            closed += u32::from(next.offset > covered);
            opened += u32::from(next.offset > bytes.end);
        }
        self.gaps + opened - closed
    }

    /// The gaps below the highest byte received, lowest first.
    pub(super) fn gaps(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        let mut covered = 0;
        self.fragments.as_slice().iter().filter_map(move |fragment| {
            let gap = covered..fragment.offset;
            covered = fragment.end();
            (!gap.is_empty()).then_some(gap)
        })
    }

    /// Hands over the payloads; what is left is empty.
    pub(super) fn take(&mut self) -> Fragments<B> {
        self.high = 0;
        core::mem::replace(&mut self.fragments, Fragments::None)
    }

    /// Drops the payloads and gives their share of the account back.
    pub(super) fn clear(&mut self, ledger: &Ledger<B>) {
        ledger.release(self.packets());
        if let Fragments::Many(list) = self.take() {
            ledger.give_list(list);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::pair::Bytes;
    use proptest::prelude::*;

    fn payload(range: Range<u32>) -> Bytes {
        Bytes(range.map(|i| (i % 251) as u8).collect())
    }

    /// The obvious implementation: one flag per byte.
    fn missing(flags: &[bool]) -> Vec<Range<u32>> {
        let high = flags.iter().rposition(|&have| have).map_or(0, |i| i + 1);
        let mut gaps: Vec<Range<u32>> = Vec::new();
        for (i, _) in flags[..high].iter().enumerate().filter(|(_, have)| !**have) {
            match gaps.last_mut() {
                Some(last) if last.end == i as u32 => last.end += 1,
                _ => gaps.push(i as u32..i as u32 + 1),
            }
        }
        gaps
    }

    proptest! {
        #[test]
        fn agrees_with_a_flag_per_byte(
            packets in proptest::collection::vec((0u32..200, 0u32..60), 1..80)
        ) {
            let length = 200;
            let ledger = Ledger::new();
            let mut reassembly = Reassembly::new(length);
            let mut flags = vec![false; length as usize];
            for (start, len) in packets {
                let range = start..(start + len).min(length);
                let new = flags[range.start as usize..range.end as usize].iter().filter(|f| !**f).count();
                let added = reassembly.add(range.start, payload(range.clone()), u32::MAX, &ledger);
                prop_assert_eq!(added, if new == 0 { Added::Duplicate } else { Added::New(new as u32) });
                flags[range.start as usize..range.end as usize].fill(true);
                prop_assert_eq!(reassembly.gaps().collect::<Vec<_>>(), missing(&flags));
                prop_assert_eq!(reassembly.gap_count() as usize, missing(&flags).len());
                prop_assert_eq!(reassembly.received() as usize, flags.iter().filter(|f| **f).count());
                prop_assert_eq!(ledger.retained(), reassembly.packets());
                let below = flags[..start as usize].iter().filter(|f| **f).count();
                prop_assert_eq!(reassembly.received_below(start) as usize, below);
            }
            let mut at = 0;
            for fragment in reassembly.take().as_slice() {
                prop_assert!(fragment.offset >= at);
                prop_assert_eq!(&fragment.payload.0, &payload(fragment.offset..fragment.end()).0);
                at = fragment.end();
            }
        }
    }

    #[test]
    fn refuses_the_gap_beyond_the_limit_but_fills_those_it_has() {
        let ledger = Ledger::new();
        let mut reassembly = Reassembly::new(100);
        assert_eq!(reassembly.add(10, payload(10..20), 1, &ledger), Added::New(10));
        assert_eq!(reassembly.add(30, payload(30..40), 1, &ledger), Added::TooManyGaps);
        assert_eq!(reassembly.add(3, payload(3..5), 1, &ledger), Added::TooManyGaps);
        assert_eq!(reassembly.add(0, payload(0..10), 1, &ledger), Added::New(10));
        assert_eq!(reassembly.add(30, payload(30..40), 1, &ledger), Added::New(10));
        assert_eq!(ledger.retained(), 3);
        reassembly.clear(&ledger);
        assert_eq!(ledger.retained(), 0);
    }
}
