//! The two views of the demo: a screen for terminals, lines for everything else.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Padding, Paragraph, Row, Sparkline, Table};

use super::facts::{Facts, Now};
use crate::run::grouped;
use crate::source::Hold;
use crate::why::time;

/// How often the screen is drawn.
const DRAW: Duration = Duration::from_millis(200);
const DIM: Style = Style::new().fg(Color::DarkGray);
const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);

/// A line a second until it is left.
pub fn lines(facts: &mut Facts, stop: &AtomicBool) -> io::Result<()> {
    let mut seconds = 0;
    if let Some(page) = facts.page() {
        writeln!(io::stdout(), "the page is at {page}")?;
    }
    while !stop.load(Ordering::Relaxed) && !facts.over() {
        std::thread::sleep(Duration::from_millis(50));
        let now = facts.now();
        if now.seconds == seconds {
            continue;
        }
        seconds = now.seconds;
        let [open, begun, _] = now.visits.map(grouped);
        let [inactivity, length, size] = now.ended.map(grouped);
        let latency = now
            .latency
            .map_or("-".into(), |(p50, p99)| format!("{p50}/{p99} ms"));
        let line = format!(
            "{seconds:>4} s  {:>8}/s  visits {open} open, {begun} begun, ended {inactivity} inactive {length} long {size} large  \
             tag p50/p99 {latency}  {}",
            grouped(now.rate),
            held(&now)
        );
        match writeln!(io::stdout(), "{line}") {
            // Whoever read the lines has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}

/// The screen until it is left with `q`, Escape or Ctrl-C.
pub fn screen(facts: &mut Facts, stop: &AtomicBool) -> io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let result = (|| {
        while !stop.load(Ordering::Relaxed) && !facts.over() {
            let now = facts.now();
            terminal.draw(|frame| draw(frame, &now))?;
            if event::poll(DRAW)?
                && let Event::Key(key) = event::read()?
                && key.kind == KeyEventKind::Press
            {
                let interrupt =
                    key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                if interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                    return Ok(());
                }
            }
        }
        Ok(())
    })();
    ratatui::restore();
    result
}

fn panel(title: &str) -> Block<'_> {
    Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(DIM)
        .padding(Padding::horizontal(1))
        .title(Span::styled(format!(" {title} "), STRONG))
}

fn draw(frame: &mut Frame, now: &Now) {
    let partitions = now.status.partitions.len() as u16;
    let [head, middle, tags, clock, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(8),
        Constraint::Min(4),
        Constraint::Length(partitions.min(8) + 4),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let title = Line::from(vec![
        Span::styled(
            " visitflow ",
            Style::new()
                .fg(Color::Black)
                .bg(Color::Cyan)
                .add_modifier(Modifier::BOLD),
        ),
        Span::raw(format!("  a living shop, {} s", now.seconds)),
        Span::styled("   its page: ", DIM),
        Span::styled(now.page.clone(), STRONG.fg(Color::Cyan)),
    ]);
    frame.render_widget(title, head);
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(middle);
    draw_rate(frame, now, left);
    draw_visits(frame, now, right);
    draw_tags(frame, now, tags);
    draw_time(frame, now, clock);
    let help = Line::styled(
        " q leaves; the tables stay, and a query over them is printed",
        DIM,
    );
    frame.render_widget(help, foot);
}

fn draw_rate(frame: &mut Frame, now: &Now, area: Rect) {
    let block = panel("measurements a second");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [number, line] = Layout::vertical([Constraint::Length(2), Constraint::Min(1)]).areas(inner);
    let latency = now.latency.map_or("no tag yet".into(), |(p50, p99)| {
        format!("append to tag: p50 {p50} ms, p99 {p99} ms")
    });
    let text = vec![
        Line::from(vec![
            Span::styled(grouped(now.rate), STRONG.fg(Color::Cyan)),
            Span::raw(format!("   {} in all", grouped(now.read))),
        ]),
        Line::styled(latency, DIM),
    ];
    frame.render_widget(Paragraph::new(text), number);
    let skip = now.rates.len().saturating_sub(usize::from(line.width));
    let shown = &now.rates[skip..];
    frame.render_widget(
        Sparkline::default()
            .data(shown)
            .max(ceiling(shown))
            .style(Style::new().fg(Color::Cyan)),
        line,
    );
}

/// What fills the height: three times what is usual. What the shop opens with is read in a second,
/// which would make all others flat.
fn ceiling(rates: &[u64]) -> u64 {
    let mut rates = rates.to_vec();
    rates.sort_unstable();
    rates
        .get(rates.len() / 2)
        .map_or(1, |usual| (usual * 3).max(1))
}

fn draw_visits(frame: &mut Frame, now: &Now, area: Rect) {
    let [open, begun, revised] = now.visits.map(grouped);
    let [inactivity, length, size] = now.ended.map(grouped);
    let row = |name: &'static str, value: String, color| {
        Line::from(vec![
            Span::styled(format!("{value:>12}"), STRONG.fg(color)),
            Span::raw(format!("  {name}")),
        ])
    };
    let text = vec![
        row("open", open, Color::Green),
        row("begun", begun, Color::Reset),
        row("ended by inactivity", inactivity, Color::Reset),
        row("ended by length", length, Color::Reset),
        row("ended by size (robots)", size, Color::Reset),
        row("revisions", revised, Color::Yellow),
    ];
    frame.render_widget(Paragraph::new(text).block(panel("visits")), area);
}

