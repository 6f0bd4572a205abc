use std::sync::{Arc, Mutex};

use pcap_file::pcapng::{Block, PcapNgReader};

use super::*;

/// A file in memory that outlives its writer.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const EPOCH: Duration = Duration::from_secs(1_700_000_000);

fn config(frame_bytes: u16, ring_bytes: usize) -> TraceConfig {
    TraceConfig { frame_bytes, ring_bytes, ..TraceConfig::new("unused") }
}

/// What was written of a frame: time since the epoch, flags, length and bytes.
#[derive(Debug, PartialEq, Eq)]
struct Written {
    at: Duration,
    options: Vec<String>,
    frame_bytes: u32,
    bytes: Vec<u8>,
}

fn read(memory: &Memory) -> Vec<Written> {
    let bytes = memory.0.lock().unwrap().clone();
    let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
    let mut written = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.unwrap() {
            written.push(Written {
                at: packet.timestamp.checked_sub(EPOCH).unwrap(),
                options: packet.options.iter().map(|option| format!("{option:?}")).collect(),
                frame_bytes: packet.original_len,
                bytes: packet.data.to_vec(),
            });
        }
    }
    written
}

fn frame(number: usize) -> Vec<u8> {
    (0..60 + number % 1500).map(|at| (at * 7 + number) as u8).collect()
}

/// A file and one shard's end.
fn open_one(config: &TraceConfig, memory: &Memory) -> (Tracer, TraceWriter<Memory>) {
    let (mut tracers, writer) = open(config, memory.clone(), EPOCH, 1).unwrap();
    (tracers.remove(0), writer)
}

#[test]
fn what_was_recorded_is_in_the_file() {
    let memory = Memory::default();
    let (mut tracer, writer) = open_one(&config(0, 1 << 20), &memory);
    tracer.record(Nanos(1_234_567_890), Direction::In, [&[1, 2, 3][..]].into_iter());
    tracer.record(Nanos(1_234_567_891), Direction::Out, [&[4][..], &[], &[5, 6]].into_iter());
    drop(tracer);
    writer.run().unwrap();
    let expected =
        [(1_234_567_890, "Flags(1)", vec![1, 2, 3]), (1_234_567_891, "Flags(2)", vec![4, 5, 6])]
            .map(|(at_ns, flags, bytes)| Written {
                at: Duration::from_nanos(at_ns),
                options: vec![flags.to_owned()],
                frame_bytes: 3,
                bytes,
            });
    assert_eq!(read(&memory), expected);
}

#[test]
fn long_frames_are_cut() {
    let memory = Memory::default();
    let (mut tracer, writer) = open_one(&config(4, 1 << 10), &memory);
    tracer.record(Nanos(0), Direction::In, [&[1, 2, 3][..], &[4, 5, 6]].into_iter());
    drop(tracer);
    writer.run().unwrap();
    let written = read(&memory);
    assert_eq!((written[0].frame_bytes, &written[0].bytes[..]), (6, &[1, 2, 3, 4][..]));
}

#[test]
fn what_finds_no_room_is_counted_and_told() {
    let memory = Memory::default();
    let ring_bytes = 2 * (RECORD_BYTES + 100);
    let (mut tracer, mut writer) = open_one(&config(100, ring_bytes), &memory);
    let frame = [7; 100];
    for at_ns in 0..5 {
        tracer.record(Nanos(at_ns), Direction::In, [&frame[..]].into_iter());
    }
    assert_eq!(tracer.dropped(), 3);
    while writer.write_one(0).unwrap() {}
    tracer.record(Nanos(5), Direction::In, [&frame[..]].into_iter());
    drop(tracer);
    writer.run().unwrap();
    let written = read(&memory);
    let times: Vec<u128> = written.iter().map(|written| written.at.as_nanos()).collect();
    assert_eq!(times, [0, 1, 5]);
    assert_eq!(written[2].options, ["Flags(1)", "DropCount(3)"]);
}

#[test]
fn frames_of_all_shards_come_into_one_file() {
    let memory = Memory::default();
    let (tracers, writer) = open(&config(0, 1 << 10), memory.clone(), EPOCH, 3).unwrap();
    for (shard, mut tracer) in tracers.into_iter().enumerate() {
        let bytes = [shard as u8];
        tracer.record(Nanos(shard as u64), Direction::In, [&bytes[..]].into_iter());
    }
    writer.run().unwrap();
    let frames: Vec<Vec<u8>> = read(&memory).into_iter().map(|written| written.bytes).collect();
    assert_eq!(frames, [[0], [1], [2]]);
}

/// Two threads, and a ring so small that it wraps around all the time.
#[test]
fn nothing_is_mixed_up_while_both_ends_run() {
    let memory = Memory::default();
    let (mut tracer, writer) = open_one(&config(2_000, 4_096), &memory);
    let thread = std::thread::spawn(move || writer.run());
    for number in 0..5_000 {
        let bytes = frame(number);
        let (head, tail) = bytes.split_at(number % bytes.len());
        tracer.record(Nanos(number as u64), Direction::Out, [head, tail].into_iter());
        if number % 16 == 0 {
            std::thread::yield_now();
        }
    }
    let dropped = tracer.dropped() as usize;
    drop(tracer);
    thread.join().unwrap().unwrap();
    let written = read(&memory);
    assert_eq!(written.len() + dropped, 5_000);
    assert!(!written.is_empty());
    for packet in written {
        assert_eq!(packet.bytes, frame(packet.at.as_nanos() as usize));
    }
}

#[test]
fn a_file_that_cannot_be_made_is_an_error() {
    let config = TraceConfig::new("/nowhere/at/all.pcapng");
    let Err(error) = create(&config, Nanos(0), 1) else { panic!("it was made") };
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}
