//! What the store promises of history however it is kept: rows, blocks, or some of each; on both databases.

use std::collections::{BTreeMap, BTreeSet};

use attain_proto::day;
use attain_vocabulary::{BUCKET_MS, DAY_MS, EntityId, SliBucket, Source, TenantId};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::block::SLOTS;
use super::testing::{bucket, id, on_both_databases, tenant};
use super::{BucketSpan, Handing, NextDays, PackCursor, PackStep, Store};
use crate::Error;
use crate::domain::{BucketMode, MergedBucket, ObservationBatch, ObservedBucket, add_buckets, merge_sources};

on_both_databases!(
    history_reads_the_same_whatever_is_packed_when,
    packing_changes_no_answer_and_appends_no_change,
    the_day_that_goes_on_is_packed_by_the_hour,
    a_whole_day_is_packed_at_once_and_again_changes_nothing,
    a_damaged_block_is_named_and_hurts_nothing_else,
    packing_that_ends_half_way_loses_nothing,
    packers_and_writers_at_once_lose_nothing,
    how_far_back_changes_reach_is_known_for_hours,
    old_history_goes_in_bounded_steps_and_the_rest_stays,
);

const ALL: BucketSpan = BucketSpan { start_ms: 0, end_ms: i64::MAX };
const DAYS: i64 = 3;
const PER_DAY: i64 = SLOTS as i64;

/// What stands, by start and source.
type Model = BTreeMap<(i64, Source), SliBucket>;

#[derive(Debug, Clone)]
enum Step {
    Write { source: Source, mode: BucketMode, first: i64, count: i64, stride: i64, valid: u64 },
    Pack { hours: i64 },
    Close { days: i64 },
}

fn any_step() -> impl Strategy<Value = Step> {
    let source = prop::sample::select(vec![Source::Declared, Source::Traces, Source::Prometheus]);
    let mode = prop::sample::select(vec![BucketMode::Replace, BucketMode::Replace, BucketMode::Add]);
    // Few values, so that much is written again as it stands.
    let write = (source, mode, 0..DAYS * PER_DAY, prop::sample::select(vec![1, 3, 13, 40, 288, 600]), 1i64..3, 1u64..3)
        .prop_map(|(source, mode, first, count, stride, valid)| {
            let first = if count >= PER_DAY { first / PER_DAY * PER_DAY } else { first };
            Step::Write { source, mode, first, count, stride, valid }
        });
    prop_oneof![
        4 => write,
        2 => (0..=DAYS * 24).prop_map(|hours| Step::Pack { hours }),
        1 => (0..=DAYS).prop_map(|days| Step::Close { days }),
    ]
}

fn written(step: &Step) -> Vec<ObservedBucket> {
    let Step::Write { source, mode, first, count, stride, valid } = step else { return Vec::new() };
    let starts = (0..*count).map(|i| first + i * stride).filter(|n| *n < DAYS * PER_DAY);
    let inherited = (*source == Source::Traces).then_some(1);
    let observed = |n| ObservedBucket {
        service: id("checkout"),
        source: *source,
        mode: *mode,
        bucket: bucket(n, *valid, 1, inherited),
    };
    starts.map(observed).collect()
}

fn apply(model: &mut Model, observed: &[ObservedBucket]) {
    for ObservedBucket { source, mode, bucket, .. } in observed {
        let key = (bucket.start_ms, *source);
        let stands = match (mode, model.get(&key)) {
            (BucketMode::Add, Some(stored)) => add_buckets(stored, bucket),
            _ => bucket.clone(),
        };
        model.insert(key, stands);
    }
}

fn expected(model: &Model, span: BucketSpan) -> Vec<MergedBucket> {
    let within = model.iter().filter(|((start_ms, _), _)| (span.start_ms..span.end_ms).contains(start_ms));
    let rows: Vec<(Source, SliBucket)> = within.map(|((_, source), bucket)| (*source, bucket.clone())).collect();
    rows.chunk_by(|a, b| a.1.start_ms == b.1.start_ms).filter_map(|group| merge_sources(group.to_vec())).collect()
}

async fn read(store: &Store, tenant: &TenantId, mut span: BucketSpan, limit: usize) -> Vec<MergedBucket> {
    let mut all = Vec::new();
    loop {
        let page = store.sli_page(tenant, &id("checkout"), span, limit, true).await.expect("read");
        assert!(page.buckets.len() <= limit && (!page.buckets.is_empty() || page.next_start_ms.is_none()));
        all.extend(page.buckets);
        let Some(next) = page.next_start_ms else { return all };
        assert!(next > span.start_ms);
        span.start_ms = next;
    }
}