fn draw_tags(frame: &mut Frame, now: &Now, area: Rect) {
    let rows = now.tags.iter().map(|tag| {
        let agent = match tag.agent {
            "person" => Style::new().fg(Color::Green),
            "robot" => Style::new().fg(Color::Magenta),
            _ => DIM,
        };
        let effect = match tag.effect.as_str() {
            "ordered" => STRONG.fg(Color::Yellow),
            "added_to_cart" => Style::new().fg(Color::Yellow),
            _ => Style::new(),
        };
        Row::new(vec![
            Span::styled(
                time(tag.time).get(11..23).unwrap_or_default().to_owned(),
                DIM,
            ),
            Span::raw(tag.visit.clone()),
            Span::styled(tag.agent, agent),
            Span::styled(tag.effect.clone(), effect),
            Span::raw(tag.entity.clone()),
            Span::styled(tag.sender.clone(), DIM),
        ])
    });
    let widths = [12, 11, 8, 14]
        .map(Constraint::Length)
        .into_iter()
        .chain([Constraint::Fill(3), Constraint::Fill(2)]);
    let table = Table::new(rows, widths)
        .header(Row::new(["time", "visit", "agent", "effect", "entity", "from"]).style(DIM))
        .block(panel("newest tags"));
    frame.render_widget(table, area);
}

fn draw_time(frame: &mut Frame, now: &Now, area: Rect) {
    let status = &now.status;
    let mut text = vec![Line::from(vec![
        Span::raw("frontier  "),
        Span::styled(frontier(now), STRONG),
    ])];
    text.push(Line::from(vec![
        Span::raw("held by   "),
        Span::raw(held(now)),
    ]));
    for p in status.partitions.iter().take(8) {
        let behind = p.tick.map_or(0, |tick| (status.at - tick as i64).max(0));
        let text_line = format!(
            "partition {:<2} {:>6} ms behind the wall clock, at offset {}",
            p.partition,
            behind,
            grouped(p.offset)
        );
        text.push(Line::styled(text_line, DIM));
    }
    frame.render_widget(Paragraph::new(text).block(panel("time")), area);
}

fn frontier(now: &Now) -> String {
    match now.status.committed {
        None => "at the end".into(),
        Some(0) => "not begun".into(),
        Some(tick) => {
            let behind = (now.status.at - tick as i64).max(0);
            format!("{}, {behind} ms behind the wall clock", time(tick as i64))
        }
    }
}

fn held(now: &Now) -> String {
    let Some(p) = now.status.least() else {
        return "nothing: everything is read".into();
    };
    match p.hold {
        Hold::Wall => "the wall clock: everything there is has been read".into(),
        Hold::Unread => format!("partition {}: there is more to read", p.partition),
        Hold::Fetching => format!("partition {}: more is on its way", p.partition),
        Hold::Silent => format!("partition {}: no broker answers", p.partition),
        Hold::Paused => format!(
            "partition {}: paused until what was read is written",
            p.partition
        ),
        Hold::Closed => "nothing".into(),
    }
}
