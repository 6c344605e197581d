//! Efficiency over workers as an SVG that reads on light and on dark paper.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::simulation::Report;
use crate::table::thousands;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 610.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 300.0;
/// Neither too light for white paper nor too dark for black. Lines differ by their marks and labels as well.
const COLOURS: [&str; 4] = ["#2f81c7", "#d1761f", "#3f9a5a", "#a05fc0"];

/// A line for each length of array and each setting.
pub(crate) fn svg(reports: &[Report]) -> String {
    let mut lines: BTreeMap<(u64, String), Vec<(f64, f64)>> = BTreeMap::new();
    for report in reports {
        let plan = &report.plan;
        let mut label = format!("{} items", thousands(plan.items));
        for (name, value) in [
            ("packets of", plan.packet_size.map(u64::from)),
            ("prefetch", plan.prefetch.map(|messages| messages as u64)),
        ] {
            if let Some(value) = value {
                label.push_str(&format!(", {name} {value}"));
            }
        }
        let line = lines.entry((plan.items, label)).or_default();
        line.push((plan.workers as f64, report.efficiency()));
    }
    let most = reports.iter().map(|report| report.plan.workers).max();
    let scale = Scale {
        decades: (most.unwrap_or(10).max(10) as f64).log10(),
    };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\" role=\"img\" aria-label=\"Efficiency over workers\">\n\
         <style>text {{ fill: #6e7781 }} .grid {{ stroke: #8c959f; stroke-opacity: 0.35 }} @media (prefers-color-scheme: dark) {{ text {{ fill: #b6bec7 }} }}</style>\n"
    );
    axes(&mut text, &scale);
    for (place, ((_, label), points)) in lines.iter().enumerate() {
        let colour = COLOURS.get(place % COLOURS.len()).unwrap_or(&"#808080");
        line(&mut text, &scale, place, colour, label, points);
    }
    text.push_str("</svg>\n");
    text
}

struct Scale {
    decades: f64,
}

impl Scale {
    fn x(&self, workers: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * workers.log10() / self.decades
    }

    fn y(&self, efficiency: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * efficiency
    }
}

fn axes(text: &mut String, scale: &Scale) {
    let mut add = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    for tenths in [0, 2, 4, 6, 8, 9, 10] {
        let efficiency = f64::from(tenths) / 10.0;
        let y = scale.y(efficiency);
        let dash = if tenths == 9 {
            " stroke-dasharray=\"4 4\""
        } else {
            ""
        };
        add(format!(
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"{dash}/>"
        ));
        add(format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{efficiency:.1}</text>",
            LEFT - 8.0,
            y + 4.0
        ));
    }
    for decade in 0..=scale.decades.floor() as u32 {
        let workers = 10_u64.pow(decade);
        let x = scale.x(workers as f64);
        add(format!(
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{BOTTOM}\"/>"
        ));
        add(format!(
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            BOTTOM + 20.0,
            thousands(workers)
        ));
    }
    let middle = (LEFT + RIGHT) / 2.0;
    add(format!(
        "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">workers</text>",
        BOTTOM + 44.0
    ));
    let middle = (TOP + BOTTOM) / 2.0;
    add(format!(
        "<text transform=\"translate(20 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">efficiency: ideal time / simulated time</text>"
    ));
}

fn line(
    text: &mut String,
    scale: &Scale,
    place: usize,
    colour: &str,
    label: &str,
    points: &[(f64, f64)],
) {
    let mut path = String::new();
    let mut marks = String::new();
    for (workers, efficiency) in points {
        let (x, y) = (scale.x(*workers), scale.y(*efficiency));
        let step = if path.is_empty() { "M" } else { "L" };
        // Writing to a string does not fail.
        let _ = write!(path, "{step}{x:.1} {y:.1} ");
        marks.push_str(&mark(place, x, y, colour));
    }
    // The key stands where the lines are not: in the lower left corner.
    let (x, y) = (LEFT + 20.0, BOTTOM - 20.0 - 22.0 * place as f64);
    let _ = writeln!(
        text,
        "<path d=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\"/>\n{marks}{}<text x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
        path.trim_end(),
        mark(place, x, y, colour),
        x + 14.0,
        y + 4.0
    );
}

fn mark(place: usize, x: f64, y: f64, colour: &str) -> String {
    match place % 2 {
        0 => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"{colour}\"/>\n"),
        _ => format!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"9\" height=\"9\" fill=\"{colour}\"/>\n",
            x - 4.5,
            y - 4.5
        ),
    }
}
