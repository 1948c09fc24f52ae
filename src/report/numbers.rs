//! How numbers are written for people.

use crate::eval::results::Figure;
pub(super) use crate::eval::results::STANDARD_ERRORS;

/// What is written of a number that is none.
pub(super) const NOT_FINITE: &str = "not finite";

/// `value` with a fixed number of decimals.
pub(super) fn fixed(value: f64, digits: usize) -> String {
    if value.is_finite() { format!("{value:.digits$}") } else { NOT_FINITE.to_owned() }
}

/// `value ± 1.96 standard errors`, scaled; what is not finite is called so.
pub(super) fn spread(figure: &Figure, scale: f64, digits: usize) -> String {
    let value = fixed(figure.value * scale, digits);
    match figure.standard_error {
        Some(error) if figure.value.is_finite() => {
            format!("{value} ± {}", fixed(error * STANDARD_ERRORS * scale, digits))
        }
        _ => value,
    }
}

/// `value` with `digits` significant digits, as a power of ten where it is very small or large.
pub(super) fn significant(value: f64, digits: i32) -> String {
    if !value.is_finite() {
        return NOT_FINITE.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = magnitude(value);
    if (-4..7).contains(&magnitude) {
        minus(&format!("{value:.0$}", (digits - 1 - magnitude).clamp(0, 12) as usize))
    } else {
        let mantissa = value / 10f64.powi(magnitude);
        let text = minus(&format!("{mantissa:.0$}", (digits - 1).clamp(0, 12) as usize));
        format!("{text}·{}", power(magnitude))
    }
}

/// An estimate with as many decimals as its error supports: `0.0124 ± 0.0011`, `(7.11 ± 0.25)·10⁻⁶`.
pub(super) fn estimate(figure: &Figure, scale: f64) -> String {
    let value = figure.value * scale;
    let half = figure.half_width().map(|half| half * scale).filter(|half| half.is_finite());
    let (true, Some(half)) = (value.is_finite(), half) else { return significant(value, 4) };
    if half == 0.0 {
        return format!("{} ± 0", significant(value, 4));
    }
    let size = magnitude(value.abs().max(half));
    let power_of = if size < -3 { size } else { 0 };
    let (value, half) = (value / 10f64.powi(power_of), half / 10f64.powi(power_of));
    let decimals = (1 - magnitude(half)).clamp(0, 6) as usize;
    let text = format!("{} ± {half:.decimals$}", minus(&format!("{value:.decimals$}")));
    if power_of == 0 { text } else { format!("({text})·{}", power(power_of)) }
}

/// A change with its sign: `+0.25`, `−3`, `0`.
pub(super) fn signed(value: f64, digits: i32) -> String {
    let text = significant(value, digits);
    if value > 0.0 && value.is_finite() { format!("+{text}") } else { text }
}

/// The power of ten of the first digit of `value` once it is written with four digits.
fn magnitude(value: f64) -> i32 {
    let at = value.abs().log10().floor();
    if at.is_finite() { at.clamp(-320.0, 320.0) as i32 } else { 0 }
}

/// `10⁻⁶`.
pub(super) fn power(exponent: i32) -> String {
    let raised = |c: char| match c {
        '-' => '⁻',
        '0' => '⁰',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        c => char::from_u32(u32::from(c) - u32::from('4') + u32::from('⁴')).unwrap_or(c),
    };
    format!("10{}", exponent.to_string().chars().map(raised).collect::<String>())
}

/// A true minus sign, and none before zero.
fn minus(text: &str) -> String {
    let digits = text.trim_start_matches('-');
    if digits.len() == text.len() || !digits.contains(|c: char| ('1'..='9').contains(&c)) {
        digits.to_owned()
    } else {
        format!("−{digits}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_they_support() {
        for (value, error, scale, want) in [
            (0.0124, Some(0.00056), 1.0, "0.0124 ± 0.0011"),
            (7.112_6e-6, Some(1.2555e-7), 1.0, "(7.11 ± 0.25)·10⁻⁶"),
            (-0.000_120_679, Some(6.5276e-5), 100.0, "−0.012 ± 0.013"),
            (81.8158, Some(3.3308), 1.0, "81.8 ± 6.5"),
            (0.5, Some(0.0), 1.0, "0.5000 ± 0"),
            (0.0, Some(0.0), 1.0, "0 ± 0"),
            (-1e-9, Some(1.0), 1.0, "0.0 ± 2.0"),
            (0.999_91, None, 1.0, "0.9999"),
            (f64::NAN, Some(1.0), 1.0, "not finite"),
            (1.5, Some(f64::NAN), 1.0, "1.500"),
        ] {
            let figure = Figure { value, unit: "1".to_owned(), n: 9, standard_error: error };
            assert_eq!(estimate(&figure, scale), want, "{value} {error:?}");
        }
        for (value, want) in
            [(1.234e-7, "1.23·10⁻⁷"), (123_456.0, "123456"), (-0.001, "−0.00100"), (0.0, "0")]
        {
            assert_eq!(significant(value, 3), want);
        }
        assert_eq!((signed(0.25, 2), signed(-3.0, 1)), ("+0.25".to_owned(), "−3".to_owned()));
        assert_eq!(power(-120), "10⁻¹²⁰");
    }
}
