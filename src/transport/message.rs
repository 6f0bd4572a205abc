//! Received messages: an ordered list of packet payloads, and the account of all that are kept.

use core::cell::{Cell, RefCell};
use core::fmt;
use std::rc::Rc;

use super::buffers::Payload;

/// Emptied fragment lists kept for the next multi-packet message.
const SPARE_LISTS_MAX: usize = 1024;

/// A payload and where in the message it starts.
#[derive(Debug)]
pub(super) struct Fragment<B> {
    pub(super) offset: u32,
    pub(super) payload: B,
}

impl<B: Payload> Fragment<B> {
    pub(super) fn end(&self) -> u32 {
        self.offset + self.payload.len()
    }
}

/// Counts the packet buffers that messages hold, in the transport and in the application, and keeps
/// emptied lists so that reassembly does not allocate in steady state.
pub(super) struct Ledger<B> {
    retained: Cell<u32>,
    spares: RefCell<Vec<Vec<Fragment<B>>>>,
}

impl<B> Ledger<B> {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self { retained: Cell::new(0), spares: RefCell::new(Vec::new()) })
    }

    /// Packet buffers held by messages.
    pub(super) fn retained(&self) -> u32 {
        self.retained.get()
    }

    pub(super) fn retain(&self, packets: u32) {
        self.retained.set(self.retained.get() + packets);
    }

    pub(super) fn release(&self, packets: u32) {
        self.retained.set(self.retained.get() - packets);
    }

    pub(super) fn take_list(&self) -> Vec<Fragment<B>> {
        self.spares.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn give_list(&self, mut list: Vec<Fragment<B>>)
    where
        B: Payload,
    {
        if list.capacity() == 0 {
            return;
        }
        B::discard(list.drain(..).map(|fragment| fragment.payload));
        let mut spares = self.spares.borrow_mut();
        if spares.len() < SPARE_LISTS_MAX {
            spares.push(list);
        }
    }
}

/// The payloads of a message in order of their offsets. One packet, the common case, lives in place.
pub(super) enum Fragments<B> {
    None,
    One(Fragment<B>),
    Many(Vec<Fragment<B>>),
}

impl<B> Fragments<B> {
    pub(super) fn as_slice(&self) -> &[Fragment<B>] {
        match self {
            Self::None => &[],
            Self::One(fragment) => core::slice::from_ref(fragment),
            Self::Many(list) => list,
        }
    }
}

/// A complete received message. Its bytes stay in the packet buffers they arrived in; dropping it
/// gives the buffers back. Not `Send`: it belongs to the shard that received it.
pub struct Message<B: Payload> {
    length: u32,
    fragments: Fragments<B>,
    ledger: Rc<Ledger<B>>,
}

impl<B: Payload> Message<B> {
    pub(super) fn new(length: u32, fragments: Fragments<B>, ledger: Rc<Ledger<B>>) -> Self {
        Self { length, fragments, ledger }
    }

    /// A message that came in one packet.
    #[inline]
    pub(super) fn whole(payload: B, ledger: &Rc<Ledger<B>>) -> Self {
        ledger.retain(1);
        let length = payload.len();
        let fragments = Fragments::One(Fragment { offset: 0, payload });
        Self { length, fragments, ledger: Rc::clone(ledger) }
    }

    /// Message bytes.
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// Never true for a message from the network: a message has at least one byte.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The payloads in order. Together they are the message.
    pub fn payloads(&self) -> impl ExactSizeIterator<Item = &B> + '_ {
        self.fragments.as_slice().iter().map(|fragment| &fragment.payload)
    }

    /// Packet buffers this message holds.
    pub fn packets(&self) -> usize {
        self.fragments.as_slice().len()
    }
}

/// A complete received message on its way from the transport of one shard to that of another, see
/// [`Message::loosen`].
#[derive(Debug)]
pub struct LooseMessage<B> {
    length: u32,
    fragments: Fragments<B>,
}

impl<B> LooseMessage<B> {
    /// Packet buffers that the message holds.
    pub fn packets(&self) -> u32 {
        self.fragments.as_slice().len() as u32
    }

    /// The same with other payloads of the same bytes.
    pub fn map<C>(self, mut change: impl FnMut(B) -> C) -> LooseMessage<C> {
        let mut change =
            |Fragment { offset, payload }| Fragment { offset, payload: change(payload) };
        let fragments = match self.fragments {
            Fragments::None => Fragments::None,
            Fragments::One(fragment) => Fragments::One(change(fragment)),
            // In place, if the payloads are of one size.
            Fragments::Many(list) => Fragments::Many(list.into_iter().map(change).collect()),
        };
        LooseMessage { length: self.length, fragments }
    }
}

impl<B: Payload> Message<B> {
    /// Takes the message out of the hands of this shard. Its packet buffers stay in the account of the
    /// transport that received it until
    /// [`Transport::settle_loose`](super::Transport::settle_loose).
    pub fn loosen(mut self) -> LooseMessage<B> {
        let fragments = core::mem::replace(&mut self.fragments, Fragments::None);
        LooseMessage { length: self.length, fragments }
    }