/// The same history day by day, as members read it, and how many days came as they are kept.
async fn handed(store: &Store, tenant: &TenantId, mut span: BucketSpan) -> Result<(Vec<SliBucket>, usize), Error> {
    const WANTED: usize = 2 * SLOTS;
    let (mut all, mut kept_days) = (Vec::new(), 0);
    loop {
        let mut found = store.find_history(tenant, &id("checkout"), span, 2_000, true).await?;
        let next_start_ms = found.next_start_ms();
        while let Some(days) = found.next_days(WANTED, Handing::Kept)? {
            match days {
                NextDays::Unpacked(buckets) => all.extend(buckets.into_iter().map(|merged| merged.bucket)),
                NextDays::Kept(days) => {
                    kept_days += days.len();
                    for kept in days {
                        let each = day::each(&kept.counts, kept.latency.as_deref(), |bucket| all.push(bucket));
                        each.expect("whole");
                    }
                }
            }
        }
        let Some(next) = next_start_ms else { return Ok((all, kept_days)) };
        span.start_ms = next;
    }
}

async fn pack_all(store: &Store, closed_before_ms: i64) -> PackStep {
    let mut all = PackStep { next: Some(PackCursor::default()), ..PackStep::default() };
    while let Some(cursor) = all.next.take() {
        let step = store.pack(cursor, closed_before_ms).await.expect("packed");
        all.row_count += step.row_count;
        all.block_count += step.block_count;
        all.damaged_count += step.damaged_count;
        all.next = step.next;
    }
    all
}

async fn sequence(store: &Store, tenant: &TenantId, service: &str) -> u64 {
    let heads = store.change_heads(tenant, &BTreeSet::from([id(service)])).await.expect("read");
    heads.first().map_or(0, |head| head.sli_sequence)
}

/// Rows and blocks of all tenants.
async fn kept(store: &Store) -> (u64, u64) {
    let size = store.history_size().await.expect("read");
    (size.row_count, size.block_count)
}

async fn history_reads_the_same_whatever_is_packed_when(store: &Store) {
    const CASES: usize = 12;
    let mut runner = TestRunner::deterministic();
    for case in 0..CASES {
        let acme = tenant(&format!("acme-{case}"));
        let steps = prop::collection::vec(any_step(), 8).new_tree(&mut runner).expect("a case").current();
        store.close_days_before(i64::MIN);
        let mut model = Model::new();
        // What stood when a number was the newest.
        let mut stood: BTreeMap<u64, Model> = BTreeMap::new();
        for (i, step) in steps.iter().enumerate() {
            let at = format!("case {case}, step {i} of {steps:?}");
            let (before, told) = (model.clone(), sequence(store, &acme, "checkout").await);
            match step {
                Step::Pack { hours } => {
                    pack_all(store, hours * DAY_MS / 24).await;
                }
                Step::Close { days } => store.close_days_before(days * DAY_MS),
                Step::Write { .. } => {
                    let buckets = written(step);
                    apply(&mut model, &buckets);
                    let batch = ObservationBatch { buckets, ..ObservationBatch::default() };
                    store.observe(&acme, &[], |_| batch).await.expect("applied");
                }
            }
            let newest = sequence(store, &acme, "checkout").await;
            assert_eq!(newest > told, model != before, "a change is told of when there is one: {at}");
            stood.insert(newest, model.clone());
            for (since, then) in stood.range(1..) {
                let unchanged_ms = store.unchanged_before_ms(&acme, &id("checkout"), *since).await.expect("read");
                let earlier = BucketSpan { end_ms: unchanged_ms.unwrap_or(i64::MIN), ..ALL };
                assert!(expected(&model, earlier) == expected(then, earlier), "since {since}, {unchanged_ms:?}: {at}");
                assert!(*since < newest || unchanged_ms == Some(i64::MAX), "{at}");
            }
            let cut =
                BucketSpan { start_ms: (i as i64 * 97 + 5) * BUCKET_MS, end_ms: (i as i64 * 97 + 400) * BUCKET_MS };
            for (span, limit) in [(ALL, 2_000), (ALL, 50), (cut, 100), (cut, 1_000)] {
                assert!(read(store, &acme, span, limit).await == expected(&model, span), "{span:?} by {limit}: {at}");
            }
            for span in [ALL, cut] {
                let buckets: Vec<SliBucket> = expected(&model, span).into_iter().map(|merged| merged.bucket).collect();
                assert!(handed(store, &acme, span).await.expect("read").0 == buckets, "{span:?} by days: {at}");
            }
            let summary = store.data_summary(&acme, &id("checkout")).await.expect("read");
            let starts: BTreeSet<i64> = model.keys().map(|(start_ms, _)| *start_ms).collect();
            assert_eq!(summary.bucket_count, starts.len() as u64, "{at}");
            assert_eq!(summary.first_and_last_ms, starts.first().copied().zip(starts.last().copied()), "{at}");
            let sources: BTreeSet<Source> = model.keys().map(|(_, source)| *source).collect();
            assert_eq!(summary.sources, sources, "{at}");
        }
    }
}

