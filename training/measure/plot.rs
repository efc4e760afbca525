//! Curves of routers as an SVG image: cost against score, or for two models the share of strong calls against score.
//!
//! `plotters` is known here and in `forest.rs` alone.

use super::candidate::Candidate;
use super::pair::{Pair, Ranking};
use super::sweep::{Point, Sweep};
use super::table::Table;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Why a chart cannot be drawn.
pub type PlotError = DrawingAreaErrorKind<std::io::Error>;

/// Width and height, pixels.
const SIZE: (u32, u32) = (960, 600);

/// Ours, then the others in turn. Colors that color-blind readers tell apart (Okabe and Ito 2008), without yellow.
const COLORS: [RGBColor; 8] = [
    RGBColor(0, 0, 0),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
    RGBColor(136, 136, 136),
];

/// Costs are drawn on a log scale when the dearest is more than this many times the cheapest.
const LOG_RATIO: f64 = 10.0;

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// A name and its points (x, score): a line, or a dot when they are all the same.
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

/// What the x axis shows.
enum Horizontal {
    Cost { log: bool },
    StrongCalls,
}

/// Mean cost against mean score: a curve for each router, ours first, and a labelled dot for each model. In a table
/// without costs nothing but the axes is drawn.
pub fn cost_chart(title: &str, table: &Table, routers: &[&Candidate]) -> Result<String, PlotError> {
    let log = table.cost_range().is_some_and(|(low, high)| low > 0.0 && high / low > LOG_RATIO);
    let horizontal = Horizontal::Cost { log };
    let curve = |router: &&Candidate| {
        let points = Sweep::new(table, router).curve(&table.once());
        let spot = |point: &Point| Some((horizontal.place(point.cost?), point.score));
        points.iter().filter_map(spot).filter(|spot| spot.0.is_finite()).collect()
    };
    let dot = |(name, single): (&String, super::table::Answer)| {
        let points = vec![(horizontal.place(single.cost), single.score)];
        Series { name: name.clone(), points }
    };
    let models: Vec<Series> = table.names().iter().zip(table.singles()).map(dot).filter(|_| table.priced()).collect();
    draw(title, &horizontal, &series(routers, curve), &models)
}

/// One way of answering all requests, as a point of a chart.
pub struct Spot {
    pub name: String,
    /// Dollars a request.
    pub cost: f64,
    /// 0..1.
    pub quality: f64,
}

/// Mean cost against quality: what is routed as one curve from the cheapest to the dearest, the others as crosses.
pub fn spots_chart(title: &str, routed: &[Spot], others: &[Spot]) -> Result<String, PlotError> {
    let costs = || routed.iter().chain(others).map(|spot| spot.cost);
    let (low, high) = (costs().fold(f64::INFINITY, f64::min), costs().fold(0.0, f64::max));
    let horizontal = Horizontal::Cost { log: low > 0.0 && high / low > LOG_RATIO };
    let place = |spot: &Spot| (horizontal.place(spot.cost), spot.quality);
    let cross = |spot: &Spot| Series { name: spot.name.clone(), points: vec![place(spot)] };
    let mut points: Vec<(f64, f64)> = routed.iter().map(place).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let curve = Series { name: "routed".into(), points };
    draw(title, &horizontal, &[curve], &others.iter().map(cross).collect::<Vec<_>>())
}

/// Share of strong calls against mean score: a curve for each router, ours first, and a dot for each of the two
/// models. In a table of more models nothing but the axes is drawn.
pub fn share_chart(title: &str, table: &Table, routers: &[&Candidate]) -> Result<String, PlotError> {
    let pair = Pair::of(table);
    let curve = |router: &&Candidate| {
        let points = pair.map(|pair| Ranking::new(table, pair, router).curve(&table.once())).unwrap_or_default();
        thinned(points.iter().map(|point| (point.share, point.performance)).collect())
    };
    let curves = series(routers, curve);
    let end = |name: usize, at: Option<&(f64, f64)>| Series {
        name: table.names()[name].clone(),
        points: at.copied().into_iter().collect(),
    };
    let ends = pair
        .zip(curves.first())
        .map(|(pair, curve)| vec![end(pair.weak, curve.points.first()), end(pair.strong, curve.points.last())]);
    draw(title, &Horizontal::StrongCalls, &curves, &ends.unwrap_or_default())
}

fn series(routers: &[&Candidate], curve: impl Fn(&&Candidate) -> Vec<(f64, f64)>) -> Vec<Series> {
    routers.iter().map(|router| Series { name: router.name.clone(), points: curve(router) }).collect()
}

