//! Fixed-capacity storage with stable indices and generations.

/// Names an entry of a [`Slab`]: an index, and which of its occupants is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(test, derive(Default))]
pub(super) struct Handle {
    pub(super) index: u32,
    pub(super) generation: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    next_free: u32,
    value: Option<T>,
}

const NIL: u32 = u32::MAX;

/// Entries never move. Memory for all of them is reserved at the start and touched when first used.
#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Vec<Slot<T>>,
    capacity: usize,
    free: u32,
    len: usize,
}

impl<T> Slab<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { slots: Vec::with_capacity(capacity), capacity, free: NIL, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_full(&self) -> bool {
        self.len == self.capacity
    }

    /// The handle that the next insertion will give, unless the slab is full.
    #[inline]
    pub(super) fn next_handle(&self) -> Option<Handle> {
        if self.free != NIL {
            let generation = self.slots[self.free as usize].generation;
            return Some(Handle { index: self.free, generation });
        }
        let index = self.slots.len();
        (index < self.capacity).then_some(Handle { index: index as u32, generation: 0 })
    }

    /// Stores `value`, unless the slab is full. The index freed last is used first: it is in cache.
    #[inline(always)]
    pub(super) fn insert(&mut self, value: T) -> Option<Handle> {
        if self.free != NIL {
            let index = self.free;
            let slot = &mut self.slots[index as usize];
            self.free = slot.next_free;
            slot.value = Some(value);
            self.len += 1;
            return Some(Handle { index, generation: slot.generation });
        }
        if self.slots.len() == self.capacity {
            return None;
        }
        let index = self.slots.len() as u32;
        self.slots.push(Slot { generation: 0, next_free: NIL, value: Some(value) });
        self.len += 1;
        Some(Handle { index, generation: 0 })
    }

    /// Drops the entry, in place; says whether there was one.
    #[inline]
    pub(super) fn remove(&mut self, index: u32) -> bool {
        let Some(slot) = self.slots.get_mut(index as usize) else { return false };
        if slot.value.is_none() {
            return false;
        }
        slot.value = None;
        slot.generation = slot.generation.wrapping_add(1);
        slot.next_free = self.free;
        self.free = index;
        self.len -= 1;
        true
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)?.value.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slots.get_mut(index as usize)?.value.as_mut()
    }

    /// The index, if the occupant that the handle means is still there.
    #[inline]
    pub(super) fn resolve(&self, handle: Handle) -> Option<u32> {
        let slot = self.slots.get(handle.index as usize)?;
        (slot.generation == handle.generation && slot.value.is_some()).then_some(handle.index)
    }

    /// The occupant that the handle means, if it is still there.
    #[inline]
    pub(super) fn resolve_mut(&mut self, handle: Handle) -> Option<&mut T> {
        let slot = self.slots.get_mut(handle.index as usize)?;
        if slot.generation == handle.generation { slot.value.as_mut() } else { None }
    }

    pub(super) fn handle(&self, index: u32) -> Option<Handle> {
        let slot = self.slots.get(index as usize)?;
        slot.value.as_ref().map(|_| Handle { index, generation: slot.generation })
    }

    /// One past the highest index ever used.
    pub(super) fn bound(&self) -> u32 {
        self.slots.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_outlives_its_entry_without_meaning_the_next_one() {
        let mut slab = Slab::new(2);
        let first = slab.insert('a').unwrap();
        assert_eq!(slab.resolve(first), Some(first.index));
        assert!(slab.remove(first.index));
        assert!(!slab.remove(first.index));
        let expected = slab.next_handle();
        let second = slab.insert('b').unwrap();
        assert_eq!(expected, Some(second));
        assert_eq!(second.index, first.index);
        assert_eq!((slab.resolve(first), slab.resolve_mut(first)), (None, None));
        assert_eq!(slab.resolve_mut(second), Some(&mut 'b'));
        assert_eq!(slab.get(second.index), Some(&'b'));
    }

    #[test]
    fn refuses_beyond_its_capacity() {
        let mut slab = Slab::new(1);
        assert!(slab.insert(1).is_some());
        assert!(slab.is_full());
        assert!(slab.insert(2).is_none());
        slab.remove(0);
        assert!(slab.insert(3).is_some());
        assert_eq!(slab.len(), 1);
    }
}
