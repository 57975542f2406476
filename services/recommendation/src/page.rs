//! Pages of lists.

use attain_vocabulary::InvalidValue;

use crate::Error;

const PAGE_SIZE_DEFAULT: u32 = 100;
const PAGE_SIZE_MAX: u32 = 500;

pub(crate) fn page_size(asked: u32) -> Result<u32, Error> {
    match asked {
        0 => Ok(PAGE_SIZE_DEFAULT),
        1..=PAGE_SIZE_MAX => Ok(asked),
        _ => {
            Err(InvalidValue::new("page_size", "out_of_range", format!("{asked} is outside 1 to {PAGE_SIZE_MAX}"))
                .into())
        }
    }
}

/// A page token is the position of the last row of the page before.
pub(crate) fn position(token: &str) -> Result<Option<u64>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let malformed = || InvalidValue::new("page_token", "malformed", "send the token as the page before gave it");
    // Positions are stored as signed numbers.
    let position = token.parse::<i64>().ok().and_then(|position| u64::try_from(position).ok());
    Ok(Some(position.ok_or_else(malformed)?))
}

/// Cuts the row beyond the page off; where there was one, the next page starts after the last that stays.
pub(crate) fn next_token<T>(page: &mut Vec<T>, size: u32, position: impl Fn(&T) -> u64) -> String {
    if page.len() <= size as usize {
        return String::new();
    }
    page.truncate(size as usize);
    page.last().map(|row| position(row).to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_bounded_and_tokens_checked() {
        assert_eq!(page_size(0).ok(), Some(100));
        assert!(page_size(501).is_err());
        assert_eq!(position("").ok(), Some(None));
        assert_eq!(position("7").ok(), Some(Some(7)));
        for token in ["x", "-1", "99999999999999999999"] {
            assert!(position(token).is_err(), "{token}");
        }
        let mut rows = vec![1u64, 2, 3];
        assert_eq!(next_token(&mut rows, 2, |row| *row), "2");
        assert_eq!(rows, [1, 2]);
        assert_eq!(next_token(&mut rows, 2, |row| *row), "");
    }
}
