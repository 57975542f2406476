//! History read: rows and blocks as one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::iter::Peekable;
use std::vec;

use attain_runtime::database::Dialect;
use attain_vocabulary::{BUCKET_MS, DAY_MS, EntityId, SliBucket, Source, TenantId, UnixMillis};
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Transaction};

use super::Store;
use super::block::{Opened, SLOTS, Slots, day_start, mark, marked, slot};
use super::blocks::{SeriesDay, StoredBlock};
use super::buckets::read_measurement;
use super::lines::{Value, all_lines, read_lines};
use super::record::source;
use super::rows::{column, count, stored};
use crate::Error;
use crate::domain::{MergedBucket, SourceSet, merge_sources};

pub(super) const ROWS: &str = "SELECT start_ms, source, valid_count, bad_count, inherited_bad_count, shares, latency \
     FROM sli_buckets WHERE tenant_id = $1 AND service_id = $2 AND start_ms >= $3 AND start_ms < $4 \
     ORDER BY start_ms, source LIMIT $5";
pub(super) const ROWS_WITHOUT_LATENCY: &str = "SELECT start_ms, source, valid_count, bad_count, inherited_bad_count, shares, \
     CAST(CASE WHEN latency IS NULL THEN 0 ELSE 1 END AS BIGINT) AS tells_latency FROM sli_buckets WHERE tenant_id = $1 AND service_id = $2 AND start_ms >= $3 AND start_ms < $4 \
     ORDER BY start_ms, source LIMIT $5";
const BLOCKS: &str = "SELECT day_ms, source, counts, latency \
     FROM sli_blocks WHERE tenant_id = $1 AND service_id = $2 AND day_ms >= $3 AND day_ms < $4 \
     ORDER BY day_ms, source LIMIT $5";
const BLOCKS_WITHOUT_LATENCY: &str = "SELECT day_ms, source, counts, \
     CASE WHEN latency IS NULL THEN 0 ELSE 1 END AS tells_latency FROM sli_blocks WHERE tenant_id = $1 AND service_id = $2 AND day_ms >= $3 AND day_ms < $4 \
     ORDER BY day_ms, source LIMIT $5";
/// What is read of blocks.
const BLOCK_VALUES: [Value; 4] =
    [Value::Plain("day_ms"), Value::Plain("source"), Value::Bytes("counts"), Value::OptionalBytes("latency")];
const BLOCK_VALUES_WITHOUT_LATENCY: [Value; 4] =
    [Value::Plain("day_ms"), Value::Plain("source"), Value::Bytes("counts"), Value::Plain("tells_latency")];
pub(super) const ROW_TIMES: &str = "SELECT start_ms, source FROM sli_buckets WHERE tenant_id = $1 AND service_id = $2";
pub(super) const BLOCK_TIMES: &str =
    "SELECT day_ms, source, slots FROM sli_blocks WHERE tenant_id = $1 AND service_id = $2";

/// More than there are sources: so many rows hold a whole bucket, so many blocks a whole day.
const SOURCES_MAX: usize = 8;

/// Which buckets to read: those that start in `[start_ms, end_ms)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketSpan {
    /// Included.
    pub start_ms: UnixMillis,
    /// Excluded.
    pub end_ms: UnixMillis,
}

/// Consecutive buckets of one service, oldest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SliPage {
    /// Each as all its sources together tell it.
    pub buckets: Vec<MergedBucket>,
    /// Where to go on; `None` at the end.
    pub next_start_ms: Option<UnixMillis>,
}

/// How much history there is, of all tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistorySize {
    /// Buckets that are rows.
    pub row_count: u64,
    /// Blocks.
    pub block_count: u64,
}

/// What is stored of a service in a span, as far as it was read: blocks stay packed until somebody asks for their days.
#[derive(Debug)]
pub(crate) struct FoundHistory {
    span: BucketSpan,
    rows: Peekable<vec::IntoIter<(Source, SliBucket)>>,
    /// In order of day.
    blocks: VecDeque<StoredBlock>,
    /// Everything before this time was read.
    until_ms: UnixMillis,
    /// Whether any of it has latency, read or not.
    pub(crate) tells_latency: bool,
}

/// A day that one source alone tells, in the sections of [`attain_proto::day`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptDay {
    pub(crate) source: Source,
    pub(crate) counts: Vec<u8>,
    /// `None` where there is none, or none is wanted.
    pub(crate) latency: Option<Vec<u8>>,
}

