//! A run as it goes on, on the whole terminal: rates, latency, what is outstanding, losses, cores.
//!
//! [`Dashboard`] holds what is shown and draws it; [`Screen`] is the terminal, which is as before when it
//! is dropped, and when any thread panics.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Gauge, Paragraph, Sparkline};
use ratatui::{DefaultTerminal, Frame};

use super::generator::Totals;
use super::quantity::{show_count, show_digits, show_ns, show_scaled};
use super::recorder::Interval;
use crate::time::Nanos;

/// Moments that are kept: as many as fit across a wide terminal.
const HISTORY: usize = 400;
/// Cores that are shown; more are counted in the title.
const CORES_MAX: usize = 16;
/// Columns of the names in front of values.
const LABEL: usize = 12;

/// What is shown of a moment, all shards together.
#[derive(Debug)]
pub struct Moment<'a> {
    /// Time since the start.
    pub elapsed: Nanos,
    /// Length of the interval.
    pub length: Nanos,
    /// What was completed in it.
    pub interval: &'a Interval,
    /// RPCs under way.
    pub outstanding: u32,
    /// Since the start.
    pub totals: &'a Totals,
    /// Of each core: its name and the share of the interval in which it was busy.
    pub cores: Vec<(String, f64)>,
    /// Payload bytes sent again in the interval.
    pub resent_bytes: u64,
}

/// What the terminal shows.
#[derive(Clone, Debug, Default)]
pub struct Dashboard {
    title: String,
    elapsed: Nanos,
    rps: VecDeque<u64>,
    p99_ns: VecDeque<u64>,
    outstanding: VecDeque<u64>,
    request_bps: f64,
    response_bps: f64,
    times: Option<[u64; 4]>,
    cores: Vec<(String, f64)>,
    totals: Totals,
    resent_bytes: u64,
    resent_bps: f64,
}

impl Dashboard {
    /// A dashboard of nothing yet.
    pub fn new(title: &str) -> Self {
        Self { title: title.to_owned(), ..Self::default() }
    }

    /// Takes in the next moment.
    pub fn push(&mut self, moment: Moment<'_>) {
        let Moment { elapsed, length, interval, outstanding, totals, cores, resent_bytes } = moment;
        let per_second = |count: u64| count as f64 * 1e9 / length.0.max(1) as f64;
        self.elapsed = elapsed;
        self.request_bps = per_second(interval.request_bytes) * 8.0;
        self.response_bps = per_second(interval.response_bytes) * 8.0;
        self.resent_bytes += resent_bytes;
        self.resent_bps = per_second(resent_bytes) * 8.0;
        let at = |q| interval.latency.value_at_quantile(q);
        self.times = (interval.completed > 0).then(|| [0.5, 0.9, 0.99, 0.999].map(at));
        push(&mut self.rps, per_second(interval.completed) as u64);
        push(&mut self.p99_ns, self.times.map_or(0, |times| times[2]));
        push(&mut self.outstanding, outstanding.into());
        self.cores = cores;
        self.totals = *totals;
    }

