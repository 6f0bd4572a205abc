//! A few words that one shard writes and others read whole: a sequence lock without a lock.

use crate::sync::atomic::{AtomicU64, Ordering, fence};

/// Tries of a reader that meets the writer at work, before it goes on with what it read last.
const TRIES: usize = 3;

/// `WORDS` words with one writer. Neither side ever waits.
#[derive(Debug)]
pub(super) struct Snapshot<const WORDS: usize> {
    /// Odd while the words are being written.
    version: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> Snapshot<WORDS> {
    pub(super) fn new(words: [u64; WORDS]) -> Self {
        Self { version: AtomicU64::new(0), words: words.map(AtomicU64::new) }
    }

    /// Replaces the words. Only one thread may call this.
    pub(super) fn write(&self, words: &[u64; WORDS]) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        // Whoever sees one of the new words sees the odd version as well.
        fence(Ordering::Release);
        for (cell, &word) in self.words.iter().zip(words) {
            cell.store(word, Ordering::Relaxed);
        }
        self.version.store(version + 2, Ordering::Release);
    }

    /// The words, if they changed since `seen` (the version last read, at first an odd number) and the
    /// writer is not at work all the time.
    pub(super) fn read(&self, seen: &mut u64) -> Option<[u64; WORDS]> {
        for _ in 0..TRIES {
            let before = self.version.load(Ordering::Acquire);
            if before == *seen {
                return None;
            }
            if !before.is_multiple_of(2) {
                continue;
            }
            let mut words = [0; WORDS];
            for (word, cell) in words.iter_mut().zip(&self.words) {
                *word = cell.load(Ordering::Relaxed);
            }
            fence(Ordering::Acquire);
            if self.version.load(Ordering::Relaxed) == before {
                *seen = before;
                return Some(words);
            }
        }
        None
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_each_change_once() {
        let cell = Snapshot::new([1, 2]);
        let mut seen = 1;
        assert_eq!(cell.read(&mut seen), Some([1, 2]));
        assert_eq!(cell.read(&mut seen), None);
        cell.write(&[3, 4]);
        assert_eq!(cell.read(&mut seen), Some([3, 4]));
        assert_eq!(cell.read(&mut seen), None);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// No reader sees words of two writes, nor an older state after a newer one.
    #[test]
    fn loom_a_snapshot_is_whole() {
        loom::model(|| {
            let cell = Arc::new(Snapshot::new([0, 0]));
            let writer = {
                let cell = Arc::clone(&cell);
                thread::spawn(move || {
                    cell.write(&[1, 1]);
                    cell.write(&[2, 2]);
                })
            };
            let (mut seen, mut last) = (1, 0);
            for _ in 0..2 {
                if let Some([a, b]) = cell.read(&mut seen) {
                    assert_eq!(a, b, "torn");
                    assert!(a >= last, "{a} after {last}");
                    last = a;
                }
            }
            writer.join().unwrap();
            if let Some(words) = cell.read(&mut seen) {
                last = words[0];
            }
            assert_eq!(last, 2);
        });
    }
}
