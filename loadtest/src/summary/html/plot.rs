//! A plot over time as SVG: axes with round numbers, a line or two, holes where nothing was measured.

use std::fmt::Write as _;

use crate::summary::format;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 210.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;

/// About so many lines across the plot.
const TICKS: f64 = 4.0;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Unit {
    Number,
    /// 1 is everything.
    Share,
    /// 100 is everything.
    Percent,
    Milliseconds,
    /// In a second.
    Bits,
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) name: &'static str,
    /// Seconds, and what was then.
    pub(super) points: Vec<(f64, Option<f64>)>,
}

#[derive(Debug)]
pub(super) struct Plot {
    pub(super) title: &'static str,
    pub(super) unit: Unit,
    pub(super) lines: Vec<Line>,
}

/// From values to places on the paper.
struct Scale {
    seconds: f64,
    top: f64,
}

impl Plot {
    /// `None` if there is nothing to draw.
    pub(super) fn render(&self) -> Option<String> {
        let values = || {
            self.lines
                .iter()
                .flat_map(|line| &line.points)
                .filter_map(|(_, value)| *value)
        };
        let peak = values().reduce(f64::max)?;
        let seconds = self
            .lines
            .iter()
            .flat_map(|line| &line.points)
            .map(|(at, _)| *at)
            .fold(1.0, f64::max);
        let step = self.step(peak);
        let scale = Scale {
            seconds,
            top: (peak / step - 1e-9).ceil().max(1.0) * step,
        };
        let mut legend = String::new();
        if self.lines.len() > 1 {
            for (index, line) in self.lines.iter().enumerate() {
                write!(
                    legend,
                    "<span class=\"key line{index}\">{}</span> ",
                    line.name
                )
                .expect("a String takes everything");
            }
        }
        let peak = self.label(peak);
        let mut drawing = self.grid(&scale, step);
        for (index, line) in self.lines.iter().enumerate() {
            drawing += &line.render(index, &scale, self.lines.len() == 1);
        }
        Some(format!(
            "<figure>\n<figcaption><strong>{title}</strong> {legend}<span class=\"peak\">peak {peak}</span></figcaption>\n\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title} over time, peak {peak}\">\n{drawing}</svg>\n</figure>\n",
            title = self.title
        ))
    }

    fn grid(&self, scale: &Scale, step: f64) -> String {
        let mut grid = String::new();
        let right = WIDTH - RIGHT;
        let lines = (scale.top / step).round() as u32;
        for line in 0..=lines {
            let value = f64::from(line) * step;
            let y = scale.y(value);
            let class = if line == 0 { "axis" } else { "grid" };
            let label = self.label(value);
            writeln!(
                grid,
                "<line class=\"{class}\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                LEFT - 8.0,
                y + 3.5
            )
            .expect("a String takes everything");
        }
        let every = time_step(scale.seconds);
        let ticks = (scale.seconds / every).floor() as u32;
        for tick in 0..=ticks {
            let seconds = f64::from(tick) * every;
            let x = scale.x(seconds);
            // Neither end of the axis is to stick out.
            let anchor = if tick == 0 {
                "start"
            } else if x > right - 16.0 {
                "end"
            } else {
                "middle"
            };
            writeln!(
                grid,
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
                HEIGHT - 8.0,
                clock(seconds)
            )
            .expect("a String takes everything");
        }
        grid
    }

    /// From one line across the plot to the next: 1, 2 or 5 of something.
    fn step(&self, peak: f64) -> f64 {
        let peak = match self.unit {
            // Nothing at all is drawn against what would be little.
            Unit::Share if peak < 1e-4 => 1e-2,
            Unit::Bits if peak < 1.0 => 1e3,
            Unit::Number | Unit::Percent | Unit::Milliseconds if peak < 1e-3 => 1.0,
            _ => peak,
        };
        let rough = peak / TICKS;
        let decade = 10_f64.powf(rough.log10().floor());
        let leading = [1.0, 2.0, 5.0]
            .into_iter()
            .find(|leading| leading * decade >= rough * (1.0 - 1e-9));
        leading.unwrap_or(10.0) * decade
    }

    fn label(&self, value: f64) -> String {
        match self.unit {
            Unit::Number => format::number((value * 1e3).round() / 1e3),
            Unit::Share => format!("{} %", format::number((value * 1e5).round() / 1e3)),
            Unit::Percent => format!("{} %", format::number((value * 10.0).round() / 10.0)),
            Unit::Milliseconds => format::time(value, None),
            Unit::Bits => bits(value),
        }
    }
}

