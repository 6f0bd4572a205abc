//! Frames as they pass, recorded in a pcapng file for Wireshark.
//!
//! The shard copies frames into a ring of bounded size and never waits: what finds no room is counted
//! and left out. A thread of its own empties the ring into the file. A frame is recorded when it is
//! taken from the port, and when it is about to be handed to it.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, PcapError};
use rtrb::chunks::ChunkError;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::dpdk::Segments;
use crate::time::Nanos;

/// How long the writer sleeps when it finds nothing to write.
const WRITER_PAUSE: Duration = Duration::from_millis(1);
/// The longest frame that can be recorded whole.
const FRAME_MAX_BYTES: usize = 65_535;
/// Bytes of [`Record`] in the ring.
const RECORD_BYTES: usize = 24;
/// pcapng: time stamps count units of 10^-9 s.
const NANOSECONDS: u8 = 9;

/// What to record, and where.
#[derive(Clone, Debug)]
pub struct TraceConfig {
    /// The file, written anew.
    pub file: PathBuf,
    /// Bytes of each frame that are kept; 0 for all.
    pub frame_bytes: u16,
    /// Size of the ring between the shard and the thread that writes. It must take what comes in while
    /// the file system does not write.
    pub ring_bytes: usize,
}

impl TraceConfig {
    /// Whole frames, with a ring of 16 MiB.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), frame_bytes: 0, ring_bytes: 16 << 20 }
    }

    fn frame_max_bytes(&self) -> usize {
        match self.frame_bytes {
            0 => FRAME_MAX_BYTES,
            bytes => usize::from(bytes),
        }
    }
}

/// Which way a frame goes, as pcapng numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    In = 1,
    Out = 2,
}

/// What stands in the ring before the bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    time_ns: u64,
    /// Frames left out since the last one, for want of room.
    dropped: u32,
    frame_bytes: u32,
    kept_bytes: u32,
    direction: u32,
}

impl Record {
    fn to_bytes(self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..8].copy_from_slice(&self.time_ns.to_ne_bytes());
        let words = [self.dropped, self.frame_bytes, self.kept_bytes, self.direction];
        for (place, word) in bytes[8..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    fn of_bytes(bytes: &[u8; RECORD_BYTES]) -> Self {
        let word = |at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let time_ns = bytes.first_chunk().map_or(0, |time| u64::from_ne_bytes(*time));
        Self {
            time_ns,
            dropped: word(8),
            frame_bytes: word(12),
            kept_bytes: word(16),
            direction: word(20),
        }
    }
}

/// The shard's end of the ring.
#[derive(Debug)]
pub(super) struct Tracer {
    ring: Producer<u8>,
    frame_max_bytes: usize,
    dropped: u64,
    /// Those that no record has told of.
    untold: u32,
}

impl Tracer {
    /// Records a frame, given in pieces; leaves it out if there is no room.
    #[cold]
    pub(super) fn record<'a>(
        &mut self,
        now: Nanos,
        direction: Direction,
        frame: impl Iterator<Item = &'a [u8]> + Clone,
    ) {
        let frame_bytes: usize = frame.clone().map(<[u8]>::len).sum();
        let kept_bytes = frame_bytes.min(self.frame_max_bytes);
        let Ok(mut chunk) = self.ring.write_chunk(RECORD_BYTES + kept_bytes) else {
            self.dropped += 1;
            self.untold = self.untold.saturating_add(1);
            return;
        };
        let record = Record {
            time_ns: now.0,
            dropped: std::mem::take(&mut self.untold),
            frame_bytes: frame_bytes as u32,
            kept_bytes: kept_bytes as u32,
            direction: direction as u32,
        };
        let (first, second) = chunk.as_mut_slices();
        let mut place = Place { first, second };
        place.put(&record.to_bytes());
        let mut left = kept_bytes;
        for piece in frame {
            let piece = &piece[..piece.len().min(left)];
            left -= piece.len();
            place.put(piece);
        }
        chunk.commit_all();
    }

    /// Records the frames of a burst.
    #[cold]
    pub(super) fn record_all<'a>(
        &mut self,
        now: Nanos,
        direction: Direction,
        frames: impl Iterator<Item = Segments<'a>>,
    ) {
        for frame in frames {
            self.record(now, direction, frame);
        }
    }

    /// Frames left out so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// A stretch of the ring, which may wrap around.
struct Place<'a> {
    first: &'a mut [u8],
    second: &'a mut [u8],
}

