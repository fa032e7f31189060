//! An equity curve as a picture. Fonts are compiled in: nothing is asked of the machine.

use domain::time::{DAY_MS, UnixMs};
use embedded_graphics::Drawable;
use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::{FONT_9X18_BOLD, FONT_10X20};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::text::renderer::TextRenderer;
use embedded_graphics::text::{Alignment, Baseline, Text};
use tiny_skia::{
    Color, FillRule, GradientStop, LineCap, LineJoin, LinearGradient, Paint, Path, PathBuilder, Pixmap, Rect,
    SpreadMode, Stroke, StrokeDash, Transform,
};

const WIDTH: u32 = 1_000;
const HEIGHT: u32 = 560;
/// The field of the curve: left, top, right, bottom.
const FIELD: (f32, f32, f32, f32) = (28.0, 118.0, 872.0, 504.0);

/// One value of the curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point2 {
    /// When.
    pub at: UnixMs,
    /// Dollars.
    pub usd: f64,
}

/// Why there is no picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChartError {
    /// A curve has at least two points at different times.
    #[error("too few points for a curve")]
    TooFew,
    /// The drawing library refused.
    #[error("not drawn: {0}")]
    NotDrawn(&'static str),
}

#[derive(Clone, Copy)]
struct Ink(u8, u8, u8);

const BACKGROUND: Ink = Ink(15, 20, 28);
const GRID: Ink = Ink(44, 54, 68);
const FAINT: Ink = Ink(148, 163, 184);
const BRIGHT: Ink = Ink(236, 240, 245);
const UP: Ink = Ink(52, 211, 153);
const DOWN: Ink = Ink(248, 113, 113);

/// Draws the curve as PNG.
///
/// # Errors
/// [`ChartError`].
pub fn equity(title: &str, points: &[Point2]) -> Result<Vec<u8>, ChartError> {
    let mut points: Vec<Point2> = points.iter().copied().filter(|point| point.usd.is_finite()).collect();
    points.sort_by_key(|point| point.at);
    let (Some(first), Some(last)) = (points.first().copied(), points.last().copied()) else {
        return Err(ChartError::TooFew);
    };
    if first.at == last.at {
        return Err(ChartError::TooFew);
    }
    let ink = if last.usd >= first.usd { UP } else { DOWN };
    let mut picture = Pixmap::new(WIDTH, HEIGHT).ok_or(ChartError::NotDrawn("no room for a picture"))?;
    picture.fill(color(BACKGROUND, 255));
    let scale = Scale::of(&points, first.at, last.at);
    grid(&mut picture, &scale);
    curve(&mut picture, &scale, &points, first.usd, ink)?;
    write(&mut picture, title, (28, 22), 1, FAINT, Alignment::Left);
    write(&mut picture, &dollars(last.usd, 2), (28, 48), 2, BRIGHT, Alignment::Left);
    let change = last.usd - first.usd;
    let percent = if first.usd == 0.0 { String::new() } else { format!("  {:+.2} %", change / first.usd * 100.0) };
    let sign = if change < 0.0 { "-" } else { "+" };
    let text = format!("{sign}{}{percent}", dollars(change.abs(), 2));
    write(&mut picture, &text, (972, 48), 2, ink, Alignment::Right);
    let span = format!("{} to {} UTC", moment(first.at), moment(last.at));
    write(&mut picture, &span, (972, 22), 1, FAINT, Alignment::Right);
    picture.encode_png().map_err(|_| ChartError::NotDrawn("no PNG"))
}

/// From times and dollars to pixels.
struct Scale {
    from: UnixMs,
    to: UnixMs,
    low: f64,
    high: f64,
    /// Dollars between two lines of the grid.
    step: f64,
}

impl Scale {
    fn of(points: &[Point2], from: UnixMs, to: UnixMs) -> Self {
        let low = points.iter().map(|point| point.usd).fold(f64::INFINITY, f64::min);
        let high = points.iter().map(|point| point.usd).fold(f64::NEG_INFINITY, f64::max);
        // A curve that stands still lies in the middle, and a cent is no mountain.
        let room = ((high - low) * 0.08).max(high.abs() * 0.000_5).max(0.01);
        let (low, high) = (low - room, high + room);
        Self { from, to, low, high, step: nice((high - low) / 7.0) }
    }

    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a pixel is coarse")]
    fn x(&self, at: UnixMs) -> f32 {
        let part = at.since_ms(self.from) as f64 / self.to.since_ms(self.from) as f64;
        FIELD.0 + (FIELD.2 - FIELD.0) * part as f32
    }

    #[expect(clippy::cast_possible_truncation, reason = "a pixel is coarse")]
    fn y(&self, usd: f64) -> f32 {
        let part = (usd - self.low) / (self.high - self.low);
        FIELD.3 - (FIELD.3 - FIELD.1) * part as f32
    }
}

/// The next of 1, 2, 5, 10, 20, .. that is not below `rough`.
fn nice(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= rough).unwrap_or(rough)
}