/// Measurements in order: who read within hours is told so, who read before both numbers is told nothing.
async fn how_far_back_changes_reach_is_known_for_hours(store: &Store) {
    let (acme, at) = (tenant("acme"), |n: i64| n * BUCKET_MS);
    let mut read = Vec::new();
    for n in 0..2 * PER_DAY {
        store.replace_buckets(&acme, vec![(id("checkout"), bucket(n, 5, 1, None))]).await.expect("kept");
        read.push(sequence(store, &acme, "checkout").await);
    }
    let newest = 2 * PER_DAY - 1;
    let since = async |n: i64| {
        store
            .unchanged_before_ms(&acme, &id("checkout"), read[n as usize])
            .await
            .expect("read")
            .map(|ms| ms / BUCKET_MS)
    };
    assert_eq!(since(newest).await, Some(i64::MAX / BUCKET_MS));
    for back in [1, 12, 72] {
        let from = since(newest - back).await.expect("hours are known");
        assert!((newest - 144..=newest - back + 1).contains(&from), "{from} after {back}");
    }
    assert_eq!(since(newest - 288).await, None);
    // One that comes late is told to everybody, and to nobody who read it.
    store.replace_buckets(&acme, vec![(id("checkout"), bucket(9, 6, 1, None))]).await.expect("kept");
    let late = sequence(store, &acme, "checkout").await;
    assert_eq!(since(newest - 1).await, Some(9));
    store.replace_buckets(&acme, vec![(id("checkout"), bucket(newest + 1, 5, 1, None))]).await.expect("kept");
    assert_eq!(since(newest - 1).await, Some(9));
    let after = store.unchanged_before_ms(&acme, &id("checkout"), late).await.expect("read");
    assert_eq!(after, Some(at(newest + 1)));
    // Of nothing, and of another service.
    assert_eq!(store.unchanged_before_ms(&acme, &id("payment"), late).await.expect("read"), None);
    assert_eq!(store.unchanged_before_ms(&tenant("other"), &id("checkout"), late).await.expect("read"), None);
}

fn days(service: &str, from: i64, to: i64, valid: u64) -> Vec<(EntityId, SliBucket)> {
    (from * PER_DAY..to * PER_DAY).map(|n| (id(service), bucket(n, valid, 1, None))).collect()
}

async fn packing_changes_no_answer_and_appends_no_change(store: &Store) {
    let acme = tenant("acme");
    // Half days: rows, whatever is closed.
    for service in ["checkout", "payment", "search"] {
        let rows = (0..3).flat_map(|day| days(service, day, day + 1, 5).into_iter().skip(10).step_by(2));
        store.replace_buckets(&acme, rows.collect()).await.expect("kept");
    }
    assert_eq!(kept(store).await, (3 * 3 * 139, 0));
    let (before, changes) = (read(store, &acme, ALL, 2_000).await, store.changes_after(0, 100).await.expect("read"));
    let packed = pack_all(store, 2 * DAY_MS + 5).await;
    assert_eq!((packed.row_count, packed.block_count), (3 * 2 * 139, 3 * 2));
    assert_eq!(kept(store).await, (3 * 139, 3 * 2), "the open day stays rows");
    assert_eq!(read(store, &acme, ALL, 2_000).await, before);
    assert_eq!(pack_all(store, 2 * DAY_MS).await.row_count, 0);

    // What a block holds is not written again; what differs stands as a row until it is packed.
    let again = (id("checkout"), bucket(10, 5, 1, None));
    store.replace_buckets(&acme, vec![again]).await.expect("kept");
    assert_eq!(store.changes_after(0, 100).await.expect("read"), changes);
    assert_eq!(kept(store).await, (3 * 139, 3 * 2));
    let late = vec![(id("checkout"), bucket(10, 9, 1, None)), (id("checkout"), bucket(11, 9, 1, None))];
    store.replace_buckets(&acme, late).await.expect("kept");
    assert_eq!(kept(store).await, (3 * 139 + 2, 3 * 2));
    assert_ne!(store.changes_after(0, 100).await.expect("read"), changes);
    let page = read(store, &acme, ALL, 2).await;
    assert_eq!(
        (page[0].bucket.counts.valid(), page[1].bucket.counts.valid(), page[2].bucket.counts.valid()),
        (9, 9, 5)
    );
    let late = store.data_summary(&acme, &id("checkout")).await.expect("read");
    assert_eq!(late.bucket_count, 3 * 139 + 1);
    assert_eq!(pack_all(store, 2 * DAY_MS).await.row_count, 2);
    assert_eq!(read(store, &acme, ALL, 2).await, page);
    assert_eq!(store.data_summary(&acme, &id("checkout")).await.expect("read"), late);
}

