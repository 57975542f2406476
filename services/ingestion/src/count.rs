//! What observers of telemetry count, by name.

pub(crate) use attain_runtime::count::Count;

/// A count of what an observer took, refused, dropped or cut.
pub(crate) fn observed(observer: &'static str, what: &'static str) -> Count {
    let description = "What observers of telemetry took, refused, dropped or cut";
    Count::new("attain.ingestion.observed", description, format!("{observer}.{what}"))
}
