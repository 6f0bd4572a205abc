//! How long messages are: step distributions of message sizes.
//!
//! A distribution is a table of rows (size, cdf), where cdf is the fraction of messages at most that
//! long. Drawing is exact and never interpolates: u uniform in [0,1) takes the first row with
//! `cdf >= u`. The workloads W1-W5 of the Homa paper (SIGCOMM 2018, figure 1) and the variants that
//! the benchmark of Linux Homa draws are embedded.

use core::fmt;
use core::str::FromStr;
use std::collections::BTreeMap;
use std::path::Path;

use rand_xoshiro::rand_core::Rng;

use super::quantity::{self, QuantityError};

/// The longest message of Homa (protocol.md section 1): longer draws are cut to it, as the benchmark
/// of Linux Homa does.
pub const MESSAGE_BYTES_MAX: u32 = 1_000_000;

/// Rows of the index into the table: with 1024 a draw looks at one or two rows of the table.
const GUIDE_LEN: usize = 1024;

/// Name and table of every embedded workload.
const EMBEDDED: [(&str, &str); 15] = [
    ("w1", include_str!("workloads/w1.csv")),
    ("w2", include_str!("workloads/w2.csv")),
    ("w3", include_str!("workloads/w3.csv")),
    ("w4", include_str!("workloads/w4.csv")),
    ("w5", include_str!("workloads/w5.csv")),
    ("heavy-head", include_str!("workloads/heavy-head.csv")),
    ("heavy-middle", include_str!("workloads/heavy-middle.csv")),
    ("fb-webserver", include_str!("workloads/fb-webserver.csv")),
    ("fb-cachefollower", include_str!("workloads/fb-cachefollower.csv")),
    ("cp_node-w1", include_str!("workloads/cp_node-w1.csv")),
    ("cp_node-w2", include_str!("workloads/cp_node-w2.csv")),
    ("cp_node-w3", include_str!("workloads/cp_node-w3.csv")),
    ("cp_node-w4", include_str!("workloads/cp_node-w4.csv")),
    ("cp_node-w5", include_str!("workloads/cp_node-w5.csv")),
    ("cp_node-starve", include_str!("workloads/cp_node-starve.csv")),
];

/// The names of the embedded workloads.
pub fn names() -> impl Iterator<Item = &'static str> {
    EMBEDDED.iter().map(|(name, _)| *name)
}

/// Why a workload could not be made.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum WorkloadError {
    /// Neither a name, nor a size, nor a file that exists.
    Unknown(String),
    /// A size that cannot be read.
    Size(QuantityError),
    /// A size of zero, or above 4,294,967,295 bytes.
    SizeRange(u64),
    /// A part of a mixture that is not written NAME:WEIGHT, or whose weight is not above zero.
    Weight(String),
    /// The file cannot be read.
    File {
        /// Which file.
        path: String,
        /// What the operating system said.
        reason: String,
    },
    /// A row of the table is wrong.
    Row {
        /// File or name of the table.
        table: String,
        /// Line, from 1.
        line: usize,
        /// The line as it stands there.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The table has no row with a probability above zero.
    Empty(String),
}

impl fmt::Display for WorkloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(text) => {
                write!(f, "workload \"{text}\": no such name, size or file; names are ")?;
                for name in names() {
                    write!(f, "{name}, ")?;
                }
                write!(f, "a size is written 100, 100B or 32KB, a file has rows size_bytes,cdf")
            }
            Self::Size(error) => write!(f, "workload of one size: {error}"),
            Self::SizeRange(bytes) => {
                write!(f, "message size {bytes} B: must be 1 to {} B", u32::MAX)
            }
            Self::Weight(part) => {
                write!(f, "part \"{part}\" of a mixture: write w2:0.8,1MB:0.2 with weights above 0")
            }
            Self::File { path, reason } => write!(f, "workload file {path}: {reason}"),
            Self::Row { table, line, text, reason } => {
                write!(f, "{table}, line {line}, \"{text}\": {reason}")
            }
            Self::Empty(table) => {
                write!(f, "{table}: no rows; write lines size_bytes,cdf that end with cdf 1")
            }
        }
    }
}

impl std::error::Error for WorkloadError {}

/// One step of a distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Message length in bytes.
    pub size_bytes: u32,
    /// Fraction of messages at most that long.
    pub cdf: f64,
}

/// What cutting at a maximum did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    /// No message is longer.
    pub max_bytes: u32,
    /// Fraction of the messages that were longer and are now this long.
    pub message_share: f64,
    /// Mean length before, in bytes.
    pub mean_before_bytes: f64,
}