impl Line {
    fn render(&self, index: usize, scale: &Scale, filled: bool) -> String {
        let mut drawing = String::new();
        for run in self.points.split(|(_, value)| value.is_none()) {
            let places: Vec<(f64, f64)> = run
                .iter()
                .map(|(at, value)| (scale.x(*at), scale.y(value.unwrap_or(0.0))))
                .collect();
            let (Some((first, _)), Some((last, y))) = (places.first(), places.last()) else {
                continue;
            };
            if places.len() == 1 {
                writeln!(
                    drawing,
                    "<circle class=\"line{index}\" cx=\"{first:.1}\" cy=\"{y:.1}\" r=\"2\"/>"
                )
                .expect("a String takes everything");
                continue;
            }
            let path: Vec<String> = places
                .iter()
                .map(|(x, y)| format!("{x:.1} {y:.1}"))
                .collect();
            let path = path.join("L");
            if filled {
                let bottom = scale.y(0.0);
                writeln!(drawing, "<path class=\"area\" d=\"M{first:.1} {bottom:.1}L{path}L{last:.1} {bottom:.1}Z\"/>")
                    .expect("a String takes everything");
            }
            writeln!(drawing, "<path class=\"line{index}\" d=\"M{path}\"/>")
                .expect("a String takes everything");
        }
        drawing
    }
}

impl Scale {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + seconds / self.seconds * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (value / self.top).clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
    }
}

/// From one time on the axis to the next, such that there are few.
fn time_step(seconds: f64) -> f64 {
    const STEPS: [f64; 13] = [
        1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0,
    ];
    let fits = |step: &f64| seconds / step <= 6.0;
    STEPS
        .into_iter()
        .find(fits)
        .unwrap_or_else(|| (seconds / 6.0 / 3600.0).ceil() * 3600.0)
}

/// `1:05`, or `1:01:05`.
fn clock(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

fn bits(value: f64) -> String {
    let (scaled, unit) = match value {
        value if value >= 1e9 => (value / 1e9, "Gb/s"),
        value if value >= 1e6 => (value / 1e6, "Mb/s"),
        value if value >= 1e3 => (value / 1e3, "kb/s"),
        value => (value, "b/s"),
    };
    format!(
        "{} {unit}",
        format::number((scaled * 100.0).round() / 100.0)
    )
}

#[cfg(test)]
mod tests {
    //! Axes and holes.

    use super::*;

    fn plot(unit: Unit, points: &[(f64, Option<f64>)]) -> Option<String> {
        Plot {
            title: "Title",
            unit,
            lines: vec![Line {
                name: "line",
                points: points.to_vec(),
            }],
        }
        .render()
    }

    #[test]
    fn nothing_measured_is_no_plot() {
        assert_eq!(plot(Unit::Number, &[(0.0, None), (1.0, None)]), None);
        assert_eq!(plot(Unit::Number, &[]), None);
    }

    #[test]
    fn axes_have_round_numbers() {
        for (unit, peak, labels) in [
            (Unit::Number, 50.0, vec![">0<", ">20<", ">40<", ">60<"]),
            (
                Unit::Share,
                0.012,
                vec![">0 %<", ">0.5 %<", ">1 %<", ">1.5 %<"],
            ),
            (
                Unit::Milliseconds,
                390.0,
                vec![">0s<", ">100ms<", ">400ms<"],
            ),
            (Unit::Bits, 1.7e6, vec![">0 b/s<", ">500 kb/s<", ">2 Mb/s<"]),
            (Unit::Percent, 0.0, vec![">0 %<", ">0.5 %<"]),
        ] {
            let svg = plot(unit, &[(0.0, Some(0.0)), (120.0, Some(peak))]).unwrap();
            for label in labels.iter().chain(&[">0:00<", ">0:30<", ">2:00<"]) {
                assert!(svg.contains(label), "{label} in {svg}");
            }
        }
    }

    #[test]
    fn holes_stay_holes() {
        let svg = plot(
            Unit::Number,
            &[
                (0.0, Some(1.0)),
                (1.0, Some(2.0)),
                (2.0, None),
                (3.0, Some(1.0)),
            ],
        )
        .unwrap();
        assert_eq!(svg.matches("<path class=\"line0\"").count(), 1);
        assert_eq!(svg.matches("<circle class=\"line0\"").count(), 1);
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn times_are_read_like_a_clock() {
        assert_eq!([clock(65.0), clock(3665.0)], ["1:05", "1:01:05"]);
        assert_eq!(
            [time_step(5.0), time_step(120.0), time_step(86_400.0)],
            [1.0, 30.0, 14_400.0]
        );
    }
}
