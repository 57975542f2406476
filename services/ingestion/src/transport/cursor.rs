//! Page tokens: opaque to callers, checked when they come back.

use attain_vocabulary::{EntityId, UnixMillis};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::Error;
use crate::domain::Exemplar;
use crate::storage::{ExemplarPosition, IncidentPosition, OperationPosition};

const TOKEN_LEN_MAX: usize = 1_024;

/// Where a page of services goes on: after this name.
pub(super) fn service_token(last: &EntityId) -> String {
    encode("s", last.as_str())
}

pub(super) fn read_service_token(token: &str) -> Result<Option<EntityId>, Error> {
    read("s", token, |text| EntityId::new("page_token", text).ok())
}

/// Where a page of buckets goes on: at this time.
pub(super) fn bucket_token(next_start_ms: UnixMillis) -> String {
    encode("b", &next_start_ms.to_string())
}

pub(super) fn read_bucket_token(token: &str) -> Result<Option<UnixMillis>, Error> {
    read("b", token, |text| text.parse().ok())
}

/// Where a page of incidents goes on: after this one.
pub(super) fn incident_token(position: &IncidentPosition) -> String {
    encode("i", &format!("{}:{}", position.start_ms, position.id))
}

pub(super) fn read_incident_token(token: &str) -> Result<Option<IncidentPosition>, Error> {
    read("i", token, |text| {
        let (start_ms, id) = text.split_once(':')?;
        Some(IncidentPosition { start_ms: start_ms.parse().ok()?, id: id.to_owned() }).filter(|p| !p.id.contains('\0'))
    })
}

/// Where a page of exemplars goes on: after this one.
pub(super) fn exemplar_token(last: &Exemplar) -> String {
    encode("e", &format!("{}:{:032x}:{}", last.time_ms, last.trace_id, u8::from(last.failed)))
}

pub(super) fn read_exemplar_token(token: &str) -> Result<Option<ExemplarPosition>, Error> {
    read("e", token, |text| {
        let mut parts = text.splitn(3, ':');
        let time_ms = parts.next()?.parse().ok()?;
        let trace_id = u128::from_str_radix(parts.next()?, 16).ok()?;
        Some(ExemplarPosition { time_ms, trace_id, failed: parts.next()? == "1" })
    })
}

/// Where a page of operations goes on: after this one.
pub(super) fn operation_token(position: &OperationPosition) -> String {
    encode("o", &format!("{}\n{}\n{}", position.day, position.callee, position.name))
}

pub(super) fn read_operation_token(token: &str) -> Result<Option<OperationPosition>, Error> {
    read("o", token, |text| {
        let mut parts = text.splitn(3, '\n');
        let day = parts.next()?.parse().ok()?;
        let position = OperationPosition { day, callee: parts.next()?.to_owned(), name: parts.next()?.to_owned() };
        (!text.contains('\0')).then_some(position)
    })
}

/// The number of rows that a page may have: `default` for 0.
pub(super) fn page_size(asked: u32, default: usize, max: usize) -> Result<usize, Error> {
    match asked as usize {
        0 => Ok(default),
        asked if asked <= max => Ok(asked),
        asked => Err(Error::invalid("page_size", "out_of_range", format!("{asked} is outside 1 to {max}"))),
    }
}

fn encode(list: &str, position: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{list}1{position}"))
}

fn read<T>(list: &str, token: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let text = Some(token)
        .filter(|token| token.len() <= TOKEN_LEN_MAX)
        .and_then(|token| URL_SAFE_NO_PAD.decode(token).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let position = text.as_deref().and_then(|text| text.strip_prefix(list)?.strip_prefix('1')).and_then(parse);
    position.map(Some).ok_or_else(|| {
        Error::invalid(
            "page_token",
            "malformed",
            "not the token of a previous page of this list; leave it out to begin",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_of_another_list_is_refused() {
        let id = EntityId::new("id", "checkout").expect("valid");
        let token = service_token(&id);
        assert_eq!(read_service_token(&token).expect("ours"), Some(id));
        assert!(read_bucket_token(&token).is_err());
        assert!(read_service_token("").expect("none").is_none());
    }

    #[test]
    fn a_page_has_a_size_within_bounds() {
        assert_eq!(page_size(0, 100, 500).expect("default"), 100);
        assert_eq!(page_size(500, 100, 500).expect("most"), 500);
        assert!(page_size(501, 100, 500).is_err());
    }

    proptest! {
        #[test]
        fn tokens_come_back_and_anything_else_is_refused_without_panic(start_ms: i64, id in "[a-zA-Z0-9:/é-]{1,60}", junk in "\\PC{0,80}") {
            let position = IncidentPosition { start_ms, id };
            prop_assert_eq!(read_incident_token(&incident_token(&position)).ok().flatten(), Some(position));
            prop_assert_eq!(read_bucket_token(&bucket_token(start_ms)).ok().flatten(), Some(start_ms));
            let _ = read_service_token(&junk);
            let _ = read_exemplar_token(&junk);
            let _ = read_incident_token(&junk);
            let _ = read_operation_token(&junk);
            let position = OperationPosition { day: start_ms, callee: "cart".into(), name: junk.replace('\0', "") };
            if position.name.len() < 500 {
                prop_assert_eq!(read_operation_token(&operation_token(&position)).ok().flatten(), Some(position));
            }
        }
    }
}