/// Two days of several series as they come, with the upkeep of a service beside them: at no time are there more rows than
/// of two hours and what goes on, and each block is written once an hour.
async fn the_day_that_goes_on_is_packed_by_the_hour(store: &Store) {
    const SERIES: u64 = 5;
    const PER_HOUR: i64 = 12;
    let acme = tenant("acme");
    let of = |n: i64| (0..SERIES).map(move |i| (id(&format!("service-{i}")), bucket(n, n as u64 % 7 + i, 0, None)));
    let (mut rows_max, mut blocks_written, mut rows_packed) = (0, 0, 0);
    for n in 0..2 * PER_DAY {
        store.replace_buckets(&acme, of(n).collect()).await.expect("kept");
        if n % 3 == 0 {
            // An hour after its end, looked at every 15 minutes.
            let step = pack_all(store, (n + 1 - PER_HOUR) * BUCKET_MS).await;
            (blocks_written, rows_packed) = (blocks_written + step.block_count, rows_packed + step.row_count);
        }
        rows_max = rows_max.max(kept(store).await.0);
    }
    assert!(rows_max <= SERIES * (2 * PER_HOUR as u64 + 3), "{rows_max} rows");
    // All hours but the last two.
    let hours = 2 * 24 - 2;
    assert_eq!((blocks_written, rows_packed), (hours * SERIES as usize, hours * SERIES as usize * PER_HOUR as usize));
    assert_eq!(kept(store).await, (2 * PER_HOUR as u64 * SERIES, 2 * SERIES));
    let buckets = |i: u64| (0..2 * PER_DAY).map(move |n| bucket(n, n as u64 % 7 + i, 0, None)).collect::<Vec<_>>();
    for i in 0..SERIES {
        let page = store.sli_page(&acme, &id(&format!("service-{i}")), ALL, 1_000, true).await.expect("read");
        assert!(page.buckets.into_iter().map(|merged| merged.bucket).eq(buckets(i)));
    }

    // Of an hour that is packed the block tells what stands; what is late wins over it and is packed in, and no other row
    // of the day goes with it.
    let told = sequence(store, &acme, "service-0").await;
    store.replace_buckets(&acme, of(PER_DAY + 5).collect()).await.expect("kept");
    assert_eq!(sequence(store, &acme, "service-0").await, told, "it stands already");
    store.replace_buckets(&acme, vec![(id("service-0"), bucket(PER_DAY + 5, 99, 0, None))]).await.expect("kept");
    assert_eq!(pack_all(store, (PER_DAY + PER_HOUR) * BUCKET_MS).await.row_count, 1);
    assert_eq!(kept(store).await, (2 * PER_HOUR as u64 * SERIES, 2 * SERIES));
    let span = BucketSpan { start_ms: (PER_DAY + 5) * BUCKET_MS, end_ms: i64::MAX };
    let page = store.sli_page(&acme, &id("service-0"), span, 1_000, true).await.expect("read");
    assert_eq!((page.buckets.len() as i64, page.buckets[0].bucket.counts.valid()), (PER_DAY - 5, 99));
}

