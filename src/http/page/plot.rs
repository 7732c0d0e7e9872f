//! The offset with its bound over the last two hours, as SVG. The horizontal unit is a second, the vertical
//! unit a pixel.
//!
//! Lines and areas stretch with the page. Labels and marks are placed by percentages outside of the stretched
//! part, so that they keep their shape at any width of the page.

use std::fmt::Write;
use std::time::Duration;

use super::PageContext;
use super::history::{Span, ago, mark_in_words};
use super::html::Html;
use drift_core::report::history::Mark;
use drift_core::resume::Class;
use drift_core::time::Measurement;
use drift_core::verdict::State;

/// Width of the stretched part, seconds.
const WIDTH: f64 = 7_200.0;
/// Top of the plot, pixels; the heads of the marks are above it.
const TOP: f64 = 14.0;
/// Height of the plot, pixels.
const HEIGHT: f64 = 240.0;
/// Height of the strip of verdicts below the plot, pixels.
const STRIP: f64 = 14.0;
/// Smallest distance between two labels, pixels.
const LABEL_DISTANCE_MIN: f64 = 18.0;
/// The scale reaches to at least this multiple of the threshold.
const SCALE_MIN: f64 = 1.6;
/// Width of a measurement without a neighbour, seconds.
const SINGLE_WIDTH: f64 = 24.0;

/// The axis of offsets: linear up to a tenth of the threshold, logarithmic from there. Behind (positive) is
/// up.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// The threshold, in seconds.
    threshold: f64,
    /// The largest offset on the axis, in seconds.
    most: f64,
}

impl Scale {
    /// The axis for a threshold and the measurements in the plot.
    pub fn new(threshold: Duration, shown: impl Iterator<Item = Measurement>) -> Self {
        let threshold = threshold.as_secs_f64().max(1e-6);
        let far = shown.map(|Measurement { offset, bound }| offset.as_secs_f64().abs() + bound.as_secs_f64());
        Self { threshold, most: far.fold(threshold * SCALE_MIN, f64::max) }
    }

    /// The position of an offset in seconds, in pixels from the top of the plot.
    pub fn y(self, seconds: f64) -> f64 {
        let stretch = |s: f64| (s / self.threshold * 10.0).ln_1p();
        let share = stretch(seconds.abs().min(self.most)) / stretch(self.most);
        HEIGHT / 2.0 * (1.0 - share.copysign(seconds))
    }

    /// The labelled offsets, in seconds: 0, the threshold, its multiples by ten, and a tenth of it, as far as
    /// their labels do not overlap.
    fn ticks(self) -> Vec<f64> {
        let decades = (1..20).map(|n| self.threshold * 10_f64.powi(n)).take_while(|s| *s <= self.most);
        let mut ticks: Vec<f64> = Vec::new();
        for tick in [0.0, self.threshold].into_iter().chain(decades).chain([self.threshold / 10.0]) {
            let is_clear =
                ticks.iter().all(|other| (self.y(*other) - self.y(tick)).abs() >= LABEL_DISTANCE_MIN);
            if is_clear && self.y(tick) >= LABEL_DISTANCE_MIN {
                ticks.push(tick);
            }
        }
        ticks
    }
}

/// The position of an age, in seconds from the left.
fn x(age: Duration) -> f64 {
    (WIDTH - age.as_secs_f64()).clamp(0.0, WIDTH)
}

/// The same as a percentage.
fn percent(age: Duration) -> String {
    format!("{:.3}%", x(age) / WIDTH * 100.0)
}

/// The plot.
pub fn plot(html: &mut Html, context: &PageContext, spans: &[Span], summary: &str) {
    let history = || context.history.points(context.now).map(|(age, point)| (age, point.measured));
    let now = (Duration::ZERO, context.snapshot.measured);
    let points: Vec<(Duration, Option<Measurement>)> = history().chain([now]).collect();
    let scale = Scale::new(context.snapshot.threshold, points.iter().filter_map(|(_, measured)| *measured));
    let attributes = [("class", "plot"), ("role", "img"), ("aria-labelledby", "plot-title plot-summary")];
    html.element("svg", &attributes, |html| {
        html.leaf("title", &[("id", "plot-title")], "Offset of the clock over the last two hours");
        html.leaf("desc", &[("id", "plot-summary")], summary);
        html.element("defs", &[], patterns);
        for span in spans {
            shade(html, *span);
        }
        grid(html, scale);
        curve(html, &points, scale);
        labels(html, scale);
        for (age, mark) in context.history.marks(context.now) {
            draw_mark(html, age, mark);
        }
    });
}

