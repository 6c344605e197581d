//! A share in per cent, compared exactly: as the decimal number that was written, by integers.

/// A share in per cent as a decimal number: `digits` divided by ten to the power of `decimals`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Decimal {
    digits: u128,
    decimals: u32,
}

impl Decimal {
    /// The decimal number that was written for `percent`: the shortest one that is read as this
    /// `f64`. `None` unless it is from 0 to 100.
    fn of(percent: f64) -> Option<Self> {
        if !(0.0..=100.0).contains(&percent) {
            return None;
        }
        // The absolute value has no negative zero. The text is `1.84e1`, with at most 17 digits.
        let text = format!("{:e}", percent.abs());
        let (mantissa, exponent) = text.split_once('e')?;
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
        let exponent: i64 = exponent.parse().ok()?;
        let decimals = i64::try_from(fraction.len()).ok()? - exponent;
        Some(match u32::try_from(decimals) {
            Ok(decimals) => Self { digits, decimals },
            // 10 and 100 are `1e1` and `1e2`.
            Err(_) => Self {
                digits: digits * 10u128.checked_pow(u32::try_from(-decimals).ok()?)?,
                decimals: 0,
            },
        })
    }
}

/// Whether `count` is at most this share of `total`. A share that is not from 0 to 100 is that of
/// none.
pub(super) fn is_within(count: u64, total: u64, percent: f64) -> bool {
    if count == 0 {
        return true;
    }
    let Some(Decimal { digits, decimals }) = Decimal::of(percent) else {
        return false;
    };
    // At most 17 digits, or 100, multiplied by 2^64: less than 2^121.
    let most = digits * u128::from(total);
    let scale = 10u128.checked_pow(decimals.saturating_add(2));
    let share = scale.and_then(|scale| scale.checked_mul(u128::from(count)));
    // What is above 2^128 is above `most`.
    share.is_some_and(|share| share <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(digits: u128, decimals: u32) -> Option<Decimal> {
        Some(Decimal { digits, decimals })
    }

    #[test]
    fn a_share_is_the_number_that_was_written() {
        assert_eq!(Decimal::of(18.4), decimal(184, 1));
        assert_eq!(Decimal::of(0.1), decimal(1, 1));
        assert_eq!(Decimal::of(7.0), decimal(7, 0));
        assert_eq!(Decimal::of(10.0), decimal(10, 0));
        assert_eq!(Decimal::of(100.0), decimal(100, 0));
        assert_eq!(Decimal::of(-0.0), decimal(0, 0));
        assert_eq!(Decimal::of(1e-300), decimal(1, 300));
        assert_eq!(Decimal::of(f64::from_bits(1)), decimal(5, 324));
        let third = Decimal::of(100.0 / 3.0);
        assert_eq!(third, decimal(33_333_333_333_333_336, 15));
        for other in [f64::NAN, f64::INFINITY, -1e-300, 100.000_000_000_000_01] {
            assert_eq!(Decimal::of(other), None, "{other}");
        }
    }

    /// Every share with up to three decimals, and all pairs up to 500 items. Of the shares, those
    /// next to the pair's own are tried: those further away are compared alike.
    #[test]
    fn no_pair_is_judged_wrongly() {
        let exact =
            |count: u64, total: u64, thousandths: u64| count * 100_000 <= thousandths * total;
        for total in 1..=500 {
            for count in 0..=total {
                let own: u64 = count * 100_000 / total;
                for thousandths in own.saturating_sub(1)..=(own + 2).min(100_000) {
                    // Division is rounded correctly, so this is the `f64` that the text is read as.
                    let percent = thousandths as f64 / 1_000.0;
                    assert_eq!(
                        is_within(count, total, percent),
                        exact(count, total, thousandths),
                        "{count} of {total}, {percent}"
                    );
                }
            }
        }
    }

    /// The same with the shares that no pair is next to.
    #[test]
    fn the_text_of_every_share_is_its_number() {
        for thousandths in 0..=100_000u32 {
            let percent = f64::from(thousandths) / 1_000.0;
            let text = format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000);
            assert_eq!(text.parse(), Ok(percent));
            let Decimal { digits, decimals } = Decimal::of(percent).unwrap();
            let scaled = digits * 10u128.pow(3 - decimals);
            assert_eq!(scaled, u128::from(thousandths), "{percent}");
        }
    }

    #[test]
    fn the_largest_counts_and_the_smallest_shares_are_exact() {
        const MOST: u64 = u64::MAX;
        assert!(is_within(MOST, MOST, 100.0));
        assert!(!is_within(MOST, MOST, 99.999_999_999_999_98));
        assert!(is_within(MOST / 5, MOST, 20.0));
        assert!(!is_within(MOST / 5 + 1, MOST, 20.0));
        // Counts that an `f64` cannot tell from each other.
        assert!(is_within(1 << 53, 1 << 54, 50.0));
        assert!(!is_within((1 << 53) + 1, 1 << 54, 50.0));
        // One item in 2^64 is about 5.4e-18 per cent.
        assert!(is_within(1, MOST, 5.5e-18));
        assert!(!is_within(1, MOST, 5.4e-18));
        for tiny in [1e-300, f64::from_bits(1), f64::MIN_POSITIVE] {
            assert!(is_within(0, MOST, tiny));
            assert!(!is_within(1, MOST, tiny), "{tiny}");
        }
        assert!(is_within(0, 0, 0.0));
        assert!(!is_within(1, 100, f64::NAN));
    }
}