impl Place<'_> {
    /// Writes `bytes`, for which there is room, and moves on.
    fn put(&mut self, bytes: &[u8]) {
        let now = bytes.len().min(self.first.len());
        let (head, rest) = std::mem::take(&mut self.first).split_at_mut(now);
        head.copy_from_slice(&bytes[..now]);
        self.first = rest;
        if now < bytes.len() {
            self.first = std::mem::take(&mut self.second);
            self.put(&bytes[now..]);
        }
    }
}

/// The other end: writes the file.
pub(super) struct TraceWriter<W: Write = BufWriter<File>> {
    /// Of each shard.
    rings: Vec<Consumer<u8>>,
    file: PcapNgWriter<W>,
    /// The time of day at which the shard's clock was at zero.
    epoch: Duration,
    frame: Vec<u8>,
}

/// Makes the file, and a ring for each of `shards`. `now` is the present time of the shards' clock.
pub(super) fn create(
    config: &TraceConfig,
    now: Nanos,
    shards: usize,
) -> io::Result<(Vec<Tracer>, TraceWriter)> {
    let file = BufWriter::new(File::create(&config.file)?);
    let time_of_day = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    open(config, file, time_of_day.saturating_sub(Duration::from_nanos(now.0)), shards)
}

fn open<W: Write>(
    config: &TraceConfig,
    out: W,
    epoch: Duration,
    shards: usize,
) -> io::Result<(Vec<Tracer>, TraceWriter<W>)> {
    let mut file = PcapNgWriter::new(out).map_err(to_io)?;
    let name = InterfaceDescriptionOption::IfName(Cow::Borrowed("homa"));
    let interface = InterfaceDescriptionBlock {
        linktype: DataLink::ETHERNET,
        snaplen: config.frame_max_bytes() as u32,
        options: vec![name, InterfaceDescriptionOption::IfTsResol(NANOSECONDS)],
    };
    file.write_pcapng_block(interface).map_err(to_io)?;
    let ring_bytes = config.ring_bytes.max(RECORD_BYTES + config.frame_max_bytes());
    let frame_max_bytes = config.frame_max_bytes();
    let ends = (0..shards).map(|_| {
        let (ring, consumer) = RingBuffer::new(ring_bytes);
        (Tracer { ring, frame_max_bytes, dropped: 0, untold: 0 }, consumer)
    });
    let (tracers, rings) = ends.unzip();
    Ok((tracers, TraceWriter { rings, file, epoch, frame: Vec::new() }))
}

impl<W: Write> TraceWriter<W> {
    /// Writes until the shards have dropped their ends and the rings are empty. Frames of one shard
    /// stand in their order, those of several may be a little out of order.
    ///
    /// # Errors
    /// When the file cannot be written. The rings are not emptied then, so that the shards leave
    /// frames out and count them.
    pub(super) fn run(mut self) -> io::Result<()> {
        loop {
            // Asked first: what is in the ring afterwards was there before the end.
            let is_last = self.rings.iter().all(Consumer::is_abandoned);
            let mut written = 0;
            for shard in 0..self.rings.len() {
                while self.write_one(shard)? {
                    written += 1;
                }
            }
            if is_last {
                return self.file.get_mut().flush();
            }
            if written == 0 {
                self.file.get_mut().flush()?;
                std::thread::sleep(WRITER_PAUSE);
            }
        }
    }

    /// Writes the oldest frame of a shard. A record and its frame come into the ring together.
    fn write_one(&mut self, shard: usize) -> io::Result<bool> {
        let ring = &mut self.rings[shard];
        let mut bytes = [0; RECORD_BYTES];
        if let Err(ChunkError::TooFewSlots(_)) = ring.pop_entire_slice(&mut bytes) {
            return Ok(false);
        }
        let record = Record::of_bytes(&bytes);
        self.frame.resize(record.kept_bytes as usize, 0);
        if ring.pop_entire_slice(&mut self.frame).is_err() {
            return Err(io::Error::other("the trace ring has lost its order"));
        }
        let mut options = vec![EnhancedPacketOption::Flags(record.direction)];
        if record.dropped > 0 {
            options.push(EnhancedPacketOption::DropCount(record.dropped.into()));
        }
        let packet = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: self.epoch + Duration::from_nanos(record.time_ns),
            original_len: record.frame_bytes,
            data: Cow::Borrowed(&self.frame),
            options,
        };
        self.file.write_pcapng_block(packet).map_err(to_io).map(|_| true)
    }
}

fn to_io(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests;
