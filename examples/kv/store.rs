//! The table of the server: bounded, in memory, forgotten when the process ends.

use std::collections::HashMap;

/// Bytes counted for an entry besides its key and value.
const ENTRY_BYTES: usize = 64;

/// Keys and values, together at most as large as configured.
#[derive(Debug)]
pub(crate) struct Store {
    entries: HashMap<Box<[u8]>, Box<[u8]>>,
    used_bytes: usize,
    bytes_max: usize,
}

/// The store has no room for the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Store {
    /// An empty store for up to `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { entries: HashMap::new(), used_bytes: 0, bytes_max }
    }

    /// The value of `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.entries.get(key).map(AsRef::as_ref)
    }

    /// Stores `value`, in place of the one before.
    ///
    /// # Errors
    /// When there is no room; the value before stays.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Full> {
        let before_bytes = self.entries.get(key).map_or(0, |before| size(key, before));
        let used_bytes = self.used_bytes - before_bytes + size(key, value);
        if used_bytes > self.bytes_max {
            return Err(Full);
        }
        self.entries.insert(key.into(), value.into());
        self.used_bytes = used_bytes;
        Ok(())
    }

    /// Forgets `key`; says whether it was there.
    pub(crate) fn delete(&mut self, key: &[u8]) -> bool {
        let Some(value) = self.entries.remove(key) else { return false };
        self.used_bytes -= size(key, &value);
        true
    }
}

fn size(key: &[u8], value: &[u8]) -> usize {
    ENTRY_BYTES + key.len() + value.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_stored_replaced_and_forgotten() {
        let mut store = Store::new(1_000);
        assert_eq!(store.get(b"k"), None);
        store.put(b"k", b"one").unwrap();
        store.put(b"k", b"two").unwrap();
        assert_eq!(store.get(b"k"), Some(&b"two"[..]));
        assert!(store.delete(b"k"));
        assert!(!store.delete(b"k"));
        assert_eq!(store.used_bytes, 0);
    }

    #[test]
    fn the_limit_holds_and_the_value_before_stays() {
        let mut store = Store::new(2 * ENTRY_BYTES + 20);
        store.put(b"a", &[1; 9]).unwrap();
        store.put(b"b", &[2; 9]).unwrap();
        assert_eq!(store.put(b"c", b""), Err(Full));
        assert_eq!(store.put(b"a", &[3; 10]), Err(Full));
        assert_eq!(store.get(b"a"), Some(&[1; 9][..]));
        assert!(store.delete(b"b"));
        store.put(b"a", &[3; 10]).unwrap();
        assert_eq!(store.get(b"a"), Some(&[3; 10][..]));
    }
}
