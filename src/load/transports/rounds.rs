//! What each round of a comparison gave, in few numbers: what the page of a folder begins with, and what lies
//! in the folder so that the page can be made again.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Case, REFERENCE, Ranges, RoundRatio};
use crate::load::report::{Report, RunsError};
use crate::report::{Axis, Chart, Section, Series};

/// Name and version of the JSON schema. Folders of reports pass it over.
const SCHEMA: &str = "homa-load-rounds/1";
/// Where it lies beside the reports.
const FILE: &str = "rounds.json";

/// The rounds of all loads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rounds {
    schema: String,
    /// What the page is called.
    pub title: String,
    loads: Vec<LoadRounds>,
}

/// Those of one load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct LoadRounds {
    name: String,
    transports: Vec<TransportRounds>,
}

/// Those of one load over one transport; `None` are runs that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct TransportRounds {
    name: String,
    rounds: Vec<Option<Figures>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Figures {
    p50_ns: u64,
    rps: f64,
}

impl Figures {
    const fn new(report: &Report) -> Self {
        Self { p50_ns: report.latency.p50_ns, rps: report.rates.rps }
    }
}

/// What there is a ratio of: its name, and which of the figures it is.
type Figure = (&'static str, fn(&Figures) -> f64);
const RATIOS: [Figure; 2] =
    [("median RPC time", |figures| figures.p50_ns as f64), ("rate", |figures| figures.rps)];

impl LoadRounds {
    fn rounds(&self, transport: &str) -> Option<&[Option<Figures>]> {
        let found = self.transports.iter().find(|one| one.name == transport)?;
        Some(&found.rounds)
    }

    /// A figure of a transport relative to that of [`REFERENCE`].
    fn ratio(&self, transport: &str, figure: Figure) -> Option<RoundRatio> {
        let rounds = self.rounds(transport)?.iter().zip(self.rounds(REFERENCE)?);
        let of = |round: &Option<Figures>| round.as_ref().map(figure.1);
        RoundRatio::of(rounds.filter_map(|(one, other)| Some((of(one)?, of(other)?))))
    }
}

impl Rounds {
    /// Those of a comparison.
    pub fn new(title: &str, cases: &[Case]) -> Self {
        let loads = cases.iter().map(|case| LoadRounds {
            name: case.name.clone(),
            transports: case
                .contenders
                .iter()
                .map(|contender| TransportRounds {
                    name: contender.transport.clone(),
                    rounds: contender
                        .rounds
                        .iter()
                        .map(|round| round.as_ref().map(Figures::new))
                        .collect(),
                })
                .collect(),
        });
        Self { schema: SCHEMA.to_owned(), title: title.to_owned(), loads: loads.collect() }
    }

    /// Writes them into a folder of reports.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), RunsError> {
        let path = folder.join(FILE);
        let json = serde_json::to_string(self).map_err(io::Error::other);
        json.and_then(|json| std::fs::write(&path, json)).map_err(|e| RunsError::Io(path, e))
    }

    /// Reads those of a folder of reports, if it has some.
    ///
    /// # Errors
    /// The file is there, and cannot be read or was written by another version.
    pub fn read(folder: &Path) -> Result<Option<Self>, RunsError> {
        let path = folder.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text,
        };
        let rounds = text.and_then(|text| Ok(serde_json::from_str::<Self>(&text)?));
        match rounds {
            Ok(rounds) if rounds.schema == SCHEMA => Ok(Some(rounds)),
            Ok(Self { schema, .. }) => {
                let text = format!("schema \"{schema}\", this program reads \"{SCHEMA}\"");
                Err(RunsError::Io(path, io::Error::other(text)))
            }
            Err(error) => Err(RunsError::Io(path, error)),
        }
    }

    /// The part of a page that answers who is ahead: ratios to [`REFERENCE`], by load. `None` if that did not
    /// run, or nothing beside it.
    pub fn section(&self) -> Option<Section> {
        let mut others: Vec<&str> = Vec::new();
        for transport in self.loads.iter().flat_map(|load| &load.transports) {
            let name = transport.name.as_str();
            if name != REFERENCE && !others.contains(&name) {
                others.push(name);
            }
        }
        let is_compared =
            |load: &&LoadRounds| others.iter().any(|name| load.ratio(name, RATIOS[0]).is_some());
        let compared: Vec<&LoadRounds> = self.loads.iter().filter(is_compared).collect();
        if compared.is_empty() {
            return None;
        }
        let mut head = vec!["load".to_owned()];
        for name in &others {
            head.extend(RATIOS.map(|figure| format!("{} of {name}", figure.0)));
        }
        let row = |load: &&LoadRounds| {
            let mut cells = vec![load.name.clone()];
            for name in &others {
                cells.extend(RATIOS.map(|figure| {
                    let ratio = load.ratio(name, figure);
                    ratio.map_or_else(|| "–".to_owned(), |ratio| ratio.show(Ranges::Shown))
                }));
            }
            cells
        };
        Some(Section {
            heading: format!("Relative to {}", REFERENCE.to_uppercase()),
            text: vec![format!(
                "Ratios of runs of the same round; the median of the rounds, with the least and the greatest. Below \
                 1, time is shorter than over {0}; above 1, the rate is higher.",
                REFERENCE.to_uppercase()
            )],
            charts: RATIOS.map(|figure| ratio_chart(figure, &compared, &others)).into(),
            table: Some(crate::report::Table { head, rows: compared.iter().map(row).collect() }),
            ..Section::default()
        })
    }
}