    /// Draws it; what has no room is left out, the most important last.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let cores = self.cores.len().min(CORES_MAX) as u16;
        let [head, rates, latency, outstanding, core_area, losses, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(6),
            Constraint::Length(6),
            Constraint::Length(5),
            Constraint::Length(if cores > 0 { cores + 2 } else { 0 }),
            Constraint::Length(4),
            Constraint::Min(0),
        ])
        .areas(frame.area());
        frame.render_widget(self.head(), head);
        self.draw_rates(frame, rates);
        self.draw_latency(frame, latency);
        self.draw_outstanding(frame, outstanding);
        self.draw_cores(frame, core_area);
        self.draw_losses(frame, losses);
        let hint = Line::from("q or Ctrl-C ends the run").style(Style::new().fg(Color::DarkGray));
        frame.render_widget(hint, foot);
    }

    fn head(&self) -> Line<'_> {
        let seconds = self.elapsed.0 / 1_000_000_000;
        Line::from(vec![
            Span::styled(self.title.as_str(), Style::new().add_modifier(Modifier::BOLD)),
            Span::raw(format!("   {:02}:{:02}", seconds / 60, seconds % 60)),
        ])
    }

    fn draw_rates(&self, frame: &mut Frame<'_>, area: Rect) {
        let rps = self.rps.back().copied().unwrap_or(0) as f64;
        let text = format!(
            "{}RPC/s   {} Gbps out   {} Gbps in",
            show_scaled(rps),
            show_digits(self.request_bps / 1e9),
            show_digits(self.response_bps / 1e9)
        );
        draw_history(frame, area, "rate", vec![Line::from(text)], &self.rps, Color::Cyan);
    }

    fn draw_latency(&self, frame: &mut Frame<'_>, area: Rect) {
        let text = match self.times {
            None => "nothing completed".to_owned(),
            Some(times) => {
                let [p50, p90, p99, p999] = times.map(|ns| show_ns(ns as f64));
                format!("p50 {p50}   p90 {p90}   p99 {p99}   p99.9 {p999}")
            }
        };
        let title = "latency from when an RPC was due; p99";
        draw_history(frame, area, title, vec![Line::from(text)], &self.p99_ns, Color::Yellow);
    }

    fn draw_outstanding(&self, frame: &mut Frame<'_>, area: Rect) {
        let now = self.outstanding.back().copied().unwrap_or(0);
        let text = format!("{} RPCs under way", show_count(now));
        draw_history(
            frame,
            area,
            "outstanding",
            vec![Line::from(text)],
            &self.outstanding,
            Color::Magenta,
        );
    }

    fn draw_cores(&self, frame: &mut Frame<'_>, area: Rect) {
        let hidden = self.cores.len().saturating_sub(CORES_MAX);
        let title = match hidden {
            0 => " cores ".to_owned(),
            hidden => format!(" cores ({hidden} more) "),
        };
        let block = Block::bordered().title(title);
        let inner = block.inner(area);
        frame.render_widget(block, area);
        let rows = Layout::vertical(self.cores.iter().map(|_| Constraint::Length(1))).split(inner);
        for ((name, share), row) in self.cores.iter().zip(rows.iter()).take(CORES_MAX) {
            let [label, bar] =
                Layout::horizontal([Constraint::Length(LABEL as u16), Constraint::Min(0)])
                    .areas(*row);
            frame.render_widget(Paragraph::new(name.as_str()), label);
            let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
            let gauge = Gauge::default()
                .gauge_style(Style::new().fg(Color::Green).bg(Color::Black))
                .ratio(share)
                .label(format!("{:.0} % busy", share * 100.0));
            frame.render_widget(gauge, bar);
        }
    }

    fn draw_losses(&self, frame: &mut Frame<'_>, area: Rect) {
        let totals = &self.totals;
        let failed = totals.failures();
        let counts = [
            (failed, "failed"),
            (totals.corrupted, "corrupted"),
            (totals.refused, "refused for now"),
            (totals.held, "held by the limit"),
        ];
        let is_bad = failed + totals.corrupted > 0;
        let text: Vec<String> =
            counts.iter().map(|(count, name)| format!("{} {name}", show_count(*count))).collect();
        let colour = if is_bad { Color::Red } else { Color::Green };
        let resent = format!(
            "{}B of payload sent again, {}bps now",
            show_scaled(self.resent_bytes as f64),
            show_scaled(self.resent_bps)
        );
        let lines =
            vec![Line::from(text.join(", ")).style(Style::new().fg(colour)), Line::from(resent)];
        frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" losses ")), area);
    }
}

fn push(history: &mut VecDeque<u64>, value: u64) {
    if history.len() == HISTORY {
        history.pop_front();
    }
    history.push_back(value);
}

