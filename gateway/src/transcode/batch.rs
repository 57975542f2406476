//! Batches: elements that cannot be read are set aside one by one, and what the service refuses is reported under the
//! positions of the original list.

use std::collections::BTreeMap;

use attain_proto::vocabulary::v1::Rejection;
use bytes::Bytes;
use http::StatusCode;
use prost::Message as _;
use prost_reflect::FieldDescriptor;

use crate::contract::REJECTED;
use crate::json::Violation;
use crate::json::decode::{self, At};
use crate::json::document::Elements;
use crate::json::plan::{Field, Message, Plans};
use crate::json::wire::{Fields, Malformed, Raw};
use crate::problem::Problem;

/// More unreadable elements than this are not told one by one: the whole batch is refused.
const REJECTIONS_MAX: usize = 10_000;
/// Counters of what was kept begin with this.
const ACCEPTED_PREFIX: &str = "accepted_";

/// The account of one batch.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Names of the lists, in the order of the contract.
    lists: Vec<String>,
    /// Original positions of the elements sent on, by list.
    kept: BTreeMap<String, Vec<usize>>,
    refused: Vec<Rejection>,
}

impl Batch {
    pub(crate) fn new(lists: &[FieldDescriptor]) -> Self {
        let lists = lists.iter().map(|field| field.name().to_owned()).collect();
        Self { lists, kept: BTreeMap::new(), refused: Vec::new() }
    }

    /// The account of a document that the member reads: its pointers stand as they are.
    pub(crate) fn of_document() -> Self {
        Self { lists: Vec::new(), kept: BTreeMap::new(), refused: Vec::new() }
    }

    /// Whether a field is one of the lists.
    pub(crate) fn reads(&self, field: &Field) -> bool {
        self.lists.iter().any(|list| **list == *field.name)
    }

    /// Appends the elements of one list; those that cannot be read are set aside.
    pub(crate) fn read(
        &mut self,
        plans: &Plans,
        field: &Field,
        elements: Elements<'_>,
        at: &At<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Problem> {
        let mut kept = Vec::new();
        for (index, element) in elements.enumerate() {
            let start = out.len();
            match decode::element(plans, field, element, &At::Index(at, index), out) {
                Ok(()) => kept.push(index),
                Err(violation) => {
                    out.truncate(start);
                    self.refused.push(rejection(index, violation));
                }
            }
            if self.refused.len() > REJECTIONS_MAX {
                return Err(
                    self.refusal(format!("more than {REJECTIONS_MAX} elements cannot be read; nothing was kept"))
                );
            }
        }
        self.kept.insert(field.name.to_string(), kept);
        Ok(())
    }

    /// Refuses a batch of which nothing can be sent on.
    pub(crate) fn refuse_if_nothing_is_left(&self) -> Result<(), Problem> {
        if self.refused.is_empty() || self.kept.values().any(|kept| !kept.is_empty()) {
            return Ok(());
        }
        Err(self.refusal("no element can be read; nothing was kept".to_owned()))
    }

    /// Puts the service's rejections under their original positions, adds those of the elements that were set aside, and
    /// refuses the request where nothing at all was kept.
    pub(crate) fn settle(mut self, shape: &Message, answer: &mut Bytes) -> Result<(), Problem> {
        let Some(field) = shape.field(REJECTED) else {
            return Ok(());
        };
        let (mut settled, from_service) = part(answer, field).map_err(|malformed| {
            tracing::error!(error = %malformed, "an answer cannot be read");
            Problem::internal()
        })?;
        let mapped: Vec<Rejection> = from_service.into_iter().map(|rejection| self.restore(rejection)).collect();
        self.refused.extend(mapped);
        if !self.lists.is_empty() {
            self.refused.sort_by_key(|rejection| {
                (self.lists.iter().position(|list| Some(list.as_str()) == list_of(&rejection.pointer)), rejection.index)
            });
        }
        if !self.refused.is_empty() && !anything_accepted(shape, &settled) {
            return Err(self.refusal("every element was refused; nothing was kept".to_owned()));
        }
        prost::encoding::message::encode_repeated(field.number, &self.refused, &mut settled);
        *answer = settled.into();
        Ok(())
    }

    /// The same for a service that refused the whole request: its pointers count in the list that was sent.
    pub(crate) fn restore_pointers(&self, violations: &mut [Violation]) {
        for violation in violations {
            if let Some((pointer, _)) = self.original(&violation.pointer) {
                violation.pointer = pointer;
            }
        }
    }

    fn restore(&self, rejection: Rejection) -> Rejection {
        match self.original(&rejection.pointer) {
            Some((pointer, index)) => {
                Rejection { index: u32::try_from(index).unwrap_or(u32::MAX), pointer, ..rejection }
            }
            None => rejection,
        }
    }

    /// `/buckets/3/bad_count` with 3 counted in the original list.
    fn original(&self, pointer: &str) -> Option<(String, usize)> {
        let mut tokens = pointer.strip_prefix('/')?.splitn(3, '/');
        let (list, sent) = (tokens.next()?, tokens.next()?.parse::<usize>().ok()?);
        let index = *self.kept.get(list)?.get(sent)?;
        let rest = tokens.next().map(|rest| format!("/{rest}")).unwrap_or_default();
        Some((format!("/{list}/{index}{rest}"), index))
    }

    fn refusal(&self, detail: String) -> Problem {
        let errors = self.refused.iter().take(REJECTIONS_MAX).map(|rejection| Violation {
            pointer: rejection.pointer.clone(),
            code: rejection.code.clone(),
            reason: rejection.reason.clone(),
        });
        Problem {
            errors: errors.collect(),
            ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "nothing_accepted", detail)
        }
    }
}

fn rejection(index: usize, violation: Violation) -> Rejection {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    Rejection { index, pointer: violation.pointer, code: violation.code, reason: violation.reason }
}

fn list_of(pointer: &str) -> Option<&str> {
    pointer.strip_prefix('/')?.split('/').next()
}

/// An answer without the rejections that are in the field, and those.
fn part(answer: &[u8], field: &Field) -> Result<(Vec<u8>, Vec<Rejection>), Malformed> {
    let (mut others, mut rejections) = (Vec::new(), Vec::new());
    let mut records = Fields::of(answer);
    loop {
        let from = records.rest();
        match records.next().transpose()? {
            None => return Ok((others, rejections)),
            Some((number, Raw::Bytes(rejection))) if number == field.number => {
                rejections.push(Rejection::decode(rejection).map_err(|_| Malformed("a rejection cannot be read"))?);
            }
            Some(_) => others.extend_from_slice(&from[..from.len() - records.rest().len()]),
        }
    }
}

/// Whether an answer reports anything kept: by its counters `accepted_…`, or without any by its other lists.
fn anything_accepted(shape: &Message, answer: &[u8]) -> bool {
    let is_counter = |field: &&Field| field.name.starts_with(ACCEPTED_PREFIX);
    let counts = shape.fields.iter().any(|field| is_counter(&field));
    Fields::of(answer).filter_map(Result::ok).any(|(number, raw)| {
        let known = shape.fields.iter().find(|field| field.number == number);
        known.is_some_and(|field| if counts { is_counter(&field) && raw != Raw::Varint(0) } else { field.is_list() })
    })
}
