//! What the receiver took, refused, dropped or cut, each by name.

use crate::count::{Count, observed};

/// The counts of the OTLP receiver.
#[derive(Debug)]
pub(crate) struct Counts {
    /// Spans kept.
    pub(crate) spans_accepted: Count,
    /// Spans that cannot be right.
    pub(crate) spans_rejected: Count,
    /// Spans that wait or were settled already, and those of exports that were kept already.
    pub(crate) spans_duplicate: Count,
    /// Spans that are new to a trace that was settled.
    pub(crate) spans_late: Count,
    /// Exports that were kept already: retries whose first answer was lost.
    pub(crate) exports_duplicate: Count,
    /// Attributes that were not read: too many of one span, or too long.
    pub(crate) attributes_ignored: Count,
    /// Links that were not read: too many of one span, or malformed.
    pub(crate) links_ignored: Count,
    /// Sampling thresholds that cannot be understood or cannot be right.
    pub(crate) thresholds_ignored: Count,
    /// Spans settled.
    pub(crate) spans_settled: Count,
    /// Traces settled before their time because a bound was reached, and parts of traces that are too long.
    pub(crate) traces_cut: Count,
    /// Hosts of which it is not kept who answers there: the tenant has as many as are.
    pub(crate) hosts_over_max: Count,
    /// Exports refused because too much waits in the span log.
    pub(crate) exports_refused_full: Count,
    /// Exports refused because too many are in flight, or too many bytes in memory.
    pub(crate) exports_refused_busy: Count,
    /// Exports refused because they are larger than a message may be.
    pub(crate) exports_refused_size: Count,
    /// Exports refused for their media type or content coding.
    pub(crate) exports_refused_media_type: Count,
    /// Exports refused because their body did not come whole in time.
    pub(crate) exports_refused_late: Count,
    /// Exports refused for their tenant: malformed, or one too many.
    pub(crate) exports_refused_tenant: Count,
    /// Exports refused because storage did not answer.
    pub(crate) exports_refused_storage: Count,
    /// Requests to a path or a method that nobody serves.
    pub(crate) exports_refused_path: Count,
    /// Exports whose body cannot be decoded.
    pub(crate) exports_malformed: Count,
    /// Rows of the span log that no version of this program can read.
    pub(crate) rows_unreadable: Count,
    /// Data points counted into buckets.
    pub(crate) points_accepted: Count,
    /// Data points that cannot be right.
    pub(crate) points_rejected: Count,
    /// Data points of metrics that say nothing about requests.
    pub(crate) points_ignored: Count,
    /// Samples of how much of its limits a service uses.
    pub(crate) utilisation_accepted: Count,
    /// Data points of new series of a tenant that has as many as are followed.
    pub(crate) points_over_series_max: Count,
    /// Data points of processes that are one too many in their series.
    pub(crate) points_over_streams_max: Count,
    /// Data points of what the resource reports under another name too.
    pub(crate) points_other_name: Count,
    /// Data points of names and edges that were left out because the tenant is full.
    pub(crate) points_over_capacity: Count,
    /// Data points that were counted already.
    pub(crate) points_duplicate: Count,
    /// First points of cumulative series that began too long ago to count from their start.
    pub(crate) points_baseline: Count,
    /// Cumulative series that went down.
    pub(crate) series_reset: Count,
    /// Silent processes of a series that made room for others.
    pub(crate) streams_evicted: Count,
    /// Exports of which no receipt was kept, there being as many as are kept.
    pub(crate) receipts_over_max: Count,
}

impl Default for Counts {
    fn default() -> Self {
        let count = |what| observed("otlp", what);
        Self {
            spans_accepted: count("spans_accepted"),
            spans_rejected: count("spans_rejected"),
            spans_duplicate: count("spans_duplicate"),
            spans_late: count("spans_late"),
            exports_duplicate: count("exports_duplicate"),
            attributes_ignored: count("attributes_ignored"),
            links_ignored: count("links_ignored"),
            thresholds_ignored: count("thresholds_ignored"),
            spans_settled: count("spans_settled"),
            traces_cut: count("traces_cut"),
            hosts_over_max: count("hosts_over_max"),
            exports_refused_full: count("exports_refused_full"),
            exports_refused_busy: count("exports_refused_busy"),
            exports_refused_size: count("exports_refused_size"),
            exports_refused_media_type: count("exports_refused_media_type"),
            exports_refused_late: count("exports_refused_late"),
            exports_refused_tenant: count("exports_refused_tenant"),
            exports_refused_storage: count("exports_refused_storage"),
            exports_refused_path: count("exports_refused_path"),
            exports_malformed: count("exports_malformed"),
            rows_unreadable: count("rows_unreadable"),
            points_accepted: count("points_accepted"),
            points_rejected: count("points_rejected"),
            points_ignored: count("points_ignored"),
            utilisation_accepted: count("utilisation_accepted"),
            points_over_series_max: count("points_over_series_max"),
            points_over_streams_max: count("points_over_streams_max"),
            points_other_name: count("points_other_name"),
            points_over_capacity: count("points_over_capacity"),
            points_duplicate: count("points_duplicate"),
            points_baseline: count("points_baseline"),
            series_reset: count("series_reset"),
            streams_evicted: count("streams_evicted"),
            receipts_over_max: count("receipts_over_max"),
        }
    }
}
