//! Priorities of unscheduled packets: message lengths are mapped to priorities by the receiver's
//! cutoffs (protocol.md section 12).

use crate::wire::NUM_PRIORITIES;

use super::config::Config;

/// The priority for the unscheduled packets of a message: the highest whose cutoff it does not
/// exceed. Priority 0 takes what is left.
#[inline]
pub(super) fn unscheduled_priority(
    cutoffs: &[u32; NUM_PRIORITIES],
    num_priorities: u8,
    length: u32,
) -> u8 {
    let mut priority = num_priorities - 1;
    while priority > 0 && cutoffs[usize::from(priority)] < length {
        priority -= 1;
    }
    priority
}

/// What a sender uses for a peer that has not sent CUTOFFS: everything at priority 6, or the
/// highest there is below that.
pub(super) const UNKNOWN_PEER: [u32; NUM_PRIORITIES] =
    [u32::MAX, u32::MAX, u32::MAX, u32::MAX, u32::MAX, u32::MAX, u32::MAX, 0];

const SMALL_CLASSES: usize = 64;
const SMALL_BYTES: u32 = 64;
const SMALL_END: u32 = 4_096;
const MEDIUM_BYTES: u32 = 1_024;
const MEDIUM_END: u32 = 131_072;
const MEDIUM_CLASSES: usize = ((MEDIUM_END - SMALL_END) / MEDIUM_BYTES) as usize;
const CLASSES: usize = SMALL_CLASSES + MEDIUM_CLASSES;
/// Numbers that say which sizes were counted: bytes per class, large messages, their bytes, messages.
pub(super) const HISTOGRAM: usize = CLASSES + 3;
/// Messages between two computations.
const MESSAGES_MIN: u64 = 10_000;
/// Cutoff of the levels that take everything.
const LARGEST: u32 = 1_000_000;

/// This host's cutoffs, and the sizes of incoming messages they are computed from.
#[derive(Debug)]
pub(super) struct Cutoffs {
    current: [u32; NUM_PRIORITIES],
    version: u16,
    sched_max: u8,
    num_priorities: u8,
    unsched_bytes: u32,
    classes: Box<[u64; CLASSES]>,
    large_messages: u64,
    large_bytes: u64,
    messages: u64,
    /// Upper bounds of the deciles of message size when the cutoffs were last installed.
    deciles: [f64; 9],
}

impl Cutoffs {
    pub(super) fn new(config: &Config) -> Self {
        let mut cutoffs = Self {
            current: config.cutoffs,
            version: 1,
            sched_max: 0,
            num_priorities: config.num_priorities,
            unsched_bytes: config.unsched_bytes,
            classes: Box::new([0; CLASSES]),
            large_messages: 0,
            large_bytes: 0,
            messages: 0,
            deciles: [0.0; 9],
        };
        cutoffs.install(config.cutoffs);
        cutoffs
    }

    pub(super) fn current(&self) -> [u32; NUM_PRIORITIES] {
        self.current
    }

    pub(super) fn version(&self) -> u16 {
        self.version
    }

    /// The highest priority for scheduled packets.
    pub(super) fn sched_max(&self) -> u8 {
        self.sched_max
    }

    /// Normalises and adopts `cutoffs`: levels not in use 0, level 0 without limit.
    fn install(&mut self, mut cutoffs: [u32; NUM_PRIORITIES]) {
        cutoffs[usize::from(self.num_priorities)..].fill(0);
        cutoffs[0] = i32::MAX as u32;
        let all = cutoffs.iter().rposition(|&cutoff| cutoff >= LARGEST).unwrap_or(0);
        self.sched_max = all.saturating_sub(1) as u8;
        self.current = cutoffs;
    }

    /// Sets new cutoffs and tells peers by a new version.
    pub(super) fn set(&mut self, cutoffs: [u32; NUM_PRIORITIES]) {
        self.install(cutoffs);
        self.version = self.version.wrapping_add(1).max(1);
    }

