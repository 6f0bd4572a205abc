//! `homa-sim report`: what lies in a folder of results, as one page and as pictures.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use homa::report::{Chart, Page, PngError, Section, png};
use homa::sim::{IncastRecord, Record};

use crate::args::ReportArgs;

/// Pixels of a PNG per unit of its SVG.
const PNG_SCALE: f32 = 2.0;

/// What is in a file of results.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Results {
    /// Slowdowns of a workload.
    Slowdown(Box<Record>),
    /// Many responses at once.
    Incast(IncastRecord),
    /// Any other table.
    Table(Section),
}

/// Whether results can be kept in `dir`, which is made if it is not there: better known before a long
/// run than after it.
pub(crate) fn check_folder(dir: Option<&Path>) -> Result<(), Box<dyn Error>> {
    let Some(dir) = dir else { return Ok(()) };
    let probe = dir.join(format!(".homa-sim-{}", std::process::id()));
    let written = std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(&probe, []))
        .and_then(|()| std::fs::remove_file(&probe));
    written.map_err(|error| format!("{}: cannot keep results there: {error}", dir.display()).into())
}

/// Whether a file can be written. What is in it stays until then.
pub(crate) fn check_file(path: Option<&Path>) -> Result<(), Box<dyn Error>> {
    let Some(path) = path else { return Ok(()) };
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
    opened.map(drop).map_err(|error| format!("{}: {error}", path.display()).into())
}

impl Results {
    /// Writes them to `name`.json in `dir`.
    pub(crate) fn save(&self, dir: &Path, name: &str) -> Result<(), Box<dyn Error>> {
        let path = dir.join(format!("{name}.json"));
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(dir)?;
            std::fs::write(&path, serde_json::to_vec(self)?)
        };
        write().map_err(|error| format!("{}: {error}", path.display()).into())
    }

    fn section(&self) -> Section {
        match self {
            Self::Slowdown(record) => record.section(),
            Self::Incast(record) => record.section(),
            Self::Table(section) => section.clone(),
        }
    }

    fn charts(&self) -> Vec<(String, Chart)> {
        match self {
            Self::Slowdown(record) => record.charts(),
            Self::Incast(record) => vec![("incast".into(), record.chart())],
            Self::Table(_) => Vec::new(),
        }
    }
}

pub(crate) fn run(args: &ReportArgs) -> Result<ExitCode, Box<dyn Error>> {
    let results = load(&args.dir)?;
    let mut charts = 0;
    let mut no_png = None;
    for (name, chart) in results.iter().flat_map(Results::charts) {
        let svg = chart.svg();
        write(&args.dir.join(format!("{name}.svg")), svg.as_bytes())?;
        charts += 1;
        match png(&svg, PNG_SCALE) {
            Ok(bytes) => write(&args.dir.join(format!("{name}.png")), &bytes)?,
            Err(PngError::NoFonts) => no_png = Some(PngError::NoFonts),
            Err(error) => return Err(error.into()),
        }
    }
    let page = Page {
        title: args.title.clone(),
        text: vec![
            "Simulated with homa-sim, which runs the transport of this library in a cluster of discrete \
             events. Slowdown is the time from sender to receiver over that on an idle network."
                .into(),
        ],
        sections: results.iter().map(Results::section).collect(),
        ..Page::default()
    };
    let path = args.dir.join("report.html");
    write(&path, page.html().as_bytes())?;
    println!("{} and {charts} charts", path.display());
    if let Some(error) = no_png {
        eprintln!("{error}");
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    std::fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// All results in a folder, in the order of their names.
fn load(dir: &Path) -> Result<Vec<Results>, Box<dyn Error>> {
    let entries = std::fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    if paths.is_empty() {
        return Err(format!(
            "{}: no results; write some with run, compare, incast or ablate and --out",
            dir.display()
        )
        .into());
    }
    let parse = |path: &PathBuf| -> Result<Results, Box<dyn Error>> {
        let parsed = std::fs::read(path)
            .map_err(|error| error.to_string())
            .and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
        parsed.map_err(|error| format!("{}: {error}", path.display()).into())
    };
    paths.iter().map(parse).collect()
}
