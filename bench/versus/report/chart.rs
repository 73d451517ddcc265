//! The chart: a line for each ratio of the summary, with each contender's median as a mark and the median's interval
//! as a stroke. Equal figures give equal text. The chart has no font and no background, and its colours fit light and
//! dark pages.

use super::spread::Spread;
use super::{Finished, Outcome, Samples, summary};
use crate::args::Settings;
use crate::contender::Contender;
use crate::workload::{Aim, Better, Figure};

pub fn of(settings: &Settings, finished: &[Finished]) -> String {
    let rows = rows(settings, finished);
    let height = TOP + ROW * rows.len() as f64 + BOTTOM;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n\
         <title>sockeye and its peers beside the reference</title>\n{STYLE}\
         <text x=\"10\" y=\"22\" class=\"title\">How many times as good as std::net::TcpStream, and over \
         TLS as rustls::StreamOwned</text>\n\
         <text x=\"10\" y=\"42\">Rates as they are, costs inverted: further right is better. \
         Logarithmic.</text>\n"
    );
    text += &legend(&settings.contenders);
    text += &axis(height);
    for (index, row) in rows.iter().enumerate() {
        text += &row.draw(TOP + ROW * (index as f64 + 0.5));
    }
    text + "</svg>\n"
}

const WIDTH: f64 = 900.0;
/// The ends of the lines.
const LEFT: f64 = 330.0;
const RIGHT: f64 = 870.0;
const TOP: f64 = 100.0;
const ROW: f64 = 22.0;
const BOTTOM: f64 = 12.0;

/// Values beyond these limits are drawn at the margin.
const MIN_RATIO: f64 = 0.25;
const MAX_RATIO: f64 = 4.0;
const TICKS: [f64; 7] = [0.25, 0.5, 0.8, 1.0, 1.25, 2.0, 4.0];

const STYLE: &str = "<style>\n\
    text { font: 13px sans-serif; fill: #59636e; }\n\
    .title { font-size: 15px; font-weight: bold; }\n\
    .tick { font-size: 11px; text-anchor: middle; }\n\
    .label { text-anchor: end; }\n\
    .grid { stroke: #8b949e; stroke-opacity: 0.3; }\n\
    .one { stroke: #8b949e; stroke-width: 1.5; }\n\
    .c1 { fill: #0a9396; stroke: #0a9396; }\n\
    .c2 { fill: #d97706; stroke: #d97706; }\n\
    .c3 { fill: #b5527f; stroke: #b5527f; }\n\
    .c4 { fill: #4c86d9; stroke: #4c86d9; }\n\
    .c5 { fill: #808a94; stroke: #808a94; }\n\
    .interval { stroke-width: 2; stroke-opacity: 0.6; }\n\
    @media (prefers-color-scheme: dark) { text { fill: #b1bac4; } }\n\
    </style>\n";

/// One line of the chart.
struct Row {
    label: String,
    /// Contenders' seats with their values; contenders that do not take part are missing.
    marks: Vec<(usize, Spread)>,
}

fn rows(settings: &Settings, finished: &[Finished]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (workload, outcome) in finished {
        let Outcome::Measured(samples) = outcome else { continue };
        let seats = settings.line_up(workload).len();
        for (index, figure) in workload.figures.iter().enumerate() {
            // Figures with an absolute aim are not comparisons.
            if !summary::counts(index, figure) || matches!(figure.aim, Some(Aim::AtMost(_))) {
                continue;
            }
            let marks: Vec<_> = (1..seats)
                .filter_map(|seat| Some((seat, goodness(samples, seat, index, figure)?)))
                .collect();
            if !marks.is_empty() {
                rows.push(Row { label: format!("{}: {}", workload.name, figure.name), marks });
            }
        }
    }
    rows
}

/// Returns the ratio to the reference, inverted for costs, so that more is better.
fn goodness(samples: &Samples, seat: usize, index: usize, figure: &Figure) -> Option<Spread> {
    let comparison = samples.comparison(seat, index, figure).filter(|this| this.is_ratio)?;
    let Spread { median, quartiles, certain } = comparison.spread;
    let turned = |value: f64| match figure.better {
        Better::More => value,
        Better::Less => 1.0 / value,
    };
    Some(Spread {
        median: turned(median),
        quartiles: quartiles.map(turned),
        certain: certain.map(turned),
    })
}

fn legend(contenders: &[&Contender]) -> String {
    let mut text = String::new();
    let mut x = 18.0;
    for (seat, contender) in contenders.iter().enumerate().skip(1) {
        text += &mark(seat, x, 63.0);
        text += &format!("<text x=\"{}\" y=\"67\">{}</text>\n", x + 12.0, contender.name);
        x += 40.0 + 7.5 * contender.name.len() as f64;
    }
    text
}

fn axis(height: f64) -> String {
    let mut text = String::new();
    for tick in TICKS {
        let x = place(tick);
        let class = if tick == 1.0 { "one" } else { "grid" };
        let bottom = height - BOTTOM;
        text += &format!("<text x=\"{x:.1}\" y=\"{}\" class=\"tick\">{tick}</text>\n", TOP - 8.0);
        text += &format!(
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" class=\"{class}\"/>\n"
        );
    }
    text
}

impl Row {
    fn draw(&self, y: f64) -> String {
        let mut text = format!(
            "<text x=\"{}\" y=\"{}\" class=\"label\">{}</text>\n\
             <line x1=\"{LEFT}\" y1=\"{y}\" x2=\"{RIGHT}\" y2=\"{y}\" class=\"grid\"/>\n",
            LEFT - 12.0,
            y + 4.0,
            self.label,
        );
        // In reverse, so that the first contender is on top.
        for (seat, spread) in self.marks.iter().rev() {
            let [one, other] = spread.certain.map(place);
            text += &format!(
                "<line x1=\"{one:.1}\" y1=\"{y}\" x2=\"{other:.1}\" y2=\"{y}\" \
                 class=\"interval c{seat}\"/>\n"
            );
            text += &mark(*seat, place(spread.median), y);
        }
        text
    }
}

/// Returns the horizontal position of a ratio.
fn place(ratio: f64) -> f64 {
    let share = (ratio.clamp(MIN_RATIO, MAX_RATIO) / MIN_RATIO).ln() / (MAX_RATIO / MIN_RATIO).ln();
    LEFT + share * (RIGHT - LEFT)
}

/// Returns a contender's mark, which has its own shape as well as its own colour.
fn mark(seat: usize, x: f64, y: f64) -> String {
    let shape = match seat {
        1 => return format!("<circle cx=\"{x:.1}\" cy=\"{y}\" r=\"5.5\" class=\"c1\"/>\n"),
        2 => "m-4 -4h8v8h-8z",
        3 => "m0 -5l5 9h-10z",
        4 => "m0 -5.5l5 5.5l-5 5.5l-5 -5.5z",
        _ => "m-4 -4l8 8m0 -8l-8 8",
    };
    format!("<path d=\"M{x:.1} {y}{shape}\" class=\"c{}\"/>\n", seat.min(5))
}