    /// Counts an incoming message.
    #[inline]
    pub(super) fn count(&mut self, length: u32) {
        self.messages += 1;
        if length <= SMALL_END {
            self.classes[(length - 1) as usize / SMALL_BYTES as usize] += u64::from(length);
        } else if length <= MEDIUM_END {
            let class = (length - SMALL_END - 1) as usize / MEDIUM_BYTES as usize;
            self.classes[SMALL_CLASSES + class] += u64::from(length);
        } else {
            self.large_messages += 1;
            self.large_bytes += u64::from(length);
        }
    }

    /// The sizes counted since the last time, which are forgotten here.
    pub(super) fn take_sizes(&mut self) -> [u64; HISTOGRAM] {
        let mut sizes = [0; HISTOGRAM];
        sizes[..CLASSES].copy_from_slice(&self.classes[..]);
        sizes[CLASSES..].copy_from_slice(&[self.large_messages, self.large_bytes, self.messages]);
        self.forget_sizes();
        sizes
    }

    /// Counts sizes that others have seen.
    pub(super) fn add_sizes(&mut self, sizes: &[u64; HISTOGRAM]) {
        for (mine, theirs) in self.classes.iter_mut().zip(sizes) {
            *mine += theirs;
        }
        self.large_messages += sizes[CLASSES];
        self.large_bytes += sizes[CLASSES + 1];
        self.messages += sizes[CLASSES + 2];
    }

    fn forget_sizes(&mut self) {
        self.classes.fill(0);
        (self.messages, self.large_messages, self.large_bytes) = (0, 0, 0);
    }

    /// Takes over the cutoffs that another shard of this host has told peers about.
    pub(super) fn adopt(&mut self, cutoffs: [u32; NUM_PRIORITIES], version: u16) {
        self.install(cutoffs);
        self.version = version;
    }

    /// Bounds (exclusive lower, inclusive upper) of a class.
    fn bounds(class: usize) -> (u32, u32) {
        if class < SMALL_CLASSES {
            let upper = (class as u32 + 1) * SMALL_BYTES;
            (upper - SMALL_BYTES, upper)
        } else {
            let upper = SMALL_END + ((class - SMALL_CLASSES) as u32 + 1) * MEDIUM_BYTES;
            (upper - MEDIUM_BYTES, upper)
        }
    }

    /// Bytes, estimated messages and unscheduled bytes of a class.
    fn class(&self, class: usize) -> (f64, f64, f64) {
        let (lower, upper) = Self::bounds(class);
        let bytes = self.classes[class] as f64;
        let messages = 2.0 * bytes / f64::from(lower + upper);
        let unscheduled = if upper <= self.unsched_bytes {
            bytes
        } else {
            bytes.min(messages * f64::from(self.unsched_bytes))
        };
        (bytes, messages, unscheduled)
    }

    /// Recomputes the cutoffs from the messages counted since the last time, if those are enough and
    /// their sizes have changed. Says whether new cutoffs were installed. Called once a second.
    pub(super) fn recompute(&mut self) -> bool {
        if self.num_priorities == 1 || self.messages < MESSAGES_MIN {
            return false;
        }
        let deciles = self.size_deciles();
        let moved: f64 = deciles
            .iter()
            .zip(self.deciles)
            .map(|(&new, old)| (new - old).abs() / new.max(old).max(1.0))
            .sum();
        let computed = (moved >= 1.0).then(|| self.compute());
        self.forget_sizes();
        if let Some(cutoffs) = computed {
            self.deciles = deciles;
            self.set(cutoffs);
        }
        computed.is_some()
    }

