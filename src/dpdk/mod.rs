//! Safe wrappers over DPDK: poll mode, one owner for everything, no Homa in here.
//!
//! The order of life, which the types enforce:
//!
//! ```text
//! Eal ──> Mempool ──> MbufCache (one per thread) ──> Mbuf ──share()──> MbufRef
//!  └────> PortBuilder ──> Port + RxQueue + TxQueue (one of each per thread) <──> RxBurst / TxBurst
//! ```
//!
//! - [`Eal`] starts DPDK, once per process, with the devices described by [`DeviceSpec`]s.
//! - [`Mempool`] holds packet buffers. It is freed when its last handle is gone and every buffer is
//!   back; otherwise it stays until the process ends.
//! - [`Mbuf`] is the only handle of a packet: it may be changed. [`MbufRef`] is one of several:
//!   it may be read, and becomes an `Mbuf` again when it is the last.
//! - [`RxQueue`] and [`TxQueue`] exist once each, so no two threads poll the same ring.
//! - Everything that needs EAL keeps it alive; [`Eal::shutdown`] says what is still there.
//!
//! Mistakes that other wrappers made, and what makes them impossible here:
//!
//! | mistake | here |
//! |---|---|
//! | a clone frees its buffer twice | [`Mbuf`] is not `Clone`; cloning a [`MbufRef`] takes a reference on every segment |
//! | two `&mut [u8]` into one buffer | only an [`Mbuf`] is mutable and it is unique; [`Mbuf::data_mut`] refuses indirect and external memory |
//! | a pool freed under its buffers | [`Mempool`] counts its buffers before it goes, and is leaked if any is out |
//! | EAL started twice | [`Eal::start`] fails the second time |
//! | buffers freed on the wrong thread | [`Mbuf`] is `!Send`; [`Mbuf::into_send`] is the explicit way |
//! | two threads on one queue | queues are not `Clone`, not `Sync`, and taken once from their [`Port`] |
//! | ownership after transmission | [`TxBurst`] owns what the driver did not take, and only that |
//! | forgotten containers | bursts hold raw pointers with a range; nothing is `mem::forget`ed but single handles |
//! | sent buffers never come back on an idle queue | [`TxQueue::reclaim`] |
//! | retained buffers starve reception | [`Mempool::available`] for budgets, sizes in [`MempoolBuilder`] |
//! | lengths truncated to 16 bits | every length is a `usize`, converted with a check |
//! | a quadratic transmit queue | ranges, no removal from the front |
//! | moved structures that C points to | owners of external memory are boxed |
//! | a device that silently is not there | [`Eal::start`] names it |
//! | pointer arithmetic back to the buffer | the buffer pointer is kept |
//! | half a set-up leaks | every step is undone when dropped |

mod burst;
mod capability;
mod clock;
mod device;
mod eal;
mod eal_args;
mod error;
mod external;
mod flow;
mod hugepages;
mod kernel_link;
mod lcore;
mod log_capture;
mod mbuf;
mod mbuf_ref;
mod mempool;
mod message_bytes;
mod port;
mod queue;
mod ring_pair;
mod segmented;
mod short_copy;
mod stats;
mod telemetry;

pub use burst::{FreeBurst, RxBurst, TxBurst};
pub use capability::Capabilities;
pub use clock::Clock;
pub use device::{DeviceSpec, MacBytes, MemifRole};
pub use eal::{Device, Eal};
pub use eal_args::{EalConfig, Hugepages};
pub use error::Error;
pub use external::ExternalBuffer;
pub use flow::{FlowForm, FlowRule};
pub use hugepages::free_hugepages;
pub use lcore::{LcoreThread, allowed_cpus, pin_current_thread};
pub use mbuf::{HEADROOM_BYTES, IpChecksum, Mbuf, Segments, SendMbuf, TcpOffload};
pub use mbuf_ref::MbufRef;
pub use mempool::{MbufCache, Mempool, MempoolBuilder};
pub use message_bytes::{MessageBytes, OwnedSource, Source};
pub use port::{Port, PortBuilder};
pub use queue::{RxQueue, TxQueue};
pub use segmented::{SegmentedBuf, SendSegmentedBuf, SpareLists};
pub use short_copy::copy_short;
pub use stats::{Link, PortStats};
pub use telemetry::TelemetryCommand;

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails to compile if the type has the trait: then two implementations fit the call.
    macro_rules! assert_lacks {
        ($type:ty: $trait:path) => {{
            trait Ambiguous<A> {
                fn call() {}
            }
            impl<T: ?Sized> Ambiguous<()> for T {}
            #[allow(dead_code)]
            struct HasTrait;
            impl<T: ?Sized + $trait> Ambiguous<HasTrait> for T {}
            <$type as Ambiguous<_>>::call();
        }};
    }

    fn assert_send<T: Send>() {}

    #[test]
    fn ownership_is_a_matter_of_types() {
        assert_lacks!(Mbuf: Clone);
        assert_lacks!(Mbuf: Send);
        assert_lacks!(Mbuf: Sync);
        assert_lacks!(MbufRef: Send);
        assert_lacks!(MbufRef: Sync);
        assert_lacks!(MbufCache: Send);
        assert_lacks!(RxBurst<4>: Send);
        assert_lacks!(TxBurst<4>: Send);
        assert_lacks!(RxQueue: Clone);
        assert_lacks!(RxQueue: Sync);
        assert_lacks!(TxQueue: Clone);
        assert_lacks!(TxQueue: Sync);
        assert_lacks!(LcoreThread: Send);
        assert_lacks!(ExternalBuffer: Clone);
        assert_send::<(
            SendMbuf,
            SendSegmentedBuf,
            RxQueue,
            TxQueue,
            Port,
            Mempool,
            Eal,
            ExternalBuffer,
            Clock,
        )>();
        assert_eq!(size_of::<Mbuf>(), size_of::<usize>(), "one pointer");
        assert_eq!(size_of::<Option<MbufRef>>(), size_of::<usize>(), "one pointer");
    }
}
