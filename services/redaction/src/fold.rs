//! Folds names of operations to templates, so that a few names stand for all of them.

use std::borrow::Cow;

/// Shortest run of hexadecimal digits, with a decimal one among them, that is an id rather than a word.
const HEX_LEN_MIN: usize = 8;
/// Shortest mixture of letters and digits that is an id rather than a name with a number.
const MIXED_LEN_MIN: usize = 16;
/// Longest part that may be a word.
const WORD_LEN_MAX: usize = 64;

/// A name with its ids as `{id}`: numbers, UUIDs, hexadecimal digits, long mixtures of letters and digits, and whatever is
/// longer than 64 characters between slashes. Query strings and fragments are dropped. Words, versions (`v2`), template
/// parts (`{user}`, `:user`) and numbered words (`cart2`) stay. Folding twice changes nothing; borrowed where nothing is
/// folded.
#[must_use]
pub fn fold(name: &str) -> Cow<'_, str> {
    let shown = without_query(name);
    if !shown.split(is_separator).any(is_id) {
        return Cow::Borrowed(shown);
    }
    let mut folded = String::with_capacity(shown.len());
    let mut rest = shown;
    while !rest.is_empty() {
        let end = rest.find(is_separator).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        folded.push_str(if is_id(part) { "{id}" } else { part });
        let separator = after.chars().next().map_or(0, char::len_utf8);
        folded.push_str(&after[..separator]);
        rest = &after[separator..];
    }
    Cow::Owned(folded)
}

/// A query begins with a question mark, and where a path stands a fragment with a hash.
fn without_query(name: &str) -> &str {
    let end = name.find('?').unwrap_or(name.len());
    let shown = &name[..end];
    match (shown.find('/'), shown.find('#')) {
        (Some(slash), Some(hash)) if hash > slash => &shown[..hash],
        _ => shown,
    }
}

fn is_separator(c: char) -> bool {
    matches!(c, '/' | ' ' | ',' | ';' | '=' | '(' | ')' | '[' | ']' | '"' | '\'' | ':' | '&' | '|' | '@')
}

fn is_id(part: &str) -> bool {
    if part.starts_with('{') || part.is_empty() {
        return false;
    }
    part.chars().count() > WORD_LEN_MAX
        || is_opaque(part)
        || part.split(['.', '_', '~', '-']).any(is_opaque)
        || is_uuid_like(part)
}

/// Digits alone, hexadecimal digits, or a long mixture.
fn is_opaque(part: &str) -> bool {
    let bytes = part.as_bytes();
    if bytes.is_empty() || !part.is_ascii() {
        return false;
    }
    let count = |of: fn(&u8) -> bool| bytes.iter().filter(|byte| of(byte)).count();
    let digits = count(u8::is_ascii_digit);
    if digits == bytes.len() {
        return true;
    }
    let hexadecimal = count(u8::is_ascii_hexdigit) == bytes.len();
    if hexadecimal && digits > 0 && bytes.len() >= HEX_LEN_MIN {
        return true;
    }
    let mixed = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+'));
    // A word with a number at its end is a name: digits must stand between letters, more than once.
    let turns = bytes.windows(2).filter(|pair| pair[0].is_ascii_digit() != pair[1].is_ascii_digit()).count();
    mixed && bytes.len() >= MIXED_LEN_MIN && digits >= 2 && turns >= 3
}

/// Groups of hexadecimal digits joined by hyphens, 32 digits in all.
fn is_uuid_like(part: &str) -> bool {
    part.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
        && part.bytes().filter(u8::is_ascii_hexdigit).count() == 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_fold_and_words_stay() {
        for (name, folded) in [
            ("GET /users/42", "GET /users/{id}"),
            ("GET /users/42/orders/7?page=3&q=jane", "GET /users/{id}/orders/{id}"),
            ("/files/123e4567-e89b-12d3-a456-426614174000#top", "/files/{id}"),
            ("GET /blobs/9f86d081884c7d65", "GET /blobs/{id}"),
            ("GET /s/dGhpcyBpcyBh4bG9uZyB0b2tlbg5", "GET /s/{id}"),
            ("GET /invoices/inv_20481", "GET /invoices/{id}"),
            ("poll queue-8123", "poll {id}"),
            ("GET /users/{user_id}/carts/:cart", "GET /users/{user_id}/carts/:cart"),
            ("GET /api/v2/status", "GET /api/v2/status"),
            ("shop.Cart/AddItem", "shop.Cart/AddItem"),
            ("oteldemo.CartService/GetCart2", "oteldemo.CartService/GetCart2"),
            ("SELECT shop.orders", "SELECT shop.orders"),
            ("publish orders", "publish orders"),
            ("deadbeef", "deadbeef"),
            ("facade", "facade"),
            ("", ""),
        ] {
            assert_eq!(fold(name), folded, "{name}");
        }
        assert_eq!(fold(&format!("GET /{}", "x".repeat(65))), "GET /{id}");
    }

    proptest! {
        #[test]
        fn folding_twice_changes_nothing(name in "\\PC{0,80}") {
            let once = fold(&name).into_owned();
            prop_assert_eq!(fold(&once).into_owned(), once.clone());
        }

        #[test]
        fn however_many_ids_there_are_the_template_is_one(id in 0u64.., name in "[a-z]{1,12}") {
            prop_assert_eq!(fold(&format!("GET /{name}/{id}/x")).into_owned(), format!("GET /{name}/{{id}}/x"));
        }
    }
}
