//! Intervals as an SVG image, one above the other: a dot and a bar each, beside a line at zero.

use super::bootstrap::Interval;
use super::plot::PlotError;
use plotters::prelude::*;

/// Pixels: the width, the height of a row, and of what stands around them.
const WIDTH: u32 = 960;
const ROW: u32 = 34;
const AROUND: u32 = 130;

/// Named intervals from top to bottom; those that leave zero out are dark, the others grey.
///
/// # Errors
/// When it cannot be drawn.
pub fn forest(title: &str, caption: &str, rows: &[(String, Interval)]) -> Result<String, PlotError> {
    let mut svg = String::new();
    let count = rows.len().max(1);
    let height = AROUND + ROW * count as u32;
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 22))
            .margin(16)
            .x_label_area_size(48)
            .y_label_area_size(260)
            .build_cartesian_2d(span(rows), (0..count - 1).into_segmented())?;
        let name = |place: &SegmentValue<usize>| match place {
            SegmentValue::CenterOf(at) => rows.iter().rev().nth(*at).map_or(String::new(), |(name, _)| name.clone()),
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .disable_y_mesh()
            .x_desc(caption)
            .y_labels(count + 1)
            .y_label_formatter(&name)
            .label_style(("sans-serif", 15))
            .draw()?;
        let zero = [(0.0, SegmentValue::Exact(0)), (0.0, SegmentValue::Last)];
        chart.draw_series(LineSeries::new(zero, BLACK.stroke_width(1)))?;
        for (at, (_, interval)) in rows.iter().rev().enumerate() {
            let sure = interval.low > 0.0 || interval.high < 0.0;
            let color = if sure { RGBColor(0, 114, 178) } else { RGBColor(136, 136, 136) };
            let place = SegmentValue::CenterOf(at);
            let bar = [(interval.low, place.clone()), (interval.high, place.clone())];
            chart.draw_series(LineSeries::new(bar, color.stroke_width(3)))?;
            chart.draw_series([Circle::new((interval.value, place), 5, color.filled())])?;
        }
        area.present()?;
    }
    Ok(svg)
}

/// From the lowest to the highest end, zero among them, and a twentieth on either side.
fn span(rows: &[(String, Interval)]) -> std::ops::Range<f64> {
    let ends = rows.iter().flat_map(|(_, interval)| [interval.low, interval.high]).filter(|end| end.is_finite());
    let (low, high) = ends.fold((0.0f64, 0.0f64), |(low, high), end| (low.min(end), high.max(end)));
    let margin = ((high - low) / 20.0).max(1e-9);
    low - margin..high + margin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_its_name_and_its_bar() {
        let row = |name: &str, low, high| (name.to_string(), Interval { value: (low + high) / 2.0, low, high });
        let rows = [row("cost", -60.0, -40.0), row("latency", -5.0, 8.0), row("score", 1.0, 3.0)];
        let svg = forest("t", "difference", &rows).expect("drawn");
        for (name, _) in &rows {
            assert!(svg.contains(name), "{name}");
        }
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(forest("t", "difference", &[]).expect("drawn").contains("<svg"));
    }
}