/// A distribution of message sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    name: String,
    rows: Box<[Row]>,
    /// `guide[i]` is the first row with `cdf >= i / GUIDE_LEN`.
    guide: Box<[u32]>,
    mean_bytes: f64,
    cut: Option<Cut>,
}

impl Workload {
    /// Every message has the same length.
    ///
    /// # Errors
    /// [`WorkloadError::SizeRange`] for a size of zero.
    pub fn fixed(size_bytes: u32) -> Result<Self, WorkloadError> {
        if size_bytes == 0 {
            return Err(WorkloadError::SizeRange(0));
        }
        Ok(Self::from_rows(format!("fixed:{size_bytes}"), vec![Row { size_bytes, cdf: 1.0 }]))
    }

    /// An embedded workload by its name, `None` if there is none of that name.
    pub fn embedded(name: &str) -> Option<Self> {
        let (name, csv) = EMBEDDED.iter().find(|(known, _)| *known == name)?;
        // The tables are constants that a test reads one by one, so this is always `Some`.
        Self::from_csv(name, csv).ok()
    }

    /// A table of lines `size_bytes,cdf`: sizes rise, cdf does not fall and ends with 1. A first line
    /// of column names, empty lines and lines that begin with `#` are passed over. `name` is what
    /// errors and reports call it.
    ///
    /// # Errors
    /// [`WorkloadError::Row`] names the line that is wrong; [`WorkloadError::Empty`].
    pub fn from_csv(name: &str, text: &str) -> Result<Self, WorkloadError> {
        let mut rows: Vec<Row> = Vec::new();
        let mut last = Row { size_bytes: 0, cdf: 0.0 };
        let mut last_line = (0, "");
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            let column_names = index == 0 && line.eq_ignore_ascii_case("size_bytes,cdf");
            if line.is_empty() || line.starts_with('#') || column_names {
                continue;
            }
            let row = read_row(line, last).map_err(|reason| WorkloadError::Row {
                table: name.to_owned(),
                line: index + 1,
                text: line.to_owned(),
                reason,
            })?;
            // A row that adds no probability is never drawn.
            if row.cdf > last.cdf {
                rows.push(row);
            }
            last = row;
            last_line = (index + 1, line);
        }
        let Some(end) = rows.last_mut() else {
            return Err(WorkloadError::Empty(name.to_owned()));
        };
        if (end.cdf - 1.0).abs() > 1e-6 {
            return Err(WorkloadError::Row {
                table: name.to_owned(),
                line: last_line.0,
                text: last_line.1.to_owned(),
                reason: "the last cdf must be 1",
            });
        }
        end.cdf = 1.0;
        Ok(Self::from_rows(name.to_owned(), rows))
    }

    /// The table in a file, see [`Self::from_csv`].
    ///
    /// # Errors
    /// [`WorkloadError::File`] when the file cannot be read, else as [`Self::from_csv`].
    pub fn from_file(path: &Path) -> Result<Self, WorkloadError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|e| WorkloadError::File { path: name.clone(), reason: e.to_string() })?;
        Self::from_csv(&name, &text)
    }

    /// `rows` is not empty, rises strictly in both columns and ends with cdf 1.
    fn from_rows(name: String, rows: Vec<Row>) -> Self {
        let guide = (0..=GUIDE_LEN)
            .map(|i| {
                let u = i as f64 / GUIDE_LEN as f64;
                rows.partition_point(|row| row.cdf < u) as u32
            })
            .collect();
        let mut workload = Self { name, rows: rows.into(), guide, mean_bytes: 0.0, cut: None };
        workload.mean_bytes = workload.mean_of(f64::from);
        workload
    }

    /// Messages of several workloads together: of each, the share of all messages that its weight has
    /// in the sum of weights.
    ///
    /// # Errors
    /// [`WorkloadError::Weight`] when a weight is not above zero; [`WorkloadError::Empty`] without parts.
    pub fn mixed(parts: &[(Self, f64)]) -> Result<Self, WorkloadError> {
        let total: f64 = parts.iter().map(|part| part.1).sum();
        let mut shares: BTreeMap<u32, f64> = BTreeMap::new();
        let mut names = Vec::new();
        for (workload, weight) in parts {
            if !(weight.is_finite() && *weight > 0.0) {
                return Err(WorkloadError::Weight(format!("{}:{weight}", workload.name)));
            }
            names.push(format!("{}:{weight}", workload.name));
            let mut below = 0.0;
            for row in &workload.rows {
                *shares.entry(row.size_bytes).or_default() += (row.cdf - below) * weight / total;
                below = row.cdf;
            }
        }
        let mut rows: Vec<Row> = Vec::with_capacity(shares.len());
        let mut cdf = 0.0;
        for (size_bytes, share) in shares {
            cdf += share;
            // Shares that are lost to rounding are never drawn.
            if rows.last().is_none_or(|last| cdf > last.cdf) {
                rows.push(Row { size_bytes, cdf });
            }
        }
        // The sum may reach 1 a row too soon.
        while rows.len() > 1 && rows[rows.len() - 2].cdf >= 1.0 {
            rows.pop();
        }
        let name = names.join(",");
        let Some(end) = rows.last_mut() else { return Err(WorkloadError::Empty(name)) };
        end.cdf = 1.0;
        Ok(Self::from_rows(name, rows))
    }

    /// The same distribution with every message above `max_bytes` cut to `max_bytes`, which
    /// [`Self::cut`] then tells. Unchanged when no message is longer.
    ///
    /// # Errors
    /// [`WorkloadError::SizeRange`] for a maximum of zero.
    pub fn cut_at(self, max_bytes: u32) -> Result<Self, WorkloadError> {
        if max_bytes == 0 {
            return Err(WorkloadError::SizeRange(0));
        }
        if self.max_bytes() <= max_bytes {
            return Ok(self);
        }
        let cut = Cut {
            max_bytes,
            message_share: 1.0 - self.share_at_most(max_bytes),
            mean_before_bytes: self.cut.map_or(self.mean_bytes, |cut| cut.mean_before_bytes),
        };
        let mut rows: Vec<Row> =
            self.rows.iter().copied().take_while(|row| row.size_bytes < max_bytes).collect();
        rows.push(Row { size_bytes: max_bytes, cdf: 1.0 });
        Ok(Self { cut: Some(cut), ..Self::from_rows(self.name, rows) })
    }

    /// What it was made from: a name, `fixed:N` or the path of a file. Reading it again gives the
    /// same distribution, before any cut.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What cutting at a maximum did, if anything was cut.
    pub const fn cut(&self) -> Option<Cut> {
        self.cut
    }

    /// The steps, sizes and cdf rising strictly; the last cdf is 1.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Whether every message has the same length.
    pub fn is_fixed(&self) -> bool {
        self.rows.len() == 1
    }

    /// Mean length in bytes.
    pub const fn mean_bytes(&self) -> f64 {
        self.mean_bytes
    }

    /// The shortest message.
    pub fn min_bytes(&self) -> u32 {
        self.rows[0].size_bytes
    }

    /// The longest message.
    pub fn max_bytes(&self) -> u32 {
        self.rows[self.rows.len() - 1].size_bytes
    }

    /// The size at `u`: that of the first row with `cdf >= u`; the longest for `u` above 1.
    pub fn size_at(&self, u: f64) -> u32 {
        // Multiplying by a power of two is exact, so the index never lies beyond the row sought. A
        // negative u or NaN becomes 0.
        let index = ((u * GUIDE_LEN as f64) as usize).min(GUIDE_LEN - 1);
        let (from, to) = (self.guide[index] as usize, self.guide[index + 1] as usize);
        let row = from + self.rows[from..to].partition_point(|row| row.cdf < u);
        self.rows[row].size_bytes
    }

    /// The length that a fraction `q` of the messages does not exceed.
    pub fn quantile(&self, q: f64) -> u32 {
        self.size_at(q)
    }

    /// Draws a length. Does not allocate.
    #[inline]
    pub fn sample<R: Rng>(&self, rng: &mut R) -> u32 {
        self.size_at(unit_interval(rng))
    }

    /// The fraction of messages at most `size_bytes` long.
    pub fn share_at_most(&self, size_bytes: u32) -> f64 {
        match self.rows.partition_point(|row| row.size_bytes <= size_bytes) {
            0 => 0.0,
            rows => self.rows[rows - 1].cdf,
        }
    }

    /// The fraction of all bytes that travels in messages at most `size_bytes` long.
    pub fn byte_share_at_most(&self, size_bytes: u32) -> f64 {
        let mut bytes = 0.0;
        let mut below = 0.0;
        for row in self.rows.iter().take_while(|row| row.size_bytes <= size_bytes) {
            bytes += f64::from(row.size_bytes) * (row.cdf - below);
            below = row.cdf;
        }
        bytes / self.mean_bytes
    }

    /// Payload bytes per byte on the wire, as the simulations of the Homa paper count it: see
    /// [`paper_wire_bytes`]. Payload rate = this x load x link speed.
    pub fn paper_wire_share(&self) -> f64 {
        self.mean_bytes / self.mean_of(|size| paper_wire_bytes(size) as f64)
    }

    /// The mean over all messages of what `f` says of the length of one.
    pub fn mean_of(&self, f: impl Fn(u32) -> f64) -> f64 {
        let mut mean = 0.0;
        let mut below = 0.0;
        for row in &self.rows {
            mean += f(row.size_bytes) * (row.cdf - below);
            below = row.cdf;
        }
        mean
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match self.cut {
            Some(cut) => write!(f, " cut at {} B", quantity::show_count(cut.max_bytes.into())),
            None => Ok(()),
        }
    }
}