/// A pattern for each verdict, so that colour is never the only difference.
fn patterns(html: &mut Html) {
    for state in State::ALL.map(Some).into_iter().chain([None]) {
        let (id, path) = match state {
            Some(State::InSync) => ("in-sync", ""),
            Some(State::Drifting) => ("drifting", "M-2 2 2 -2M0 8 8 0M6 10 10 6"),
            Some(State::Disagree) => ("disagree", "M0 0 8 8M8 0 0 8"),
            Some(State::Unknown) => ("unknown", "M1 2h2M5 6h2"),
            Some(State::Disrupted) => ("disrupted", "M0 2h8M0 6h8"),
            None => ("no-record", "M4 0v3"),
        };
        let [pattern, class] =
            [format!("pattern-{id}"), if state.is_none() { "unknown".into() } else { id.to_owned() }];
        let attributes = [
            ("id", pattern.as_str()),
            ("class", &class),
            ("width", "8"),
            ("height", "8"),
            ("patternUnits", "userSpaceOnUse"),
        ];
        html.element("pattern", &attributes, |html| match path {
            "" => html.empty("rect", &[("width", "8"), ("height", "8")]),
            path => html.empty("path", &[("d", path)]),
        });
    }
}

fn fill(state: Option<State>) -> String {
    format!("url(#pattern-{})", state.map_or("no-record", State::label))
}

/// One verdict: in the strip, and over the plot unless it is in-sync.
fn shade(html: &mut Html, span: Span) {
    let (begin, width) = (x(span.from), x(span.to) - x(span.from));
    // A short verdict gets a visible width.
    let (left, width) =
        (format!("{:.3}%", begin / WIDTH * 100.0), format!("{:.3}%", (width / WIDTH * 100.0).max(0.15)));
    let fill = fill(span.state);
    html.element("g", &[], |html| {
        html.leaf("title", &[], &span.title());
        let mut rect = |class: &str, y: f64, height: f64| {
            let (y, height) = (y.to_string(), height.to_string());
            let place = [("x", left.as_str()), ("width", &width), ("y", &y), ("height", &height)];
            html.empty("rect", &[&place[..], &[("class", class), ("fill", &fill)]].concat());
        };
        rect("strip", TOP + HEIGHT + 4.0, STRIP);
        if span.state != Some(State::InSync) {
            rect("shade", TOP, HEIGHT);
        }
    });
}

fn grid(html: &mut Html, scale: Scale) {
    let (top, height) = (TOP.to_string(), HEIGHT.to_string());
    html.empty("rect", &[("class", "frame"), ("width", "100%"), ("y", &top), ("height", &height)]);
    for tick in scale.ticks() {
        for seconds in if tick > 0.0 { vec![tick, -tick] } else { vec![tick] } {
            let class = if tick.to_bits() == scale.threshold.to_bits() { "threshold" } else { "grid" };
            let y = format!("{:.1}", TOP + scale.y(seconds));
            html.empty("line", &[("class", class), ("x2", "100%"), ("y1", &y), ("y2", &y)]);
        }
    }
    for quarter in ["25%", "50%", "75%"] {
        let bottom = (TOP + HEIGHT).to_string();
        let place = [("x1", quarter), ("x2", quarter), ("y1", &top), ("y2", &bottom)];
        html.empty("line", &[&[("class", "grid")], &place[..]].concat());
    }
}