/// How days are handed out that one block alone tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handing {
    /// As they are kept.
    Kept,
    /// Bucket by bucket, as all others.
    Unpacked,
}

/// Days of a service, in their order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NextDays {
    Kept(Vec<KeptDay>),
    Unpacked(Vec<MergedBucket>),
}

/// What is known of the times of one service's buckets.
#[derive(Debug, Default)]
pub(super) struct Times {
    days: BTreeMap<UnixMillis, Slots>,
    pub(super) sources: BTreeSet<Source>,
}

impl Store {
    /// Buckets of one service, oldest first, at most `limit`. Only the last page may be empty.
    ///
    /// # Errors
    /// [`Error::DamagedBlock`] where the page meets one, or where storage does not answer.
    pub async fn sli_page(
        &self,
        tenant: &TenantId,
        service: &EntityId,
        span: BucketSpan,
        limit: usize,
        with_latency: bool,
    ) -> Result<SliPage, Error> {
        let mut span = span;
        loop {
            let found = self.find_history(tenant, service, span, limit.max(1), with_latency).await?;
            let page = found.page(limit.max(1))?;
            match page.next_start_ms {
                // Blocks of which nothing is in the span.
                Some(next_start_ms) if page.buckets.is_empty() => span.start_ms = next_start_ms,
                _ => return Ok(page),
            }
        }
    }

    /// How much history there is. It reads an index of each table whole.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn history_size(&self) -> Result<HistorySize, Error> {
        let row = sqlx::query(
            "SELECT (SELECT COUNT(*) FROM sli_buckets) AS row_count, (SELECT COUNT(*) FROM sli_blocks) AS block_count",
        );
        let row = row.fetch_one(self.database.pool()).await?;
        Ok(HistorySize { row_count: count(&row, "row_count")?, block_count: count(&row, "block_count")? })
    }

    /// Reads buckets of one service, oldest first, some more than `limit` where there are, to be unpacked day by day.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub(crate) async fn find_history(
        &self,
        tenant: &TenantId,
        service: &EntityId,
        span: BucketSpan,
        limit: usize,
        with_latency: bool,
    ) -> Result<FoundHistory, Error> {
        let rows_sql = if with_latency { ROWS } else { ROWS_WITHOUT_LATENCY };
        let (rows_max, blocks_max) = (limit.max(SOURCES_MAX) + 1, limit / SLOTS + 2 + SOURCES_MAX);
        let mut transaction = self.begin_read().await?;
        let of = (tenant, service);
        let rows = select(&mut transaction, rows_sql.to_owned(), of, (span.start_ms, span.end_ms), rows_max).await?;
        let days = (day_start(span.start_ms), span.end_ms);
        let blocks_sql = blocks_as_lines(self.database.dialect(), with_latency);
        let blocks = select(&mut transaction, blocks_sql, of, days, blocks_max).await?;
        transaction.commit().await?;

        let mut tells_latency = false;
        if !with_latency {
            for row in &rows {
                tells_latency |= column::<i64>(row, "tells_latency")? != 0;
            }
        }
        let rows = rows.iter().map(|row| read_measurement(row, with_latency)).collect::<Result<Vec<_>, Error>>()?;
        tells_latency |= rows.iter().any(|(_, bucket)| bucket.latency.is_some());
        let mut blocks = read_lines(&blocks, |line| {
            let (day_ms, source) = (line.number()?, source(line.number()?)?);
            let day = SeriesDay { service: service.clone(), day_ms, source };
            let counts = line.bytes()?.to_vec();
            let latency = if with_latency {
                line.optional_bytes()?.map(<[u8]>::to_vec)
            } else {
                tells_latency |= line.number()? != 0;
                None
            };
            tells_latency |= latency.is_some();
            Ok(StoredBlock { day, counts, latency })
        })?;
        blocks.sort_by_key(|block| block.day.day_ms);
        // Where a read was cut off, so may be its last bucket or day: it is left for the next page.
        let rows_until = (rows.len() == rows_max).then(|| rows.last().map(|(_, bucket)| bucket.start_ms)).flatten();
        let blocks_until = (blocks.len() == blocks_max).then(|| blocks.last().map(|block| block.day.day_ms)).flatten();
        let until_ms = [rows_until, blocks_until].into_iter().flatten().fold(span.end_ms, i64::min);
        Ok(FoundHistory { span, rows: rows.into_iter().peekable(), blocks: blocks.into(), until_ms, tells_latency })
    }
}

