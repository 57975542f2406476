//! Filters: every condition that the engine knows, the rest refused by name.

use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::r#match::MatchValue as WireMatch;
use qdrant_client::qdrant::{
    Condition as WireCondition, DatetimeRange, FieldCondition as WireField, Filter as WireFilter, Match,
    MinShould as WireMinShould, NestedCondition as WireNested, Range as WireRange,
};
use qdrant_edge::external::ordered_float::OrderedFloat;
use qdrant_edge::{
    Condition, DateTimeWrapper, FieldCondition, Filter, HasIdCondition, HasVectorCondition, IsEmptyCondition,
    IsNullCondition, Match as EdgeMatch, MatchExcept, MatchPhrase, MatchTextAny, MinShould, Nested, NestedCondition,
    Range, RangeInterface, ValueVariants, ValuesCount,
};

use super::payload::path;
use super::points::point_id_from_wire;
use crate::Error;

/// A filter, or none where the request has none or an empty one.
pub(crate) fn filter_from_wire(field: &str, filter: Option<WireFilter>) -> Result<Option<Filter>, Error> {
    let Some(filter) = filter else {
        return Ok(None);
    };
    let filter = Filter {
        should: conditions(&format!("{field}.should"), filter.should)?,
        must: conditions(&format!("{field}.must"), filter.must)?,
        must_not: conditions(&format!("{field}.must_not"), filter.must_not)?,
        min_should: min_should(&format!("{field}.min_should"), filter.min_should)?,
    };
    Ok((filter != Filter::new()).then_some(filter))
}

fn conditions(field: &str, wire: Vec<WireCondition>) -> Result<Option<Vec<Condition>>, Error> {
    if wire.is_empty() {
        return Ok(None);
    }
    wire.into_iter()
        .enumerate()
        .map(|(index, condition)| condition_from_wire(&format!("{field}[{index}]"), condition))
        .collect::<Result<_, _>>()
        .map(Some)
}

fn min_should(field: &str, wire: Option<WireMinShould>) -> Result<Option<MinShould>, Error> {
    let Some(WireMinShould { conditions: wire, min_count }) = wire else {
        return Ok(None);
    };
    Ok(Some(MinShould {
        conditions: conditions(field, wire)?.unwrap_or_default(),
        min_count: count(field, min_count)?,
    }))
}

fn condition_from_wire(field: &str, wire: WireCondition) -> Result<Condition, Error> {
    let Some(condition) = wire.condition_one_of else {
        return Err(Error::invalid(field, "the condition is empty"));
    };
    Ok(match condition {
        ConditionOneOf::Field(wire) => Condition::Field(field_from_wire(field, wire)?),
        ConditionOneOf::IsEmpty(wire) => Condition::IsEmpty(IsEmptyCondition::from(path(field, &wire.key)?)),
        ConditionOneOf::IsNull(wire) => Condition::IsNull(IsNullCondition::from(path(field, &wire.key)?)),
        ConditionOneOf::HasId(wire) => Condition::HasId(
            wire.has_id
                .into_iter()
                .map(|id| point_id_from_wire(field, Some(id)))
                .collect::<Result<HasIdCondition, _>>()?,
        ),
        ConditionOneOf::HasVector(wire) => Condition::HasVector(HasVectorCondition::from(wire.has_vector)),
        ConditionOneOf::Filter(wire) => Condition::Filter(filter_from_wire(field, Some(wire))?.unwrap_or_default()),
        ConditionOneOf::Nested(wire) => Condition::Nested(nested_from_wire(field, wire)?),
        ConditionOneOf::Slice(_) => return Err(Error::unsupported(field, "a slice condition")),
    })
}

fn nested_from_wire(field: &str, wire: WireNested) -> Result<NestedCondition, Error> {
    let filter = filter_from_wire(field, wire.filter)?
        .ok_or_else(|| Error::invalid(field, "a nested condition needs a filter"))?;
    Ok(NestedCondition::new(Nested { key: path(field, &wire.key)?, filter }))
}

fn field_from_wire(field: &str, wire: WireField) -> Result<FieldCondition, Error> {
    let field = &format!("{field}.{}", wire.key);
    if wire.geo_bounding_box.is_some() || wire.geo_radius.is_some() || wire.geo_polygon.is_some() {
        return Err(Error::unsupported(field, "a geographic condition"));
    }
    let range = match (wire.range, wire.datetime_range) {
        (Some(_), Some(_)) => {
            return Err(Error::invalid(field, "has both a range and a datetime_range"));
        }
        (Some(range), None) => Some(number_range(range)),
        (None, Some(range)) => Some(datetime_range(field, range)?),
        (None, None) => None,
    };
    let values_count = wire
        .values_count
        .map(|bounds| {
            let bound = |value: Option<u64>| value.map(|value| count(field, value)).transpose();
            Ok::<_, Error>(ValuesCount {
                lt: bound(bounds.lt)?,
                gt: bound(bounds.gt)?,
                gte: bound(bounds.gte)?,
                lte: bound(bounds.lte)?,
            })
        })
        .transpose()?;
    let condition = FieldCondition {
        key: path(field, &wire.key)?,
        r#match: wire.r#match.map(|wire| match_from_wire(field, wire)).transpose()?,
        range,
        geo_bounding_box: None,
        geo_radius: None,
        geo_polygon: None,
        values_count,
        is_empty: wire.is_empty,
        is_null: wire.is_null,
    };
    refuse_empty(field, &condition)?;
    Ok(condition)
}