fn grid(picture: &mut Pixmap, scale: &Scale) {
    let decimals = if scale.step >= 1.0 { 0 } else { 2 };
    let mut value = (scale.low / scale.step).ceil() * scale.step;
    while value <= scale.high {
        let y = scale.y(value);
        line(picture, (FIELD.0, y), (FIELD.2, y), GRID, None);
        write(picture, &dollars(value, decimals), (972, pixel(y) - 10), 1, FAINT, Alignment::Right);
        value += scale.step;
    }
    for part in 0..5_i64 {
        let at = scale.from.plus_ms(scale.to.since_ms(scale.from) * part / 4);
        let long = scale.to.since_ms(scale.from) > 2 * DAY_MS;
        let text = moment(at);
        let label = if long { text.get(..10) } else { text.get(11..) }.unwrap_or_default().to_owned();
        let alignment = match part {
            0 => Alignment::Left,
            4 => Alignment::Right,
            _ => Alignment::Center,
        };
        write(picture, &label, (pixel(scale.x(at)), 518), 1, FAINT, alignment);
    }
}

fn curve(picture: &mut Pixmap, scale: &Scale, points: &[Point2], opening: f64, ink: Ink) -> Result<(), ChartError> {
    let at = |point: &Point2| (scale.x(point.at), scale.y(point.usd));
    let path = |closed: bool| -> Option<Path> {
        let mut path = PathBuilder::new();
        let (x, y) = at(points.first()?);
        path.move_to(x, y);
        for (x, y) in points.iter().skip(1).map(at) {
            path.line_to(x, y);
        }
        if closed {
            path.line_to(at(points.last()?).0, FIELD.3);
            path.line_to(x, FIELD.3);
            path.close();
        }
        path.finish()
    };
    let (Some(area), Some(edge)) = (path(true), path(false)) else { return Err(ChartError::NotDrawn("no path")) };
    let stops = vec![GradientStop::new(0.0, color(ink, 90)), GradientStop::new(1.0, color(ink, 0))];
    let (top, bottom) = (tiny_skia::Point::from_xy(0.0, FIELD.1), tiny_skia::Point::from_xy(0.0, FIELD.3));
    let shader = LinearGradient::new(top, bottom, stops, SpreadMode::Pad, Transform::identity());
    let mut fill = paint(ink, 40);
    if let Some(shader) = shader {
        fill.shader = shader;
    }
    picture.fill_path(&area, &fill, FillRule::Winding, Transform::identity(), None);
    let y = scale.y(opening);
    line(picture, (FIELD.0, y), (FIELD.2, y), FAINT, StrokeDash::new(vec![6.0, 6.0], 0.0));
    let stroke = Stroke { width: 3.0, line_cap: LineCap::Round, line_join: LineJoin::Round, ..Stroke::default() };
    picture.stroke_path(&edge, &paint(ink, 255), &stroke, Transform::identity(), None);
    if let Some((x, y)) = points.last().map(at)
        && let Some(dot) = PathBuilder::from_circle(x, y, 6.0)
    {
        picture.fill_path(&dot, &paint(ink, 255), FillRule::Winding, Transform::identity(), None);
    }
    Ok(())
}

fn line(picture: &mut Pixmap, from: (f32, f32), to: (f32, f32), ink: Ink, dash: Option<StrokeDash>) {
    let mut path = PathBuilder::new();
    path.move_to(from.0, from.1);
    path.line_to(to.0, to.1);
    if let Some(path) = path.finish() {
        let stroke = Stroke { width: 1.0, dash, ..Stroke::default() };
        picture.stroke_path(&path, &paint(ink, 255), &stroke, Transform::identity(), None);
    }
}

fn color(ink: Ink, alpha: u8) -> Color {
    Color::from_rgba8(ink.0, ink.1, ink.2, alpha)
}

fn paint(ink: Ink, alpha: u8) -> Paint<'static> {
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color_rgba8(ink.0, ink.1, ink.2, alpha);
    paint
}

/// Letters on the picture, each of their pixels as a square of `size`.
struct Letters<'a> {
    picture: &'a mut Pixmap,
    origin: (i32, i32),
    size: u16,
    paint: Paint<'static>,
}

impl OriginDimensions for Letters<'_> {
    fn size(&self) -> Size {
        Size::new(WIDTH, HEIGHT)
    }
}

impl DrawTarget for Letters<'_> {
    type Color = BinaryColor;
    type Error = std::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(&mut self, pixels: I) -> Result<(), Self::Error> {
        let size = f32::from(self.size);
        for Pixel(Point { x, y }, on) in pixels {
            let left = coordinate(self.origin.0) + coordinate(x) * size;
            let top = coordinate(self.origin.1) + coordinate(y) * size;
            if on.is_on()
                && let Some(square) = Rect::from_xywh(left, top, size, size)
            {
                self.picture.fill_rect(square, &self.paint, Transform::identity(), None);
            }
        }
        Ok(())
    }
}