impl FromStr for Workload {
    type Err = WorkloadError;

    /// Reads a name (`w1`), a size (`100`, `100B`, `32KB`, `fixed:100`), the path of a file, or a
    /// mixture of such with their weights (`w2:0.8,1MB:0.2`).
    fn from_str(text: &str) -> Result<Self, WorkloadError> {
        if let Some(workload) = Self::embedded(&text.to_lowercase()) {
            return Ok(workload);
        }
        if let Some(size) = text.strip_prefix("fixed:") {
            return fixed_of(quantity::parse_size(size).map_err(WorkloadError::Size)?);
        }
        if let Ok(size_bytes) = quantity::parse_size(text) {
            return fixed_of(size_bytes);
        }
        let path = Path::new(text);
        if path.exists() {
            return Self::from_file(path);
        }
        if text.contains(',') {
            return read_mixture(text);
        }
        Err(WorkloadError::Unknown(text.to_owned()))
    }
}

fn read_mixture(text: &str) -> Result<Workload, WorkloadError> {
    let mut parts = Vec::new();
    for part in text.split(',') {
        let wrong = || WorkloadError::Weight(part.to_owned());
        let (workload, weight) = part.rsplit_once(':').ok_or_else(wrong)?;
        parts.push((workload.parse()?, weight.parse().map_err(|_| wrong())?));
    }
    Workload::mixed(&parts)
}