/// A figure of all transports as a multiple of that of the reference, with a line where both are the same.
fn ratio_chart(figure: Figure, loads: &[&LoadRounds], others: &[&str]) -> Chart {
    let lines = others.iter().enumerate().map(|(at, name)| {
        let points = loads.iter().enumerate().map(|(x, load)| {
            let median = load.ratio(name, figure).map_or(f64::NAN, |ratio| ratio.median);
            (x as f64 + 0.5, median)
        });
        // The styles of the charts below, where the one that others are compared with is second.
        let style = if at == 0 { 0 } else { at + 1 };
        Series { name: (*name).to_owned(), points: points.collect(), style }
    });
    let mut series: Vec<Series> = lines.collect();
    let end = loads.len() as f64;
    let values = || series.iter().flat_map(|line| &line.points).map(|point| point.1);
    let finite = || values().filter(|value| value.is_finite());
    let (low, high) = (finite().fold(0.5, f64::min), finite().fold(2.0, f64::max));
    let reference = REFERENCE.to_uppercase();
    series.push(Series::reference(&format!("{reference}: 1"), 1, vec![(0.0, 1.0), (end, 1.0)]));
    let ticks = loads.iter().enumerate().map(|(at, load)| (at as f64 + 0.5, load.name.clone()));
    let mut x = Axis::linear("load", 0.0, end).with_ticks(ticks.collect());
    x.range = (0.0, end);
    let what = figure.0;
    Chart {
        title: format!("{}{}", what[..1].to_uppercase(), &what[1..]),
        note: format!("as a multiple of that of {reference} in the same round"),
        x,
        y: Axis::log(&format!("times {reference}"), low, high),
        series,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::contender;
    use super::*;
    use crate::load::report::{Runs, write_folder};

    #[test]
    fn the_page_of_a_folder_made_again_begins_with_the_ratios_too() {
        let folder = std::env::temp_dir().join(format!("homa-rounds-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let case = Case {
            name: "w1".to_owned(),
            title: String::new(),
            contenders: vec![
                contender("homa", &[Some((30.0, 5)), None]),
                contender("tcp", &[Some((10.0, 10)), Some((10.0, 10))]),
            ],
        };
        assert_eq!(Rounds::read(&folder).unwrap(), None);
        let rounds = Rounds::new("Homa beside TCP", std::slice::from_ref(&case));
        rounds.write(&folder).unwrap();
        assert_eq!(Rounds::read(&folder).unwrap(), Some(rounds));
        // A run that is added makes the page again, and so does `homa-load report`.
        let report = case.contenders[0].rounds[0].as_ref().unwrap();
        let path = write_folder(&folder, "added", report).unwrap();
        let html = std::fs::read_to_string(path).unwrap();
        assert!(html.contains("<h1>Homa beside TCP</h1>"));
        assert!(html.contains("Relative to TCP") && html.contains("3.00 [3.00-3.00]"));
        assert_eq!(Runs::read(&folder).unwrap().0.len(), 1, "the rounds are no report");

        std::fs::write(
            folder.join(FILE),
            r#"{"schema":"homa-load-rounds/9","title":"","loads":[]}"#,
        )
        .unwrap();
        let error = Rounds::read(&folder).unwrap_err().to_string();
        assert!(error.contains("rounds.json") && error.contains("rounds/1"), "{error}");
        std::fs::write(folder.join(FILE), "no JSON").unwrap();
        assert!(Rounds::read(&folder).unwrap_err().to_string().contains("rounds.json"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
