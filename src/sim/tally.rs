//! Slowdowns by message size.

use super::observe::{Delivery, Observer};
use super::receivers::ByReceiver;

/// Mantissa bits of a histogram class: slowdowns are kept to 0.1 %.
const MANTISSA_BITS: u32 = 10;
const SHIFT: u32 = 23 - MANTISSA_BITS;

/// Slowdowns of the messages of one range of sizes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bin {
    /// Largest message, in bytes.
    pub upper_bytes: u32,
    /// Messages.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    sum: f64,
    /// Counts by the upper bits of the slowdown as a float.
    classes: Vec<u32>,
}

/// Below all slowdowns that can occur: the published ideal can be a little slow, not by half.
const LOWEST: f32 = 0.25;

impl Bin {
    fn record(&mut self, size_bytes: u32, slowdown: f64) {
        self.count += 1;
        self.bytes += u64::from(size_bytes);
        self.sum += slowdown;
        let bits = (slowdown as f32).max(LOWEST).to_bits() >> SHIFT;
        let class = (bits - (LOWEST.to_bits() >> SHIFT)) as usize;
        if class >= self.classes.len() {
            self.classes.resize(class + 1, 0);
        }
        self.classes[class] += 1;
    }

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.bytes += other.bytes;
        self.sum += other.sum;
        if self.classes.len() < other.classes.len() {
            self.classes.resize(other.classes.len(), 0);
        }
        for (mine, theirs) in self.classes.iter_mut().zip(&other.classes) {
            *mine += theirs;
        }
    }

    /// Mean slowdown; not a number without messages.
    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// The slowdown that a fraction `q` of the messages does not exceed, to 0.1 %; not a number without
    /// messages.
    pub fn quantile(&self, q: f64) -> f64 {
        let rank = ((self.count as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        for (class, &count) in self.classes.iter().enumerate() {
            seen += u64::from(count);
            if seen >= rank {
                let bits = (class as u32 + (LOWEST.to_bits() >> SHIFT)) << SHIFT | 1 << (SHIFT - 1);
                return f64::from(f32::from_bits(bits));
            }
        }
        f64::NAN
    }
}

/// Bins of slowdowns, filled while it watches a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    bins: Vec<Bin>,
    all: Bin,
    damaged: u64,
    by_receiver: Option<ByReceiver>,
}

impl Tally {
    /// Empty bins with these upper edges, in bytes, rising; longer messages go to the last.
    pub fn new(edges: impl IntoIterator<Item = u32>) -> Self {
        let bin = |upper_bytes| Bin { upper_bytes, ..Bin::default() };
        let mut bins: Vec<Bin> = edges.into_iter().map(bin).collect();
        if bins.is_empty() {
            bins.push(bin(u32::MAX));
        }
        Self { bins, all: bin(u32::MAX), damaged: 0, by_receiver: None }
    }

    /// Takes the percentiles of each bin from every `per_group` neighbouring receivers by themselves, and
    /// their mean: see [`Sigcomm18::receivers_together`](super::Sigcomm18::receivers_together).
    pub fn by_receiver(mut self, per_group: u16) -> Self {
        self.by_receiver = Some(ByReceiver::new(self.bins.len(), per_group));
        self
    }

    /// Whether percentiles are those of receivers.
    pub fn is_by_receiver(&self) -> bool {
        self.by_receiver.is_some()
    }

    /// The slowdown that a fraction `q` of the messages of a bin does not exceed: of all of them, or the
    /// mean over receivers. Not a number without messages.
    pub fn quantile(&self, bin: usize, q: f64) -> f64 {
        match &self.by_receiver {
            Some(receivers) => receivers.quantile(bin, q),
            None => self.bins[bin].quantile(q),
        }
    }

    /// The bins in order of size.
    pub fn bins(&self) -> &[Bin] {
        &self.bins
    }

    /// All messages together.
    pub fn all(&self) -> &Bin {
        &self.all
    }