    /// Protocol.md section 12.3, steps 1 to 6.
    fn compute(&self) -> [u32; NUM_PRIORITIES] {
        let levels = usize::from(self.num_priorities);
        let large_unscheduled = self.large_messages as f64 * f64::from(self.unsched_bytes);
        let mut unscheduled = large_unscheduled.min(self.large_bytes as f64);
        let mut total = self.large_bytes as f64;
        for class in 0..CLASSES {
            let (bytes, _, class_unscheduled) = self.class(class);
            total += bytes;
            unscheduled += class_unscheduled;
        }
        let wanted = (levels as f64 * unscheduled / total + 0.5).floor().max(1.0);
        let share =
            1.0 + if wanted < levels as f64 { unscheduled / wanted } else { total / levels as f64 };
        let mut cutoffs = [0; NUM_PRIORITIES];
        let (mut sum, mut threshold, mut level) = (0.0, share, levels - 1);
        for class in 0..CLASSES {
            sum += self.class(class).2;
            if sum >= threshold && level > 0 {
                cutoffs[level] = Self::bounds(class).1;
                level -= 1;
                threshold = sum + share;
            }
            if sum.max(threshold) >= unscheduled {
                break;
            }
        }
        cutoffs[..=level].fill(LARGEST);
        cutoffs
    }

    fn size_deciles(&self) -> [f64; 9] {
        let counts = |class: usize| self.class(class).1;
        let total: f64 = (0..CLASSES).map(counts).sum::<f64>() + self.large_messages as f64;
        let mut deciles = [f64::from(LARGEST); 9];
        let (mut sum, mut decile) = (0.0, 0);
        for class in 0..CLASSES {
            sum += counts(class);
            while decile < 9 && sum >= total * (decile + 1) as f64 / 10.0 {
                deciles[decile] = f64::from(Self::bounds(class).1);
                decile += 1;
            }
        }
        deciles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cutoffs() -> Cutoffs {
        Cutoffs::new(&Config::default())
    }

    #[test]
    fn default_cutoffs_give_the_priorities_seen_from_linux() {
        let cutoffs = cutoffs();
        let priority = |length| unscheduled_priority(&cutoffs.current, 8, length);
        let expected = [(1, 7), (200, 7), (201, 6), (2_800, 6), (2_801, 5), (15_000, 5)];
        for (length, level) in expected.into_iter().chain([(15_001, 4), (1_000_000, 4)]) {
            assert_eq!(priority(length), level, "{length} bytes");
        }
        assert_eq!(cutoffs.sched_max(), 3);
        assert_eq!(unscheduled_priority(&UNKNOWN_PEER, 8, 1), 6);
        assert_eq!(unscheduled_priority(&UNKNOWN_PEER, 4, 1), 3);
        assert_eq!(unscheduled_priority(&[0; 8], 8, 1), 0);
    }

    #[test]
    fn short_messages_only_spread_over_all_levels() {
        let mut cutoffs = cutoffs();
        for i in 0..80_000 {
            cutoffs.count(1 + i % 4_000);
        }
        assert!(cutoffs.recompute());
        let computed = cutoffs.current();
        assert_eq!(cutoffs.version(), 2);
        // Everything is unscheduled: each level gets an eighth of the bytes, so the square of the
        // cutoff grows by equal steps.
        for (level, &cutoff) in computed.iter().enumerate().skip(1) {
            let exact = 4_000.0 * ((8 - level) as f64 / 8.0).sqrt();
            // Cutoffs are class bounds, and each level takes up to a class more than its share.
            let above = f64::from(cutoff) / exact;
            assert!((1.0..1.15).contains(&above), "{level}: {cutoff} {exact}");
        }
        assert_eq!(cutoffs.sched_max(), 0);
    }

    #[test]
    fn long_messages_leave_levels_for_scheduled_packets() {
        let mut cutoffs = cutoffs();
        for _ in 0..10_000 {
            cutoffs.count(1_000_000);
        }
        assert!(cutoffs.recompute());
        // 4 % of the bytes are unscheduled: one level for them.
        assert_eq!(cutoffs.current()[1..], [1_000_000; 7]);
        assert_eq!(cutoffs.sched_max(), 6);
    }

    #[test]
    fn the_same_sizes_again_change_nothing() {
        let mut cutoffs = cutoffs();
        for round in 0..3 {
            for i in 0..20_000 {
                cutoffs.count(1 + i % 3_000);
            }
            assert_eq!(cutoffs.recompute(), round == 0);
        }
        for _ in 0..9_999 {
            cutoffs.count(100_000);
        }
        assert!(!cutoffs.recompute(), "too few messages");
    }
}