/// Text, and below it the latest values as a line of bars.
fn draw_history(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    text: Vec<Line<'_>>,
    values: &VecDeque<u64>,
    colour: Color,
) {
    let block = Block::bordered().title(format!(" {title} "));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [above, below] =
        Layout::vertical([Constraint::Length(text.len() as u16), Constraint::Min(0)]).areas(inner);
    frame.render_widget(Paragraph::new(text), above);
    let room = usize::from(below.width);
    let latest: Vec<u64> = values.iter().copied().skip(values.len().saturating_sub(room)).collect();
    frame.render_widget(Sparkline::default().data(&latest).style(Style::new().fg(colour)), below);
}

/// The terminal while a dashboard is on it.
#[derive(Debug)]
pub struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// Standard output is no terminal, or it does not do what it should.
    pub fn take() -> io::Result<Self> {
        ratatui::try_init().map(|terminal| Self { terminal })
    }

    /// Shows `dashboard`.
    ///
    /// # Errors
    /// The terminal does not take it.
    pub fn show(&mut self, dashboard: &Dashboard) -> io::Result<()> {
        self.terminal.draw(|frame| dashboard.draw(frame)).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = ratatui::try_restore();
    }
}

/// Looks at the keyboard, for `patience` at most; says whether the user wants the run to end. Ctrl-C is a
/// key while a [`Screen`] is taken: no signal comes of it then.
///
/// # Errors
/// The terminal has gone.
pub fn wants_end(patience: Duration) -> io::Result<bool> {
    let mut patience = patience;
    while event::poll(patience)? {
        if let Event::Key(key) = event::read()? {
            let control = key.modifiers.contains(KeyModifiers::CONTROL);
            match key.code {
                KeyCode::Char('c') if control => return Ok(true),
                KeyCode::Char('q') => return Ok(true),
                _ => {}
            }
        }
        patience = Duration::ZERO;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn shown(dashboard: &Dashboard, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| dashboard.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(line).collect()
    }

    fn full(cores: usize) -> Dashboard {
        let mut interval = Interval::new();
        interval.completed = 1_020_000;
        interval.request_bytes = 1_020_000_000;
        for ns in 1..=1000 {
            interval.latency.saturating_record(ns * 10);
        }
        let totals = Totals { corrupted: 2, failed: [1, 0, 0, 0, 0], ..Totals::default() };
        let mut dashboard = Dashboard::new("homa-load client");
        for second in 1..=1_000 {
            dashboard.push(Moment {
                elapsed: Nanos::from_secs(second),
                length: Nanos::from_secs(1),
                interval: &interval,
                outstanding: 32,
                totals: &totals,
                cores: (0..cores).map(|core| (format!("client {core}"), 0.42)).collect(),
                resent_bytes: 500,
            });
        }
        dashboard
    }

    #[test]
    fn everything_has_its_place() {
        let lines = shown(&full(1), 80, 30);
        let text = lines.join("\n");
        for part in [
            "homa-load client   16:40",
            "1.02 MRPC/s   8.16 Gbps out   0 Gbps in",
            "p50 5.02 us",
            "p99 9.92 us",
            "32 RPCs under way",
            "client 0",
            "42 % busy",
            "1 failed, 2 corrupted",
            "500 kB of payload sent again",
            "Ctrl-C",
        ] {
            assert!(text.contains(part), "'{part}' in\n{text}");
        }
        assert!(lines[3].contains('█'), "the history of rates:\n{text}");
        assert_eq!(full(1).rps.len(), HISTORY);
    }

    #[test]
    fn nothing_yet_many_cores_and_small_terminals_are_drawn_too() {
        let text = shown(&Dashboard::new("x"), 80, 24).join("\n");
        assert!(text.contains("nothing completed"), "{text}");
        let text = shown(&full(40), 80, 60).join("\n");
        assert!(text.contains("cores (24 more)"), "{text}");
        for (width, height) in [(1, 1), (10, 3), (40, 12)] {
            let lines = shown(&full(3), width, height);
            assert_eq!(lines.len(), usize::from(height));
        }
    }
}