/// The statement that reads blocks as one text.
pub(super) fn blocks_as_lines(dialect: Dialect, with_latency: bool) -> String {
    let (sql, values) =
        if with_latency { (BLOCKS, &BLOCK_VALUES) } else { (BLOCKS_WITHOUT_LATENCY, &BLOCK_VALUES_WITHOUT_LATENCY) };
    format!("SELECT {} FROM ({sql}) AS found", all_lines(dialect, values))
}

async fn select(
    transaction: &mut Transaction<'static, Any>,
    sql: String,
    (tenant, service): (&TenantId, &EntityId),
    (from_ms, to_ms): (UnixMillis, UnixMillis),
    limit: usize,
) -> Result<Vec<AnyRow>, Error> {
    let query = sqlx::query(AssertSqlSafe(sql)).bind(tenant.as_str()).bind(service.as_str());
    let query = query.bind(from_ms).bind(to_ms).bind(stored(limit as u64));
    Ok(query.fetch_all(&mut **transaction).await?)
}

impl FoundHistory {
    /// The first buckets of what was found; blocks are unpacked only as far as the page goes.
    fn page(mut self, limit: usize) -> Result<SliPage, Error> {
        let mut buckets = self.next_unpacked(limit + 1, Handing::Unpacked)?;
        let mut next_start_ms = self.next_start_ms();
        if let Some(first_left) = buckets.get(limit) {
            next_start_ms = Some(first_left.bucket.start_ms);
            buckets.truncate(limit);
        }
        Ok(SliPage { buckets, next_start_ms })
    }

    /// Where the service goes on behind what was found; `None` where nothing is left.
    pub(crate) fn next_start_ms(&self) -> Option<UnixMillis> {
        (self.until_ms < self.span.end_ms).then_some(self.until_ms)
    }

    /// The next days, those handed out alike: so many that they have `wanted` buckets or about so many, or all that are left.
    /// `None` where none is.
    ///
    /// # Errors
    /// [`Error::DamagedBlock`] where a day has one.
    pub(crate) fn next_days(&mut self, wanted: usize, handing: Handing) -> Result<Option<NextDays>, Error> {
        let kept = if handing == Handing::Kept { self.next_kept(wanted / SLOTS)? } else { Vec::new() };
        if !kept.is_empty() {
            return Ok(Some(NextDays::Kept(kept)));
        }
        let buckets = self.next_unpacked(wanted, handing)?;
        Ok((!buckets.is_empty()).then_some(NextDays::Unpacked(buckets)))
    }

    fn next_kept(&mut self, days_max: usize) -> Result<Vec<KeptDay>, Error> {
        let mut days = Vec::with_capacity(days_max.min(self.blocks.len()));
        while days.len() < days_max && self.is_next_kept() {
            let Some(block) = self.blocks.pop_front() else { break };
            let Opened { counts, latency } = block.open()?;
            days.push(KeptDay { source: block.day.source, counts, latency });
        }
        Ok(days)
    }

    /// Whether the next day is in one block alone, and whole in what is read.
    fn is_next_kept(&mut self) -> bool {
        let next_row = self.rows.peek().map(|(_, bucket)| day_start(bucket.start_ms));
        let mut blocks = self.blocks.iter().map(|block| block.day.day_ms);
        blocks.next().is_some_and(|day_ms| {
            let alone = blocks.next() != Some(day_ms) && next_row.is_none_or(|row_ms| day_ms < row_ms);
            alone && self.span.start_ms <= day_ms && day_ms.saturating_add(DAY_MS) <= self.until_ms
        })
    }

    fn next_unpacked(&mut self, wanted: usize, handing: Handing) -> Result<Vec<MergedBucket>, Error> {
        let there = self.rows.len() + self.blocks.len() * SLOTS;
        let mut buckets = Vec::with_capacity(there.min(wanted + SLOTS));
        while buckets.len() < wanted {
            // Only behind a bucket: nothing handed out means nothing left.
            let ends = handing == Handing::Kept && !buckets.is_empty() && self.is_next_kept();
            if ends || !self.next_day(&mut buckets)? {
                break;
            }
        }
        Ok(buckets)
    }