/// A field condition without any test would match every point.
fn refuse_empty(field: &str, condition: &FieldCondition) -> Result<(), Error> {
    let tests = [
        condition.r#match.is_some(),
        condition.range.is_some(),
        condition.values_count.is_some(),
        condition.is_empty.is_some(),
        condition.is_null.is_some(),
    ];
    if tests.contains(&true) {
        return Ok(());
    }
    Err(Error::invalid(field, "the condition tests nothing"))
}

fn match_from_wire(field: &str, wire: Match) -> Result<EdgeMatch, Error> {
    let Some(value) = wire.match_value else {
        return Err(Error::invalid(field, "the match has no value"));
    };
    Ok(match value {
        WireMatch::Keyword(keyword) => EdgeMatch::new_value(ValueVariants::String(keyword)),
        WireMatch::Integer(integer) => EdgeMatch::new_value(ValueVariants::Integer(integer)),
        WireMatch::Boolean(flag) => EdgeMatch::new_value(ValueVariants::Bool(flag)),
        WireMatch::Text(text) => EdgeMatch::new_text(&text),
        WireMatch::TextAny(text_any) => EdgeMatch::TextAny(MatchTextAny { text_any }),
        WireMatch::Phrase(phrase) => EdgeMatch::Phrase(MatchPhrase { phrase }),
        WireMatch::Keywords(keywords) => EdgeMatch::from(keywords.strings),
        WireMatch::Integers(integers) => EdgeMatch::from(integers.integers),
        WireMatch::ExceptKeywords(keywords) => EdgeMatch::Except(MatchExcept::from(keywords.strings)),
        WireMatch::ExceptIntegers(integers) => EdgeMatch::Except(MatchExcept::from(integers.integers)),
        WireMatch::Prefix(_) => return Err(Error::unsupported(field, "a match by prefix")),
        WireMatch::Substring(_) => return Err(Error::unsupported(field, "a match by substring")),
    })
}

fn number_range(wire: WireRange) -> RangeInterface {
    RangeInterface::Float(Range {
        lt: wire.lt.map(OrderedFloat),
        gt: wire.gt.map(OrderedFloat),
        gte: wire.gte.map(OrderedFloat),
        lte: wire.lte.map(OrderedFloat),
    })
}

fn datetime_range(field: &str, wire: DatetimeRange) -> Result<RangeInterface, Error> {
    // A protobuf timestamp prints as RFC 3339, which the engine reads.
    fn bound<T: ToString>(field: &str, value: Option<T>) -> Result<Option<DateTimeWrapper>, Error> {
        value
            .map(|value| value.to_string().parse().map_err(|_| Error::invalid(field, "is not a point in time")))
            .transpose()
    }
    Ok(RangeInterface::DateTime(Range {
        lt: bound(field, wire.lt)?,
        gt: bound(field, wire.gt)?,
        gte: bound(field, wire.gte)?,
        lte: bound(field, wire.lte)?,
    }))
}

fn count(field: &str, value: u64) -> Result<usize, Error> {
    usize::try_from(value).map_err(|_| Error::invalid(field, "the count is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use qdrant_client::qdrant::{GeoRadius, SliceCondition};

    fn refusal(condition: ConditionOneOf) -> String {
        let filter =
            WireFilter { must: vec![WireCondition { condition_one_of: Some(condition) }], ..WireFilter::default() };
        filter_from_wire("filter", Some(filter)).expect_err("not supported").to_string()
    }

    fn field(change: impl FnOnce(&mut WireField)) -> ConditionOneOf {
        let mut field = WireField { key: "place".into(), ..WireField::default() };
        change(&mut field);
        ConditionOneOf::Field(field)
    }

    #[test]
    fn what_cannot_be_filtered_is_refused_with_its_place() {
        let matching = |value| Some(Match { match_value: Some(value) });
        let cases = [
            (field(|_| ()), "filter.must[0].place: the condition tests nothing"),
            (field(|f| f.geo_radius = Some(GeoRadius::default())), "a geographic condition"),
            (field(|f| f.r#match = matching(WireMatch::Prefix("a".into()))), "a match by prefix"),
            (field(|f| f.r#match = matching(WireMatch::Substring("a".into()))), "by substring"),
            (field(|f| f.r#match = Some(Match::default())), "the match has no value"),
            (
                field(|f| {
                    f.range = Some(WireRange::default());
                    f.datetime_range = Some(DatetimeRange::default());
                }),
                "both a range and a datetime_range",
            ),
            (ConditionOneOf::Slice(SliceCondition::default()), "a slice condition"),
            (ConditionOneOf::Nested(WireNested::default()), "needs a filter"),
        ];
        for (condition, expected) in cases {
            let text = refusal(condition);
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn an_empty_filter_is_no_filter() {
        assert_eq!(filter_from_wire("filter", Some(WireFilter::default())).expect("empty"), None);
    }
}