async fn a_whole_day_is_packed_at_once_and_again_changes_nothing(store: &Store) {
    let acme = tenant("acme");
    let all = days("checkout", 0, 30, 3);
    store.replace_buckets(&acme, all.clone()).await.expect("kept");
    assert_eq!(kept(store).await, (0, 30));
    let told = sequence(store, &acme, "checkout").await;
    store.replace_buckets(&acme, all.clone()).await.expect("kept");
    assert_eq!(sequence(store, &acme, "checkout").await, told);
    let buckets: Vec<SliBucket> = read(store, &acme, ALL, 2_000).await.into_iter().map(|m| m.bucket).collect();
    assert!(buckets.iter().eq(all.iter().map(|(_, bucket)| bucket)));

    // A day that is over takes the most of a day too; an open one does not.
    store.close_days_before(31 * DAY_MS);
    let most = |day| days("checkout", day, day + 1, 4).into_iter().take(200).collect::<Vec<_>>();
    store.replace_buckets(&acme, [most(30), most(31)].concat()).await.expect("kept");
    assert_eq!(kept(store).await, (200, 31));
    // Over a block, and over rows.
    store.replace_buckets(&acme, [most(29), days("checkout", 31, 32, 4)].concat()).await.expect("kept");
    assert_eq!(kept(store).await, (0, 32));
    let valid: Vec<u64> = read(store, &acme, ALL, 2_000).await.iter().map(|m| m.bucket.counts.valid()).collect();
    assert_eq!(valid.len(), 30 * SLOTS + 200 + SLOTS);
    assert_eq!((valid[29 * SLOTS], valid[29 * SLOTS + 200]), (4, 3));
}

async fn damage(store: &Store, service: &str, day_ms: i64) {
    let sql = "UPDATE sli_blocks SET counts = slots WHERE service_id = $1 AND day_ms = $2";
    let done = sqlx::query(sql).bind(service).bind(day_ms).execute(store.database.pool()).await.expect("executed");
    assert_eq!(done.rows_affected(), 1);
}

async fn a_damaged_block_is_named_and_hurts_nothing_else(store: &Store) {
    let acme = tenant("acme");
    let all = [days("checkout", 0, 3, 3), days("payment", 0, 3, 3)].concat();
    store.replace_buckets(&acme, all).await.expect("kept");
    damage(store, "checkout", DAY_MS).await;
    let span = |day: i64| BucketSpan { start_ms: day * DAY_MS, end_ms: (day + 1) * DAY_MS };
    let page = |service: &'static str, span| {
        let (store, acme) = (store.clone(), acme.clone());
        async move { store.sli_page(&acme, &id(service), span, 1_000, true).await }
    };
    match page("checkout", ALL).await {
        Err(Error::DamagedBlock { service, day_ms, source_name, .. }) => {
            assert_eq!((service, day_ms, source_name.as_str()), (id("checkout"), DAY_MS, "Declared"));
        }
        other => panic!("{other:?}"),
    }
    for day in [0, 2] {
        assert_eq!(page("checkout", span(day)).await.expect("read").buckets.len(), SLOTS);
    }
    assert_eq!(page("payment", ALL).await.expect("read").buckets.len(), 3 * SLOTS);
    assert!(matches!(handed(store, &acme, ALL).await, Err(Error::DamagedBlock { day_ms: DAY_MS, .. })));
    let (buckets, kept_days) = handed(store, &acme, span(2)).await.expect("read");
    assert_eq!((buckets.len(), kept_days), (SLOTS, 1));

    // Late data is kept, waits as rows, and holds up nobody.
    let late = |service: &str, day: i64| (id(service), bucket(day * PER_DAY + 7, 9, 1, None));
    store
        .replace_buckets(&acme, vec![late("checkout", 1), late("checkout", 2), late("payment", 1)])
        .await
        .expect("kept");
    let packed = pack_all(store, 3 * DAY_MS).await;
    assert_eq!((packed.row_count, packed.damaged_count), (2, 1));
    assert_eq!(kept(store).await, (1, 6));
    assert!(page("checkout", span(1)).await.is_err());
    // Whoever writes the whole day mends it.
    store.replace_buckets(&acme, days("checkout", 1, 2, 8)).await.expect("kept");
    assert_eq!(kept(store).await, (0, 6));
    let mended = page("checkout", span(1)).await.expect("read").buckets;
    assert!(mended.len() == SLOTS && mended.iter().all(|merged| merged.bucket.counts.valid() == 8));
}

