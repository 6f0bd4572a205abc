//! The RPCs of a client that are under way.

use std::hash::{BuildHasher, RandomState};

/// RPCs by the id that goes over the network, each with what a transport needs to know of it.
///
/// Ids of one client differ over its whole life; those of two clients differ because each has its own
/// random key, so that an answer to the wrong one has the wrong bytes.
#[derive(Debug)]
pub(super) struct Calls<T> {
    key: u64,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    call: Option<T>,
}

impl<T> Calls<T> {
    pub(super) fn new(capacity: u32) -> Self {
        let slots = (0..capacity).map(|_| Slot { generation: 0, call: None }).collect();
        let key = RandomState::new().hash_one(std::process::id());
        Self { key, slots, free: (0..capacity).rev().collect() }
    }

    /// Stores a call and gives its id; `None` when too many are under way.
    pub(super) fn insert(&mut self, call: T) -> Option<u64> {
        let index = self.free.pop()?;
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.call = Some(call);
        Some(self.key ^ (u64::from(slot.generation) << 32 | u64::from(index)))
    }

    fn slot(&self, id: u64) -> Option<usize> {
        let handle = self.key ^ id;
        let (generation, index) = ((handle >> 32) as u32, handle as u32 as usize);
        let slot = self.slots.get(index)?;
        (slot.generation == generation && slot.call.is_some()).then_some(index)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut T> {
        let index = self.slot(id)?;
        self.slots[index].call.as_mut()
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<T> {
        let index = self.slot(id)?;
        self.free.push(index as u32);
        self.slots[index].call.take()
    }

    /// Removes all for which `gone` says so, and tells them to `removed`.
    pub(super) fn remove_if(
        &mut self,
        mut gone: impl FnMut(&T) -> bool,
        mut removed: impl FnMut(T),
    ) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let Some(call) = slot.call.take_if(|call| gone(call)) {
                self.free.push(index as u32);
                removed(call);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_one_call_only() {
        let mut calls = Calls::new(2);
        let (a, b) = (calls.insert('a').unwrap(), calls.insert('b').unwrap());
        assert_eq!(calls.insert('c'), None);
        assert_eq!((calls.remove(a), calls.remove(a)), (Some('a'), None));
        let c = calls.insert('c').unwrap();
        assert_ne!(a, c, "the same place, another call");
        assert_eq!(calls.get_mut(a), None);
        assert_eq!(calls.get_mut(c), Some(&mut 'c'));
        let mut gone = Vec::new();
        calls.remove_if(|&call| call == 'b', |call| gone.push(call));
        assert_eq!((gone, calls.get_mut(b)), (vec!['b'], None));
        assert_ne!(Calls::<u8>::new(1).key, Calls::<u8>::new(1).key);
    }
}