/// The band of the bound and the line of the offset, with a gap where the offset was unknown.
fn curve(html: &mut Html, points: &[(Duration, Option<Measurement>)], scale: Scale) {
    let (mut band, mut line) = (String::new(), String::new());
    for piece in points.split(|(_, measured)| measured.is_none()) {
        let mut piece: Vec<(f64, f64, f64)> = piece
            .iter()
            .filter_map(|(age, measured)| {
                let Measurement { offset, bound } = (*measured)?;
                Some((x(*age), offset.as_secs_f64(), bound.as_secs_f64()))
            })
            .collect();
        if let [(x, offset, bound)] = piece[..] {
            piece = vec![
                ((x - SINGLE_WIDTH / 2.0).max(0.0), offset, bound),
                (x + SINGLE_WIDTH / 2.0, offset, bound),
            ];
        }
        let draw = |path: &mut String, index: usize, x: f64, seconds: f64| {
            let _ = write!(path, "{}{x:.0} {:.1}", if index == 0 { 'M' } else { 'L' }, scale.y(seconds));
        };
        for (index, (x, offset, bound)) in piece.iter().enumerate() {
            draw(&mut line, index, *x, *offset);
            draw(&mut band, index, *x, offset + bound);
        }
        for (x, offset, bound) in piece.iter().rev() {
            draw(&mut band, 1, *x, offset - bound);
        }
        if !piece.is_empty() {
            band.push('Z');
        }
    }
    let (y, height, window) = (TOP.to_string(), HEIGHT.to_string(), format!("0 0 {WIDTH} {HEIGHT}"));
    let attributes = [
        ("y", y.as_str()),
        ("width", "100%"),
        ("height", &height),
        ("viewBox", &window),
        ("preserveAspectRatio", "none"),
    ];
    html.element("svg", &attributes, |html| {
        html.empty("path", &[("class", "band"), ("d", &band)]);
        html.empty("path", &[("class", "offset"), ("d", &line)]);
    });
}

fn labels(html: &mut Html, scale: Scale) {
    for tick in scale.ticks() {
        let is_threshold = tick.to_bits() == scale.threshold.to_bits();
        let class = if is_threshold { "limit" } else { "tick" };
        let span = in_words(tick);
        let name = if is_threshold { "threshold, " } else { "" };
        let mut label = |seconds: f64, text: &str| {
            let y = format!("{:.1}", TOP + scale.y(seconds) - 4.0);
            html.leaf("text", &[("class", class), ("x", "6"), ("y", &y)], text);
        };
        if tick > 0.0 {
            label(tick, &format!("{name}{span} behind"));
            label(-tick, &format!("{name}{span} ahead"));
        } else {
            label(0.0, "on time");
        }
    }
    let y = (TOP + HEIGHT + STRIP + 22.0).to_string();
    for (x, anchor, text) in [
        ("0%", "start", "2 h ago"),
        ("25%", "middle", "90 min"),
        ("50%", "middle", "1 h"),
        ("75%", "middle", "30 min"),
        ("100%", "end", "now"),
    ] {
        html.leaf("text", &[("class", "tick"), ("x", x), ("y", &y), ("text-anchor", anchor)], text);
    }
}

