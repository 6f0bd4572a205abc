//! The bytes of a message to be sent, wherever they lie, behind a handle of two words.
//!
//! Such handles are moved from hand to hand within a few nanoseconds. Two words stay in registers, and where they
//! are put into memory, they are put there as they are read again. Of an enum the parts are put there one by one
//! and read as one, for which the processor waits until all of them have arrived.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::num::NonZeroU64;
use std::ptr::NonNull;

use super::segmented::{List, SegmentedBuf};
use super::{ExternalBuffer, Mbuf, MbufRef};

const KIND_SHIFT: u32 = 62;
const ONE: u64 = 1;
const MANY: u64 = 2;
const EXTERNAL: u64 = 3;
const CAPACITY_SHIFT: u32 = 32;
const LEN_MASK: u64 = u32::MAX as u64;

/// One of three pointers that own what they point to, and two numbers.
#[derive(Debug)]
pub(super) struct TwoWords {
    /// From the top: the kind (2 bits), the capacity (30), the length (32).
    shape: NonZeroU64,
    place: NonNull<c_void>,
    _thread: PhantomData<*mut ()>,
}

/// What the pointer is.
pub(super) enum View<'a> {
    One(&'a MbufRef),
    Many(&'a List),
    External(&'a ExternalBuffer),
}

/// The same for changing it.
pub(super) enum ViewMut<'a> {
    One(&'a mut MbufRef),
    Many(&'a mut List),
    External,
}

/// The same to keep.
pub(super) enum Owned {
    One(MbufRef),
    Many(Box<List>),
    External(ExternalBuffer),
}

impl TwoWords {
    /// Bytes of the largest capacity.
    pub(super) const CAPACITY_MAX: u32 = (1 << (KIND_SHIFT - CAPACITY_SHIFT)) - 1;

    #[inline(always)]
    fn new(kind: u64, capacity: u32, len: u32, place: NonNull<c_void>) -> Self {
        Self { shape: Self::shape(kind, capacity, len), place, _thread: PhantomData }
    }

    #[inline(always)]
    fn shape(kind: u64, capacity: u32, len: u32) -> NonZeroU64 {
        debug_assert!(kind > 0 && capacity <= Self::CAPACITY_MAX);
        let capacity = u64::from(capacity & Self::CAPACITY_MAX);
        let shape = kind << KIND_SHIFT | capacity << CAPACITY_SHIFT | u64::from(len);
        NonZeroU64::new(shape).unwrap_or(NonZeroU64::MIN)
    }

    /// Of one packet. The capacity is at most [`TwoWords::CAPACITY_MAX`].
    #[inline(always)]
    pub(super) fn one(packet: MbufRef, capacity: u32, len: u32) -> Self {
        let place = ManuallyDrop::new(packet).raw.cast();
        Self::new(ONE, capacity, len, place)
    }

    /// Of several packets. The capacity is at most [`TwoWords::CAPACITY_MAX`].
    pub(super) fn many(list: Box<List>, capacity: u32, len: u32) -> Self {
        let place = NonNull::from(Box::leak(list)).cast();
        Self::new(MANY, capacity, len, place)
    }

    fn external(buffer: ExternalBuffer) -> Self {
        let len = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        Self::new(EXTERNAL, 0, len, buffer.into_raw())
    }

    #[inline(always)]
    fn kind(&self) -> u64 {
        self.shape.get() >> KIND_SHIFT
    }

    /// Bytes written.
    #[inline(always)]
    pub(super) fn len(&self) -> u32 {
        (self.shape.get() & LEN_MASK) as u32
    }

    /// Bytes that there is room for.
    #[inline(always)]
    pub(super) fn capacity(&self) -> u32 {
        (self.shape.get() >> CAPACITY_SHIFT) as u32 & Self::CAPACITY_MAX
    }

    /// Sets both; the capacity does not grow.
    #[inline(always)]
    pub(super) fn set(&mut self, capacity: u32, len: u32) {
        self.shape = Self::shape(self.kind(), capacity, len);
    }

    #[inline(always)]
    pub(super) fn view(&self) -> View<'_> {
        let place = (&raw const self.place).cast::<c_void>();
        // SAFETY: the kind says what the pointer was made of. Handles of packets and of external buffers are
        // that pointer and nothing else, so one can be looked at where it lies; they live as long as `self`.
        unsafe {
            match self.kind() {
                ONE => View::One(&*place.cast::<MbufRef>()),
                MANY => View::Many(self.place.cast::<List>().as_ref()),
                _ => View::External(&*place.cast::<ExternalBuffer>()),
            }
        }
    }

    #[inline(always)]
    pub(super) fn view_mut(&mut self) -> ViewMut<'_> {
        let place = (&raw mut self.place).cast::<c_void>();
        // SAFETY: as in `view`, and `self` is borrowed mutably.
        unsafe {
            match self.kind() {
                ONE => ViewMut::One(&mut *place.cast::<MbufRef>()),
                MANY => ViewMut::Many(self.place.cast::<List>().as_mut()),
                _ => ViewMut::External,
            }
        }
    }

    #[inline(always)]
    pub(super) fn into_owned(self) -> Owned {
        let words = ManuallyDrop::new(self);
        let place = words.place;
        // SAFETY: the kind says what the pointer was made of, and the words are forgotten.
        unsafe {
            match words.kind() {
                ONE => Owned::One(MbufRef::new(Mbuf::from_raw(place.cast()))),
                MANY => Owned::Many(Box::from_raw(place.cast::<List>().as_ptr())),
                _ => Owned::External(ExternalBuffer::from_raw(place)),
            }
        }
    }
}

impl Drop for TwoWords {
    #[inline]
    fn drop(&mut self) {
        let words = Self { shape: self.shape, place: self.place, _thread: PhantomData };
        match words.into_owned() {
            Owned::One(packet) => drop(packet),
            Owned::Many(list) => list.go_home(),
            Owned::External(buffer) => drop(buffer),
        }
    }
}

/// The bytes of a message: in packets, or in memory of the application.
#[derive(Debug)]
pub struct MessageBytes(TwoWords);

const _: () = assert!(size_of::<MessageBytes>() == 16);

/// Where they lie.
#[derive(Debug)]
pub enum Source<'a> {
    /// In packets, with room for headers.
    Packets(&'a SegmentedBuf),
    /// In memory of the application.
    External(&'a ExternalBuffer),
}

/// The same to keep.
#[derive(Debug)]
pub enum OwnedSource {
    /// In packets, with room for headers.
    Packets(SegmentedBuf),
    /// In memory of the application.
    External(ExternalBuffer),
}

impl MessageBytes {
    pub(super) fn into_words(self) -> TwoWords {
        self.0
    }

    /// How many there are.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, if they are in one packet that was made for one.
    #[inline(always)]
    pub fn in_one_packet(&self) -> Option<&[u8]> {
        let View::One(packet) = self.0.view() else { return None };
        let data = packet.data();
        // Headers stand in front; room reserved and never written stands behind.
        let skip = data.len().checked_sub(self.0.capacity() as usize)?;
        data.get(skip..skip + self.0.len() as usize)
    }

    /// Where they lie.
    #[inline(always)]
    pub fn source(&self) -> Source<'_> {
        match self.0.view() {
            View::External(buffer) => Source::External(buffer),
            View::One(_) | View::Many(_) => Source::Packets(SegmentedBuf::of_words(&self.0)),
        }
    }

    /// The packets, for changing them; `None` if there are none.
    #[inline(always)]
    pub fn packets_mut(&mut self) -> Option<&mut SegmentedBuf> {
        match self.0.view_mut() {
            ViewMut::External => None,
            ViewMut::One(_) | ViewMut::Many(_) => Some(SegmentedBuf::of_words_mut(&mut self.0)),
        }
    }

    /// What they lie in.
    #[inline(always)]
    pub fn into_source(self) -> OwnedSource {
        if self.0.kind() != EXTERNAL {
            return OwnedSource::Packets(SegmentedBuf::from_words(self.0));
        }
        let words = ManuallyDrop::new(self.0);
        // SAFETY: the kind says what the pointer was made of, and the words are forgotten.
        OwnedSource::External(unsafe { ExternalBuffer::from_raw(words.place) })
    }
}

impl From<SegmentedBuf> for MessageBytes {
    #[inline(always)]
    fn from(buffer: SegmentedBuf) -> Self {
        Self(buffer.into_words())
    }
}

impl From<ExternalBuffer> for MessageBytes {
    fn from(buffer: ExternalBuffer) -> Self {
        Self(TwoWords::external(buffer))
    }
}
