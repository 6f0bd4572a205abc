//! One HTML page that needs nothing else.

use core::fmt::Write;

use super::chart::Chart;

/// A table; all columns but the first are numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Table {
    /// Heads of the columns.
    pub head: Vec<String>,
    /// Cells, a row each.
    pub rows: Vec<Vec<String>>,
}

/// A part of a page.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Section {
    /// Heading.
    pub heading: String,
    /// Paragraphs below it.
    pub text: Vec<String>,
    /// Charts, two in a row where there is room.
    pub charts: Vec<Chart>,
    /// A table below them.
    pub table: Option<Table>,
}

/// A page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Title.
    pub title: String,
    /// Paragraphs below the title.
    pub text: Vec<String>,
    /// Parts.
    pub sections: Vec<Section>,
}

const STYLE: &str = "
body { font: 15px/1.5 Inter, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif; color: #1f2937;
  max-width: 1320px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: .3rem; } h2 { font-size: 1.25rem; margin: 2.4rem 0 .3rem; }
p { margin: .4rem 0; max-width: 46rem; color: #374151; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; }
.charts svg { flex: 1 1 30rem; max-width: 640px; height: auto; border: 1px solid #e4e7eb; border-radius: 6px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .87rem; }
th, td { padding: .22rem .7rem; text-align: right; border-bottom: 1px solid #e4e7eb; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { color: #5b6472; font-weight: 600; border-bottom-color: #9aa3af; }
@media print { body { margin: 0; max-width: none; } h2 { break-after: avoid; } svg, tr { break-inside: avoid; } }
";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn element(page: &mut String, name: &str, text: &str) {
    // Writing into a string does not fail.
    let _ = writeln!(page, "<{name}>{}</{name}>", escape(text));
}

impl Table {
    fn write(&self, page: &mut String) {
        page.push_str("<div class=\"wide\"><table><thead><tr>");
        self.head.iter().for_each(|cell| element(page, "th", cell));
        page.push_str("</tr></thead><tbody>\n");
        for row in &self.rows {
            page.push_str("<tr>");
            row.iter().for_each(|cell| element(page, "td", cell));
            page.push_str("</tr>\n");
        }
        page.push_str("</tbody></table></div>\n");
    }
}

impl Page {
    /// The page as HTML.
    pub fn html(&self) -> String {
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{}</title>\n<style>{STYLE}</style></head><body>\n",
            escape(&self.title)
        );
        element(&mut page, "h1", &self.title);
        self.text.iter().for_each(|text| element(&mut page, "p", text));
        for section in &self.sections {
            element(&mut page, "h2", &section.heading);
            section.text.iter().for_each(|text| element(&mut page, "p", text));
            if !section.charts.is_empty() {
                page.push_str("<div class=\"charts\">\n");
                section.charts.iter().for_each(|chart| page.push_str(&chart.svg()));
                page.push_str("\n</div>\n");
            }
            if let Some(table) = &section.table {
                table.write(&mut page);
            }
        }
        page.push_str("</body></html>\n");
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Axis, Series};

    #[test]
    fn a_page_is_complete_and_escaped() {
        let axis = Axis::linear("x", 0.0, 1.0);
        let chart = Chart {
            title: "t".into(),
            note: "n".into(),
            x: axis.clone(),
            y: axis,
            series: vec![Series::main("s", vec![(0.0, 0.0), (1.0, 1.0)])],
        };
        let table = Table { head: vec!["a".into()], rows: vec![vec!["1 < 2".into()]] };
        let section = Section {
            heading: "part".into(),
            text: vec!["words".into()],
            charts: vec![chart],
            table: Some(table),
        };
        let page = Page { title: "A & B".into(), text: vec![], sections: vec![section] };
        let html = page.html();
        for part in ["<title>A &amp; B</title>", "<h2>part</h2>", "<svg", "1 &lt; 2", "</html>"] {
            assert!(html.contains(part), "{part} in {html}");
        }
        assert!(!html.contains("src=") && !html.contains("href="), "nothing from elsewhere");
    }
}