/// About a point for each pixel or two, and the last.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let (step, last) = (points.len().div_ceil(500).max(1), points.len().saturating_sub(1));
    points.into_iter().enumerate().filter(|(at, _)| at % step == 0 || *at == last).map(|(_, point)| point).collect()
}

impl Horizontal {
    /// A place on the axis: the value itself, or its log10.
    fn place(&self, value: f64) -> f64 {
        if matches!(self, Horizontal::Cost { log: true }) { value.log10() } else { value }
    }

    fn caption(&self) -> &'static str {
        match self {
            Horizontal::Cost { log: true } => "mean cost per prompt (US dollars, log scale)",
            Horizontal::Cost { log: false } => "mean cost per prompt (US dollars)",
            Horizontal::StrongCalls => "share of calls to the strong model (%)",
        }
    }

    fn label(&self, place: f64) -> String {
        match self {
            Horizontal::Cost { log: true } => money(10f64.powf(place)),
            Horizontal::Cost { log: false } => money(place),
            Horizontal::StrongCalls => format!("{:.0}", 100.0 * place),
        }
    }
}

fn draw(title: &str, x: &Horizontal, curves: &[Series], models: &[Series]) -> Result<String, PlotError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let spots = || curves.iter().chain(models).flat_map(|series| &series.points);
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 22))
            .margin(16)
            .x_label_area_size(48)
            .y_label_area_size(64)
            .build_cartesian_2d(span(spots().map(|spot| spot.0)), span(spots().map(|spot| spot.1)))?;
        draw_axes(&mut chart, x)?;
        draw_curves(&mut chart, curves)?;
        draw_models(&mut chart, models)?;
        draw_legend(&mut chart)?;
        area.present()?;
    }
    Ok(svg)
}

fn draw_axes(chart: &mut Chart, x: &Horizontal) -> Result<(), PlotError> {
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(x.caption())
        .y_desc("mean score (0 to 1)")
        .x_label_formatter(&|place| x.label(*place))
        .y_label_formatter(&|score| format!("{score:.2}"))
        .label_style(("sans-serif", 15))
        .draw()
}

/// Lines from last to first, so that ours lies on top; then a dot at both ends of each, in the order of the legend.
fn draw_curves(chart: &mut Chart, curves: &[Series]) -> Result<(), PlotError> {
    for (at, series) in curves.iter().enumerate().rev() {
        let style = COLORS[at % COLORS.len()].stroke_width(if at == 0 { 4 } else { 2 });
        chart.draw_series(LineSeries::new(series.points.iter().copied(), style))?;
    }
    for (at, series) in curves.iter().enumerate() {
        let color = COLORS[at % COLORS.len()];
        let ends = series.points.first().into_iter().chain(series.points.last());
        chart
            .draw_series(ends.map(|spot| Circle::new(*spot, 4, color.filled())))?
            .label(&series.name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 2), (x + 20, y + 2)], color.filled()));
    }
    Ok(())
}

/// A cross and a name for each model; the name to the left on the right half, where it would leave the image.
fn draw_models(chart: &mut Chart, models: &[Series]) -> Result<(), PlotError> {
    let middle = (chart.x_range().start + chart.x_range().end) / 2.0;
    for series in models {
        let cross = |spot: &(f64, f64)| {
            let (shift, side) = if spot.0 > middle { (-8, HPos::Right) } else { (8, HPos::Left) };
            let style = TextStyle::from(("sans-serif", 14).into_font()).pos(Pos::new(side, VPos::Bottom));
            EmptyElement::at(*spot)
                + Cross::new((0, 0), 5, BLACK.stroke_width(2))
                + Text::new(series.name.clone(), (shift, -2), style)
        };
        chart.draw_series(series.points.iter().map(cross))?;
    }
    Ok(())
}

fn draw_legend<'a, 'b: 'a>(chart: &mut Chart<'a, 'b>) -> Result<(), PlotError> {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .label_font(("sans-serif", 15))
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.4))
        .draw()
}

/// The range of the values and a twentieth of it on either side.
fn span(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return 0.0..1.0;
    }
    let margin = if high > low { (high - low) / 20.0 } else { (high.abs() / 20.0).max(1e-9) };
    low - margin..high + margin
}

/// Dollars with two significant digits.
fn money(dollars: f64) -> String {
    let digits = if dollars > 0.0 { (1.0 - dollars.log10().floor()).clamp(0.0, 12.0) as usize } else { 2 };
    format!("${dollars:.digits$}")
}