/// Writes with the upper edge of the letters at `at`.
fn write(picture: &mut Pixmap, text: &str, at: (i32, i32), size: u16, ink: Ink, alignment: Alignment) {
    // What the font does not have is shown as what it is: unknown.
    let text: String = text.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect();
    let font = if size > 1 { &FONT_9X18_BOLD } else { &FONT_10X20 };
    let style = MonoTextStyle::new(font, BinaryColor::On);
    let width = style.measure_string(&text, Point::zero(), Baseline::Top).bounding_box.size.width;
    let width = i32::try_from(width).unwrap_or(0) * i32::from(size);
    let left = match alignment {
        Alignment::Left => at.0,
        Alignment::Center => at.0 - width / 2,
        Alignment::Right => at.0 - width,
    };
    let mut letters =
        Letters { picture, origin: (left, at.1), size, paint: Paint { anti_alias: false, ..paint(ink, 255) } };
    let _ = Text::with_baseline(&text, Point::zero(), style, Baseline::Top).draw(&mut letters);
}

#[expect(clippy::cast_precision_loss, reason = "coordinates are small")]
fn coordinate(value: i32) -> f32 {
    value as f32
}

#[expect(clippy::cast_possible_truncation, reason = "coordinates are small")]
fn pixel(value: f32) -> i32 {
    value.round() as i32
}

/// `$12,345.60`.
fn dollars(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, cents) = text.split_once('.').map_or((text.as_str(), String::new()), |(w, c)| (w, format!(".{c}")));
    format!("{}${}{cents}", if value < 0.0 { "-" } else { "" }, super::text::grouped(whole))
}

/// `2026-11-21 17:31`.
fn moment(at: UnixMs) -> String {
    at.to_string().get(..16).unwrap_or_default().replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[f64], every_ms: i64) -> Vec<Point2> {
        let point = |(at, usd): (usize, &f64)| Point2 {
            at: UnixMs(1_800_000_000_000 + i64::try_from(at).unwrap() * every_ms),
            usd: *usd,
        };
        values.iter().enumerate().map(point).collect()
    }

    fn pixels(png: &[u8]) -> Pixmap {
        Pixmap::decode_png(png).unwrap()
    }

    /// How many pixels are of about this ink.
    fn count(png: &[u8], ink: Ink) -> usize {
        let near = |a: u8, b: u8| a.abs_diff(b) < 12;
        let pixels = pixels(png);
        pixels
            .pixels()
            .iter()
            .filter(|p| near(p.red(), ink.0) && near(p.green(), ink.1) && near(p.blue(), ink.2))
            .count()
    }

    #[test]
    fn a_curve_that_rose_is_green_and_one_that_fell_is_red() {
        let rose = equity("Equity of operator", &points(&[50_000.0, 50_100.0, 49_950.0, 50_400.0], 3_600_000)).unwrap();
        let fell = equity("Equity of operator", &points(&[50_000.0, 50_100.0, 49_200.0], 3_600_000)).unwrap();
        assert!(count(&rose, UP) > 2_000 && count(&rose, DOWN) == 0);
        assert!(count(&fell, DOWN) > 2_000 && count(&fell, UP) == 0);
        assert_eq!((pixels(&rose).width(), pixels(&rose).height()), (WIDTH, HEIGHT));
    }

    #[test]
    fn the_curve_ends_where_its_last_value_is() {
        let all = points(&[100.0, 200.0, 150.0], DAY_MS);
        let scale = Scale::of(&all, all[0].at, all[2].at);
        let png = equity("x", &all).unwrap();
        let (x, y) = (scale.x(all[2].at), scale.y(150.0));
        let at = pixels(&png).pixel(u32::try_from(pixel(x)).unwrap(), u32::try_from(pixel(y)).unwrap()).unwrap();
        assert_eq!((at.red(), at.green(), at.blue()), (UP.0, UP.1, UP.2));
    }

    #[test]
    fn a_curve_that_stands_still_and_odd_values_are_drawn_too() {
        for values in [&[50_000.0, 50_000.0][..], &[0.0, 0.0], &[-5.0, 12.0], &[1e15, 2e15], &[1.0, f64::NAN, 2.0]] {
            assert!(equity("\u{202e}evil", &points(values, 1_000)).unwrap().starts_with(b"\x89PNG"), "{values:?}");
        }
        assert_eq!(equity("x", &[]), Err(ChartError::TooFew));
        assert_eq!(equity("x", &points(&[1.0], 1)), Err(ChartError::TooFew));
        assert_eq!(equity("x", &points(&[1.0, 2.0], 0)), Err(ChartError::TooFew));
    }

    #[test]
    fn dollars_are_grouped() {
        assert_eq!(dollars(1_234_567.891, 2), "$1,234,567.89");
        assert_eq!(dollars(-12.0, 0), "-$12");
    }
}
