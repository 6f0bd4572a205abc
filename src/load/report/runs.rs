//! Reports of several runs side by side, as files in a folder.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::{Report, ReportError, page, sizes_csv, windows_csv};
use crate::load::transports::Rounds;
use crate::report::Section;

/// A report and what it is called beside others: the name of its file.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedReport {
    /// Its name.
    pub name: String,
    /// The report.
    pub report: Report,
}

/// The reports of a folder, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Runs(pub Vec<NamedReport>);

/// Why reports could not be read or written.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunsError {
    /// A file or folder.
    Io(PathBuf, io::Error),
    /// A file that is no report.
    Report(PathBuf, ReportError),
    /// A folder without any.
    Empty(PathBuf),
    /// A name that is none for a file.
    Name(String),
}

impl fmt::Display for RunsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Report(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Empty(path) => write!(
                f,
                "{}: no reports in it: write some with --report {0} or --json",
                path.display()
            ),
            Self::Name(name) => {
                write!(f, "'{name}' cannot be the name of a file: use letters, digits, - and _")
            }
        }
    }
}

impl std::error::Error for RunsError {}

impl NamedReport {
    /// Reads one file.
    ///
    /// # Errors
    /// The file cannot be read, or is no report of a version that this program knows.
    pub fn read(path: &Path) -> Result<Self, RunsError> {
        let io = |error| RunsError::Io(path.to_owned(), error);
        let text = std::fs::read_to_string(path).map_err(io)?;
        let report =
            Report::from_json(&text).map_err(|error| RunsError::Report(path.to_owned(), error))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, report })
    }
}

impl Runs {
    /// Reads all reports of a folder: files whose names end in `.json`, without other results of homa-load
    /// (baselines, searches), which are passed over.
    ///
    /// # Errors
    /// There is none, or one of them cannot be read.
    pub fn read(folder: &Path) -> Result<Self, RunsError> {
        let io = |error| RunsError::Io(folder.to_owned(), error);
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                paths.push(path);
            }
        }
        paths.sort_by_key(|path| natural(&path.to_string_lossy()));
        let mut runs = Vec::with_capacity(paths.len());
        for path in &paths {
            match NamedReport::read(path) {
                Err(RunsError::Report(_, ReportError::Schema(schema)))
                    if schema.starts_with("homa-load-") =>
                {
                    log::info!("{}: no report but {schema}", path.display());
                }
                run => runs.push(run?),
            }
        }
        if runs.is_empty() {
            return Err(RunsError::Empty(folder.to_owned()));
        }
        Ok(Self(runs))
    }

    /// What a page about them is called unless somebody says otherwise.
    pub fn title(&self) -> String {
        match &self.0[..] {
            [run] => run.report.config.title.clone(),
            runs => format!("{} runs beside each other", runs.len()),
        }
    }

    /// Writes the page and the tables of these reports into a folder; gives the path of the page. Without
    /// `title` the page is called as [`Self::title`] says; `first` is what it begins with.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(
        &self,
        folder: &Path,
        title: Option<&str>,
        first: Option<Section>,
    ) -> Result<PathBuf, RunsError> {
        let path = folder.join("report.html");
        let title = title.map_or_else(|| self.title(), str::to_owned);
        let mut page = page(&title, &self.0);
        page.sections.splice(..0, first);
        write_file(&path, page.html().as_bytes())?;
        write_file(&folder.join("by_size.csv"), sizes_csv(&self.0).as_bytes())?;
        write_file(&folder.join("windows.csv"), windows_csv(&self.0).as_bytes())?;
        Ok(path)
    }
}