/// [`Workload::fixed`] of a number that may be too large.
fn fixed_of(size_bytes: u64) -> Result<Workload, WorkloadError> {
    let size = u32::try_from(size_bytes).map_err(|_| WorkloadError::SizeRange(size_bytes))?;
    Workload::fixed(size)
}

/// Reads one line of a table, which must go on from `last`.
fn read_row(line: &str, last: Row) -> Result<Row, &'static str> {
    let (size, cdf) = line.split_once(',').ok_or("must be size_bytes,cdf")?;
    let size_bytes =
        size.trim().parse().map_err(|_| "size_bytes must be a whole number up to 4294967295")?;
    let cdf: f64 = cdf.trim().parse().map_err(|_| "cdf must be a number from 0 to 1")?;
    if !(0.0..=1.0 + 1e-6).contains(&cdf) {
        return Err("cdf must be a number from 0 to 1");
    }
    if size_bytes == 0 {
        return Err("size_bytes must be above zero");
    }
    if size_bytes <= last.size_bytes {
        return Err("size_bytes must be above that of the row before");
    }
    if cdf < last.cdf {
        return Err("cdf must not be below that of the row before");
    }
    Ok(Row { size_bytes, cdf })
}

/// What a one-way message of `size_bytes` costs on the wire in the simulations of the Homa paper, in
/// bytes: frames of 1538 B with all Ethernet, IP, UDP and Homa headers, and one 84-byte grant per
/// scheduled packet. The first 9328 bytes go unscheduled, 1442 B to a packet; the rest scheduled,
/// 1456 B to a packet.
pub const fn paper_wire_bytes(size_bytes: u32) -> u64 {
    const UNSCHEDULED_BYTES: u64 = 9_328;
    const FRAME_BYTES: u64 = 1_538;
    const FRAME_BYTES_MIN: u64 = 84;
    let size = size_bytes as u64;
    let unscheduled = if size < UNSCHEDULED_BYTES { size } else { UNSCHEDULED_BYTES };
    let mut wire = unscheduled / 1442 * FRAME_BYTES;
    let rest = unscheduled % 1442;
    if rest > 0 {
        wire += if rest + 96 > FRAME_BYTES_MIN { rest + 96 } else { FRAME_BYTES_MIN };
    }
    let scheduled = size - unscheduled;
    wire += scheduled / 1456 * (FRAME_BYTES + FRAME_BYTES_MIN);
    let rest = scheduled % 1456;
    if rest > 0 {
        let frame = if rest + 82 > FRAME_BYTES_MIN { rest + 82 } else { FRAME_BYTES_MIN };
        wire += frame + FRAME_BYTES_MIN;
    }
    wire
}

/// A number uniform in [0,1) with 53 random bits.
#[inline]
pub(crate) fn unit_interval<R: Rng>(rng: &mut R) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests;
