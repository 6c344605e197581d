//! Names that hold numbers, in the order of those numbers: packet 2 before packet 10.

/// Digits of the largest number in a name, `u64::MAX`.
const DIGITS: usize = 20;

/// The name with each run of digits padded to twenty. As texts, these have the order of the names in which numbers
/// compare as numbers. Two names share a key only if a number in one of them has leading zeros, which those of packets and
/// groups never have.
pub(crate) fn sort_key(name: &str) -> String {
    let mut key = String::with_capacity(name.len() + 2 * DIGITS);
    let mut rest = name;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (text, numbers) = rest.split_at(start);
        let end = numbers.find(|c: char| !c.is_ascii_digit());
        let (digits, after) = numbers.split_at(end.unwrap_or(numbers.len()));
        key.push_str(text);
        let missing = DIGITS.saturating_sub(digits.len());
        key.extend(std::iter::repeat_n('0', missing));
        key.push_str(digits);
        rest = after;
    }
    key.push_str(rest);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_twenty_digits() {
        for (name, key) in [
            ("packet 3", "packet 00000000000000000003"),
            (
                "group 1/20",
                "group 00000000000000000001/00000000000000000020",
            ),
            ("packet 18446744073709551615", "packet 18446744073709551615"),
            ("submission", "submission"),
            ("größe 7ß", "größe 00000000000000000007ß"),
            ("", ""),
        ] {
            assert_eq!(sort_key(name), key);
        }
    }

    #[test]
    fn numbers_compare_as_numbers() {
        let names = [
            "group 1/9",
            "group 1/10",
            "group 2/1",
            "group 10/0",
            "packet 0",
            "packet 2",
            "packet 10",
            "packet 18446744073709551615",
            "submission",
        ];
        assert!(names.map(sort_key).is_sorted());
    }
}