/// Sees to it that reports can be written to `folder`, before the run that they are about: makes it and
/// looks at the reports that are there.
///
/// # Errors
/// It cannot be made, or holds files that are no reports.
pub fn check_folder(folder: &Path) -> Result<(), RunsError> {
    std::fs::create_dir_all(folder).map_err(|error| {
        let text = format!("{error}: name a directory that is there or can be made");
        RunsError::Io(folder.to_owned(), io::Error::other(text))
    })?;
    Rounds::read(folder)?;
    match Runs::read(folder) {
        Ok(_) | Err(RunsError::Empty(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes `report` to `name`.json in `folder`, and then the page and the tables of all reports there.
/// Gives the path of the page.
///
/// # Errors
/// A file cannot be written, or another file there is no report.
pub fn write_folder(folder: &Path, name: &str, report: &Report) -> Result<PathBuf, RunsError> {
    check_name(name)?;
    std::fs::create_dir_all(folder).map_err(|error| RunsError::Io(folder.to_owned(), error))?;
    let path = folder.join(format!("{name}.json"));
    let json = report
        .to_json()
        .map_err(|error| RunsError::Report(path.clone(), ReportError::Json(error)))?;
    write_file(&path, json.as_bytes())?;
    rewrite_folder(folder, None)
}

/// Writes the page and the tables of all reports in `folder` anew; gives the path of the page, which is
/// called `title`, or else as the reports say. The page of a comparison begins as it did.
///
/// # Errors
/// A file cannot be read or written, or none is a report.
pub fn rewrite_folder(folder: &Path, title: Option<&str>) -> Result<PathBuf, RunsError> {
    let runs = Runs::read(folder)?;
    let rounds = Rounds::read(folder)?;
    let title = title.or_else(|| rounds.as_ref().map(|rounds| rounds.title.as_str()));
    runs.write(folder, title, rounds.as_ref().and_then(Rounds::section))
}

/// Whether a report may be called so.
///
/// # Errors
/// The name would not be one for a file, or leave the folder.
pub fn check_name(name: &str) -> Result<(), RunsError> {
    let good = |c: char| c.is_alphanumeric() || "-_.+@:".contains(c);
    let is_good = !name.is_empty() && !name.starts_with('.') && name.chars().all(good);
    if is_good { Ok(()) } else { Err(RunsError::Name(name.to_owned())) }
}

/// A key by which names with numbers in them sort as people do: `x-8` before `x-32`.
fn natural(text: &str) -> Vec<(String, u64)> {
    let mut key: Vec<(String, u64)> = vec![(String::new(), 0)];
    let mut in_number = false;
    for c in text.chars() {
        match (c.to_digit(10), key.last_mut()) {
            (Some(digit), Some(last)) => {
                last.1 = last.1.saturating_mul(10).saturating_add(digit.into());
            }
            (None, _) if in_number => key.push((c.to_string(), 0)),
            (None, Some(last)) => last.0.push(c),
            (_, None) => {}
        }
        in_number = c.is_ascii_digit();
    }
    key
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), RunsError> {
    std::fs::write(path, bytes).map_err(|error| RunsError::Io(path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::report::tests::report;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("homa-runs-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_folder_grows_run_by_run() {
        let scratch = Scratch::new("grows");
        let folder = scratch.0.join("new");
        write_folder(&folder, "tcp", &report()).unwrap();
        let html = write_folder(&folder, "homa", &report()).unwrap();
        let Runs(runs) = Runs::read(&folder).unwrap();
        let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
        assert_eq!(names, ["homa", "tcp"]);
        assert_eq!(runs[0].report, report());
        let html = std::fs::read_to_string(html).unwrap();
        assert!(html.contains("<h1>2 runs beside each other</h1>") && html.contains("tcp"));
        std::fs::write(folder.join("base.json"), r#"{"schema":"homa-load-baseline/1"}"#).unwrap();
        assert_eq!(Runs::read(&folder).unwrap().0.len(), 2, "a baseline is no run");
        let csv = std::fs::read_to_string(folder.join("by_size.csv")).unwrap();
        assert_eq!(csv.lines().count(), 21);
        assert!(folder.join("windows.csv").exists());
    }

    #[test]
    fn what_is_no_report_is_named() {
        let scratch = Scratch::new("wrong");
        let error = Runs::read(&scratch.0).unwrap_err().to_string();
        assert!(error.contains("no reports in it"), "{error}");
        std::fs::write(scratch.0.join("notes.json"), "{}").unwrap();
        let error = Runs::read(&scratch.0).unwrap_err().to_string();
        assert!(error.contains("notes.json: not a report of homa-load"), "{error}");
        assert!(check_folder(&scratch.0).is_err());
        check_folder(&scratch.0.join("new")).unwrap();
        assert!(
            Runs::read(&scratch.0.join("nowhere")).unwrap_err().to_string().contains("nowhere")
        );
    }

    #[test]
    fn names_sort_as_people_do() {
        let mut names = ["b", "x-32", "x-8", "x", "x-8b", "a10", "a9"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["a9", "a10", "b", "x", "x-8", "x-8b", "x-32"]);
    }

    #[test]
    fn names_do_not_leave_the_folder() {
        for name in ["", "../x", ".hidden", "a/b", "a b"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("homa-w4_10.5").is_ok());
    }
}