    /// Messages whose bytes were not those that were sent.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Takes over what `other`, with the same edges, has counted.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.bins.iter_mut().zip(&other.bins) {
            mine.add(theirs);
        }
        self.all.add(&other.all);
        self.damaged += other.damaged;
        if let (Some(mine), Some(theirs)) = (&mut self.by_receiver, &other.by_receiver) {
            mine.add(theirs);
        }
    }

    /// Neighbouring bins put together until each has at least `messages_min` messages (the last may
    /// have fewer), so that percentiles, of all receivers together, mean something.
    pub fn merged(&self, messages_min: u64) -> Self {
        let mut bins: Vec<Bin> = Vec::new();
        for bin in &self.bins {
            match bins.last_mut().filter(|last| last.count < messages_min) {
                Some(last) => {
                    last.add(bin);
                    last.upper_bytes = bin.upper_bytes;
                }
                None => bins.push(bin.clone()),
            }
        }
        Self { bins, all: self.all.clone(), damaged: self.damaged, by_receiver: None }
    }

    /// The header of [`Tally::csv_rows`].
    pub const CSV_HEADER: &'static str = "workload,protocol,load_label,size_upper_bytes,msg_count_pct,\
        bytes_pct,cum_msg_count_pct,cum_bytes_pct,unsched_bytes,mean_slowdown,p50_slowdown,p99_slowdown";

    /// One line per bin that has messages, in the columns of the published curves.
    pub fn csv_rows(
        &self,
        workload: &str,
        protocol: &str,
        load: f64,
        unsched_bytes: u32,
    ) -> String {
        let (count, bytes) = (self.all.count as f64 / 100.0, self.all.bytes as f64 / 100.0);
        let (mut below, mut bytes_below) = (0, 0);
        let mut text = String::new();
        for (index, bin) in self.bins.iter().enumerate().filter(|(_, bin)| bin.count > 0) {
            below += bin.count;
            bytes_below += bin.bytes;
            text += &format!(
                "{workload},{protocol},{load},{},{:.5},{:.5},{:.4},{:.4},{unsched_bytes},{:.5},{:.5},{:.5}\n",
                bin.upper_bytes,
                bin.count as f64 / count,
                bin.bytes as f64 / bytes,
                below as f64 / count,
                bytes_below as f64 / bytes,
                bin.mean(),
                self.quantile(index, 0.5),
                self.quantile(index, 0.99),
            );
        }
        text
    }
}

impl Observer for Tally {
    fn delivered(&mut self, delivery: &Delivery) {
        self.damaged += u64::from(!delivery.intact);
        if !delivery.measured {
            return;
        }
        let last = self.bins.len() - 1;
        let bin = self.bins.partition_point(|bin| bin.upper_bytes < delivery.size_bytes).min(last);
        self.bins[bin].record(delivery.size_bytes, delivery.slowdown);
        if let Some(receivers) = &mut self.by_receiver {
            receivers.record(bin, delivery.dst, delivery.slowdown);
        }
        self.all.record(delivery.size_bytes, delivery.slowdown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(size_bytes: u32, slowdown: f64) -> Delivery {
        Delivery {
            at_ns: 1,
            started_ns: 0,
            src: 0,
            dst: 1,
            size_bytes,
            slowdown,
            measured: true,
            intact: true,
        }
    }

    #[test]
    fn quantiles_are_exact_to_a_thousandth() {
        let mut tally = Tally::new([100, 1_000]);
        for i in 1..=10_000 {
            tally.delivered(&delivery(i % 1_000 + 1, 1.0 + f64::from(i) / 1e3));
        }
        for (q, exact) in [(0.5, 6.0), (0.99, 10.9), (1.0, 11.0)] {
            let found = tally.all().quantile(q);
            assert!((found / exact - 1.0).abs() < 0.001, "{q}: {found}, not {exact}");
        }
        assert!((tally.all().mean() - 6.0005).abs() < 1e-9);
        assert_eq!((tally.bins()[0].count, tally.bins()[1].count), (1_000, 9_000));
    }

    #[test]
    fn only_measured_messages_count() {
        let mut tally = Tally::new([100]);
        tally.delivered(&Delivery { measured: false, intact: false, ..delivery(5, 2.0) });
        assert_eq!((tally.all().count, tally.damaged()), (0, 1));
        tally.delivered(&delivery(5_000, 2.0));
        assert_eq!(tally.bins()[0].count, 1, "the last bin takes what is longer");
    }

    #[test]
    fn a_sum_of_parts_is_the_whole() {
        let [mut a, mut b, mut whole] = [(); 3].map(|()| Tally::new([10, 20, 30]));
        for i in 0..1_000_u32 {
            let one = delivery(i % 30 + 1, f64::from(1 + i % 77));
            if i % 3 == 0 {
                a.delivered(&one)
            } else {
                b.delivered(&one)
            }
            whole.delivered(&one);
        }
        a.add(&b);
        assert_eq!(a, whole);
        let merged = whole.merged(500);
        let counts: Vec<_> = merged.bins().iter().map(|bin| (bin.upper_bytes, bin.count)).collect();
        assert_eq!(counts, [(20, 670), (30, 330)]);
    }

    #[test]
    fn rows_have_the_columns_of_the_published_curves() {
        let mut tally = Tally::new([100, 200, 300]);
        tally.delivered(&delivery(100, 2.0));
        tally.delivered(&delivery(300, 4.0));
        let rows = tally.csv_rows("W1", "ours", 0.8, 9_328);
        let lines: Vec<&str> = rows.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(
            lines[1].starts_with("W1,ours,0.8,300,50.00000,75.00000,100.0000,100.0000,9328,4.0")
        );
        assert_eq!(lines[0].split(',').count(), Tally::CSV_HEADER.split(',').count());
    }
}