/// A number of seconds with its unit.
fn in_words(seconds: f64) -> String {
    let (number, unit) = match seconds {
        s if s < 1e-3 => (s * 1e6, "µs"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    format!("{} {unit}", (number * 1e3).round() / 1e3)
}

/// The head of a mark: a triangle for a resume, a diamond for a step, a bar for all else.
pub fn mark_shape(mark: &Mark) -> &'static str {
    match mark {
        Mark::Step { .. } => "M0 0 6 6.5 0 13 -6 6.5Z",
        Mark::Resume(detection) if matches!(detection.disruption.class(), Class::Suspend | Class::Pause) => {
            "M-7 0H7L0 13Z"
        }
        Mark::Resume(_) => "M-2.5 0H2.5V13H-2.5Z",
    }
}

fn draw_mark(html: &mut Html, age: Duration, mark: &Mark) {
    let (kind, text) = mark_in_words(mark);
    let (x, bottom) = (percent(age), (TOP + HEIGHT).to_string());
    html.element("svg", &[("class", "mark"), ("x", &x), ("overflow", "visible")], |html| {
        html.leaf("title", &[], &format!("{kind}, {}: {text}", ago(age)));
        html.empty("line", &[("y1", "6"), ("y2", &bottom)]);
        // A step soon follows a resume. Its head is at the bottom, so that both are visible.
        let y = if let Mark::Step { .. } = mark { TOP + HEIGHT - 13.0 } else { 0.0 };
        let place = format!("translate(0 {y})");
        html.empty("path", &[("transform", &place), ("d", mark_shape(mark))]);
    });
}

/// The legend of the patterns and marks in the plot.
pub fn legend(html: &mut Html, context: &PageContext, spans: &[Span]) {
    let mut states: Vec<Option<State>> = Vec::new();
    for span in spans {
        if !states.contains(&span.state) {
            states.push(span.state);
        }
    }
    let mut kinds: Vec<(&'static str, &'static str)> = Vec::new();
    for (_, mark) in context.history.marks(context.now) {
        let entry = (mark_in_words(mark).0, mark_shape(mark));
        if !kinds.contains(&entry) {
            kinds.push(entry);
        }
    }
    let swatch = [("aria-hidden", "true"), ("viewBox", "0 0 26 13")];
    html.element("ul", &[("class", "key")], |html| {
        for state in states {
            let name = Span { from: Duration::ZERO, to: Duration::ZERO, state }.name();
            html.element("li", &[], |html| {
                html.element("svg", &swatch, |html| {
                    html.empty("rect", &[("width", "26"), ("height", "13"), ("fill", &fill(state))]);
                });
                html.text(name);
            });
        }
        for (kind, shape) in kinds {
            html.element("li", &[("class", "mark")], |html| {
                html.element("svg", &swatch, |html| {
                    html.empty("path", &[("transform", "translate(13 0)"), ("d", shape)]);
                });
                html.text(kind);
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use drift_core::time::Bound;
    use drift_core::time::Offset;
    use proptest::prelude::*;

    const THRESHOLD: Duration = Duration::from_millis(100);

    fn scale(most_ms: i64) -> Scale {
        let most = Offset::from_nanos(most_ms * 1_000_000);
        Scale::new(THRESHOLD, [Measurement::exact(most)].into_iter())
    }

    #[test]
    fn zero_is_in_the_middle_and_the_largest_offsets_are_at_the_edges() {
        for most in [0, 130, 20_000] {
            let scale = scale(-most);
            let most = scale.most;
            assert_eq!((scale.y(0.0), scale.y(most), scale.y(-most)), (120.0, 0.0, 240.0));
            assert!(scale.y(0.1) < 120.0 && (scale.y(0.1) + scale.y(-0.1) - 240.0).abs() < 1e-9);
        }
        // 1 - ln(1 + 10) / ln(1 + 16) of half the height.
        assert!((scale(0).y(0.1) - 18.44).abs() < 0.01, "{}", scale(0).y(0.1));
    }

    #[test]
    fn the_scale_includes_the_bound() {
        let shown = [Measurement::new(Offset::from_nanos(-200_000_000), Bound::from_nanos(300_000_000))];
        assert!((Scale::new(THRESHOLD, shown.into_iter()).most - 0.5).abs() < 1e-9);
    }

    #[test]
    fn labels_are_at_round_offsets_and_do_not_overlap() {
        assert_eq!(scale(0).ticks(), [0.0, 0.1, 0.01]);
        assert_eq!(scale(25_000).ticks(), [0.0, 0.1, 1.0], "10 s would overlap the edge");
        assert_eq!(scale(90_000).ticks(), [0.0, 0.1, 1.0, 10.0]);
        assert_eq!([2.5, 0.25, 1e-4, 1e3].map(in_words), ["2.5 s", "250 ms", "100 µs", "1000 s"]);
    }

    #[test]
    fn time_runs_from_two_hours_ago_on_the_left_to_now_on_the_right() {
        let at = |secs| percent(Duration::from_secs(secs));
        assert_eq!([at(7_200), at(5_400), at(0), at(9_000)], ["0.000%", "25.000%", "100.000%", "0.000%"]);
    }

    #[test]
    fn unknown_offsets_leave_a_gap() {
        let (known, seconds) = (Some(Measurement::exact(Offset::ZERO)), Duration::from_secs);
        let points = [
            (seconds(7_200), known),
            (seconds(7_170), known),
            (seconds(7_140), None),
            (seconds(7_110), known),
        ];
        let mut html = Html::new();
        curve(&mut html, &points, scale(0));
        let html = html.finish();
        assert!(
            html.contains("d=\"M0 120.0L30 120.0M78 120.0L102 120.0\""),
            "the last measurement has no neighbour: {html}"
        );
        assert!(
            html.contains("d=\"M0 120.0L30 120.0L30 120.0L0 120.0ZM78 120.0L102 120.0L102 120.0L78 120.0Z\""),
            "{html}"
        );
    }

    proptest! {
        #[test]
        fn every_offset_is_drawn_inside_the_plot(offset: i64, bound: i64, threshold: u64, shown: i64) {
            let measured = Measurement::new(Offset::from_nanos(offset), Bound::from_nanos(bound));
            let scale = Scale::new(Duration::from_nanos(threshold), [measured].into_iter());
            let y = scale.y(Offset::from_nanos(shown).as_secs_f64());
            prop_assert!((0.0..=HEIGHT).contains(&y), "{y}");
            prop_assert!(scale.ticks().len() < 10);
        }
    }
}
