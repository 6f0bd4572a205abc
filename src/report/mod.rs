//! Charts and pages for reports: SVG for screens and print, PNG for everything else, and one
//! self-contained HTML page.
//!
//! | file | holds |
//! |---|---|
//! | `axis` | scales and ticks |
//! | `chart` | lines over two axes, as SVG |
//! | `bars` | bars below each other, as SVG |
//! | `style` | colours and type |
//! | `png` | SVG as pixels |
//! | `page` | headings, text, tables and charts as HTML |
//!
//! Must not know what the numbers mean: whoever measures says what to draw.
//!
//! ```
//! use homa::report::{Axis, Chart, Series};
//!
//! let chart = Chart {
//!     title: "Goodput".into(),
//!     note: "one host".into(),
//!     x: Axis::linear("time in ms", 0.0, 10.0),
//!     y: Axis::linear("Gbps", 0.0, 25.0),
//!     series: vec![Series::main("measured", vec![(0.0, 3.0), (10.0, 20.0)])],
//! };
//! assert!(chart.svg().contains("Goodput"));
//! ```
#![forbid(unsafe_code)]

mod axis;
mod bars;
mod chart;
mod page;
mod png;
mod style;

pub use axis::{Axis, Scale};
pub use bars::{Bar, Bars};
pub use chart::{Chart, Series, average, thinned};
pub use page::{Page, Section, Table, Tile, Tone};
pub use png::{PngError, png};