/// A process that ends in the middle leaves a transaction that nobody committed.
async fn packing_that_ends_half_way_loses_nothing(store: &Store) {
    let acme = tenant("acme");
    let rows = days("checkout", 0, 12, 5).into_iter().step_by(2).collect();
    store.replace_buckets(&acme, rows).await.expect("kept");
    let before = read(store, &acme, ALL, 2_000).await;
    let mut ended = store.begin_write(&acme).await.expect("begun");
    let mut step = PackStep::default();
    ended.pack_days(&id("checkout"), 0, 4 * DAY_MS, &mut step).await.expect("packed, not committed");
    assert_eq!(step.block_count, 4);
    drop(ended);
    assert_eq!(kept(store).await, (12 * 144, 0));

    // A step is bounded, and after one of them another process begins anew.
    let first = store.pack(PackCursor::default(), 12 * DAY_MS).await.expect("packed").next.expect("a tenant");
    let step = store.pack(first, 12 * DAY_MS).await.expect("packed");
    assert!(step.next.is_some());
    assert_eq!(read(store, &acme, ALL, 2_000).await, before);
    pack_all(store, 12 * DAY_MS).await;
    assert_eq!(kept(store).await, (0, 12));
    assert_eq!(read(store, &acme, ALL, 2_000).await, before);
}

async fn packers_and_writers_at_once_lose_nothing(store: &Store) {
    const SERVICES: usize = 6;
    let acme = tenant("acme");
    let name = |i: usize| format!("service-{i}");
    let writers: Vec<_> = (0..SERVICES)
        .map(|i| {
            let (store, acme, service) = (store.clone(), acme.clone(), id(&name(i)));
            tokio::spawn(async move {
                for round in 0..20i64 {
                    let rows =
                        (0..10).map(|n| (service.clone(), bucket((round * 17 + n * 13) % 500, 1 + n as u64, 1, None)));
                    store.replace_buckets(&acme, rows.collect()).await.expect("kept");
                }
            })
        })
        .collect();
    let packers: Vec<_> = (0..2)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    pack_all(&store, 2 * DAY_MS).await;
                }
            })
        })
        .collect();
    for task in writers.into_iter().chain(packers) {
        task.await.expect("run");
    }
    let mut model: BTreeMap<i64, u64> = BTreeMap::new();
    for (round, n) in (0..20i64).flat_map(|round| (0..10).map(move |n| (round, n))) {
        model.insert((round * 17 + n * 13) % 500, 1 + n as u64);
    }
    for _ in 0..2 {
        for i in 0..SERVICES {
            let page = store.sli_page(&acme, &id(&name(i)), ALL, 1_000, true).await.expect("read");
            let read: BTreeMap<i64, u64> =
                page.buckets.iter().map(|m| (m.bucket.start_ms / BUCKET_MS, m.bucket.counts.valid())).collect();
            assert_eq!(read, model);
        }
        pack_all(store, 2 * DAY_MS).await;
    }
    assert_eq!(kept(store).await, (0, 2 * SERVICES as u64));
}

async fn old_history_goes_in_bounded_steps_and_the_rest_stays(store: &Store) {
    let acme = tenant("acme");
    store.prepare_partitions(0, 100 * DAY_MS).await.expect("made");
    store.replace_buckets(&acme, days("checkout", 0, 90, 1)).await.expect("kept");
    store.replace_buckets(&acme, days("payment", 50, 60, 1)).await.expect("kept");
    let changes = store.changes_after(0, 100).await.expect("read");
    // 70 days: two partitions are over, and 56 of their 28-day pairs.
    let mut steps = Vec::new();
    loop {
        let gone = store.expire(70 * DAY_MS, 40).await.expect("deleted");
        if gone == 0 {
            break;
        }
        steps.push(gone);
    }
    let first_day = match store.dialect_name() {
        "SQLite" => {
            assert_eq!(steps, [40, 40]);
            70
        }
        _ => {
            assert_eq!(steps, [4], "two partitions of two tables");
            assert_eq!(store.partition_count().await.expect("read"), 2);
            56
        }
    };
    let summary = store.data_summary(&acme, &id("checkout")).await.expect("read");
    assert_eq!(summary.first_and_last_ms, Some((first_day * DAY_MS, 90 * DAY_MS - BUCKET_MS)));
    assert_eq!(store.changes_after(0, 100).await.expect("read"), changes);
    // Late data finds a place again.
    store.replace_buckets(&acme, days("checkout", 1, 2, 1)).await.expect("kept");
    assert_eq!(read(store, &acme, BucketSpan { start_ms: 0, end_ms: 2 * DAY_MS }, 1_000).await.len(), SLOTS);
}