    /// Whether there was another day; its buckets.
    fn next_day(&mut self, out: &mut Vec<MergedBucket>) -> Result<bool, Error> {
        let next_row = self.rows.peek().map(|(_, bucket)| day_start(bucket.start_ms));
        let next_block = self.blocks.front().map(|block| block.day.day_ms);
        let next = next_row.into_iter().chain(next_block).min();
        let Some(day_ms) = next.filter(|day_ms| *day_ms < self.until_ms) else { return Ok(false) };
        let (start_ms, until_ms) = (self.span.start_ms, self.until_ms);
        let within = |bucket: &SliBucket| (start_ms..until_ms).contains(&bucket.start_ms);
        let of_day = std::iter::from_fn(|| self.blocks.pop_front_if(|block| block.day.day_ms == day_ms));
        let series: Vec<StoredBlock> = of_day.collect();
        if let [block] = &series[..]
            && next_row != Some(day_ms)
        {
            let sources = SourceSet::from([block.day.source]);
            let merged = |bucket| MergedBucket { bucket, sources };
            block.each(|bucket| out.extend(Some(bucket).filter(within).map(merged)))?;
            return Ok(true);
        }
        let of_day = std::iter::from_fn(|| self.rows.next_if(|(_, bucket)| day_start(bucket.start_ms) == day_ms));
        let mut told: BTreeMap<(UnixMillis, Source), SliBucket> = BTreeMap::new();
        for block in &series {
            block.each(|bucket| drop(told.insert((bucket.start_ms, block.day.source), bucket)))?;
        }
        // A row wins over the block of its series.
        told.extend(of_day.map(|(source, bucket)| ((bucket.start_ms, source), bucket)));
        told.retain(|_, bucket| within(bucket));
        merge_day(told, out);
        Ok(true)
    }
}

/// Merges what several sources say of one day.
fn merge_day(told: BTreeMap<(UnixMillis, Source), SliBucket>, out: &mut Vec<MergedBucket>) {
    let all: Vec<(Source, SliBucket)> = told.into_iter().map(|((_, source), bucket)| (source, bucket)).collect();
    let groups = all.chunk_by(|a, b| a.1.start_ms == b.1.start_ms);
    out.extend(groups.filter_map(|group| merge_sources(group.to_vec())));
}

impl Times {
    /// Reads when there are buckets of a service: of blocks only which there are, not what is in them.
    pub(super) async fn read(
        transaction: &mut Transaction<'static, Any>,
        tenant: &TenantId,
        service: &EntityId,
    ) -> Result<Self, Error> {
        let mut times = Self::default();
        let bound = |sql| sqlx::query(sql).bind(tenant.as_str()).bind(service.as_str());
        for row in bound(BLOCK_TIMES).fetch_all(&mut **transaction).await? {
            let slots: Slots = column::<&[u8]>(&row, "slots")?
                .try_into()
                .map_err(|_| Error::Corrupt("the buckets of a block are not 288".to_owned()))?;
            times.sources.insert(source(column(&row, "source")?)?);
            let day = times.days.entry(column(&row, "day_ms")?).or_insert([0; size_of::<Slots>()]);
            day.iter_mut().zip(slots).for_each(|(day, block)| *day |= block);
        }
        for row in bound(ROW_TIMES).fetch_all(&mut **transaction).await? {
            let start_ms: i64 = column(&row, "start_ms")?;
            times.sources.insert(source(column(&row, "source")?)?);
            mark(times.days.entry(day_start(start_ms)).or_insert([0; size_of::<Slots>()]), slot(start_ms));
        }
        Ok(times)
    }

    /// Different buckets.
    pub(super) fn count(&self) -> u64 {
        self.days.values().flatten().map(|byte| u64::from(byte.count_ones())).sum()
    }

    /// Starts of the oldest and the newest bucket.
    pub(super) fn first_and_last_ms(&self) -> Option<(UnixMillis, UnixMillis)> {
        let start = |day_ms: &i64, place: usize| day_ms + place as i64 * BUCKET_MS;
        let first = self.days.first_key_value().and_then(|(day, slots)| Some(start(day, marked(slots).next()?)));
        let last = self.days.last_key_value().and_then(|(day, slots)| Some(start(day, marked(slots).next_back()?)));
        first.zip(last)
    }
}