    /// A message from another transport, from now on in the account of `ledger` as well.
    pub(super) fn adopted(loose: LooseMessage<B>, ledger: &Rc<Ledger<B>>) -> Self {
        ledger.retain(loose.packets());
        Self { length: loose.length, fragments: loose.fragments, ledger: Rc::clone(ledger) }
    }
}

impl<B: Payload + AsRef<[u8]>> Message<B> {
    /// The bytes, one slice per packet, in order.
    pub fn chunks(&self) -> impl ExactSizeIterator<Item = &[u8]> + '_ {
        self.payloads().map(AsRef::as_ref)
    }

    /// The whole message if it came in one packet.
    pub fn as_contiguous(&self) -> Option<&[u8]> {
        match &self.fragments {
            Fragments::One(fragment) => Some(fragment.payload.as_ref()),
            _ => None,
        }
    }

    /// Copies the whole message into the front of `out`.
    ///
    /// # Panics
    /// If `out` is shorter than the message.
    pub fn copy_to_slice(&self, out: &mut [u8]) {
        let mut at = 0;
        for chunk in self.chunks() {
            out[at..at + chunk.len()].copy_from_slice(chunk);
            at += chunk.len();
        }
    }

    /// The whole message in one allocation.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        for chunk in self.chunks() {
            bytes.extend_from_slice(chunk);
        }
        bytes
    }

    /// A cursor over the bytes that implements [`bytes::Buf`].
    pub fn reader(&self) -> Reader<'_, B> {
        let mut reader = Reader { rest: self.fragments.as_slice(), at: 0, remaining: self.len() };
        reader.skip_finished();
        reader
    }
}

impl<B: Payload> Drop for Message<B> {
    #[inline]
    fn drop(&mut self) {
        match &mut self.fragments {
            // It goes where it is: taken out first, it would be moved.
            Fragments::One(_) => self.ledger.release(1),
            Fragments::Many(list) => {
                self.ledger.release(list.len() as u32);
                self.ledger.give_list(core::mem::take(list));
            }
            Fragments::None => {}
        }
    }
}

impl<B: Payload> fmt::Debug for Message<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("length", &self.length)
            .field("packets", &self.packets())
            .finish()
    }
}

/// Reads a [`Message`] front to back without copying or joining its packets.
#[derive(Debug)]
pub struct Reader<'a, B: Payload> {
    rest: &'a [Fragment<B>],
    at: usize,
    remaining: usize,
}

impl<B: Payload + AsRef<[u8]>> Reader<'_, B> {
    fn skip_finished(&mut self) {
        while let [first, rest @ ..] = self.rest {
            if self.at < first.payload.as_ref().len() {
                return;
            }
            self.at -= first.payload.as_ref().len();
            self.rest = rest;
        }
    }
}

impl<B: Payload + AsRef<[u8]>> bytes::Buf for Reader<'_, B> {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.rest.first().map_or(&[], |first| &first.payload.as_ref()[self.at..])
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining, "advance by {count} of {} bytes", self.remaining);
        self.remaining -= count;
        self.at += count;
        self.skip_finished();
    }
}

impl<B: fmt::Debug> fmt::Debug for Fragments<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Piece(u32);

    thread_local! {
        static DISCARDED: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    }

    impl Payload for Piece {
        fn len(&self) -> u32 {
            self.0
        }

        fn narrow(&mut self, range: core::ops::Range<u32>) {
            self.0 = range.end - range.start;
        }

        fn detach(&mut self) {}

        fn discard(payloads: impl Iterator<Item = Self>) {
            DISCARDED.with_borrow_mut(|all| all.extend(payloads.map(|piece| piece.0)));
        }
    }

    #[test]
    fn payloads_of_a_message_are_discarded_together_and_their_list_is_kept() {
        let ledger = Ledger::new();
        ledger.retain(2);
        let list =
            [(0, 7), (7, 5)].map(|(offset, bytes)| Fragment { offset, payload: Piece(bytes) });
        drop(Message::new(12, Fragments::Many(list.into()), Rc::clone(&ledger)));
        assert_eq!(DISCARDED.take(), [7, 5]);
        let spare = ledger.take_list();
        assert_eq!((spare.len(), spare.capacity(), ledger.retained()), (0, 2, 0));
    }

    #[test]
    fn a_message_that_changes_hands_is_in_one_account_at_least() {
        let (here, there) = (Ledger::new(), Ledger::new());
        let fragments = [(0, 7), (7, 5)].map(|(offset, bytes)| Fragment { offset, payload: bytes });
        here.retain(2);
        let loose = LooseMessage { length: 12, fragments: Fragments::Many(fragments.into()) };
        let message =
            Message { length: 12, fragments: loose.map(Piece).fragments, ledger: Rc::clone(&here) };
        let loose = message.loosen();
        assert_eq!((loose.packets(), here.retained()), (2, 2));
        let message = Message::adopted(loose, &there);
        here.release(2);
        assert_eq!((message.len(), message.packets()), (12, 2));
        let lengths: Vec<u32> = message.payloads().map(Payload::len).collect();
        assert_eq!((lengths, here.retained(), there.retained()), (vec![7, 5], 0, 2));
        drop(message);
        assert_eq!(there.retained(), 0);
    }
}
