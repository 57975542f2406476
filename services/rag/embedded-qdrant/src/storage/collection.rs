//! One collection: a shard of the engine, written by one thread at a time, each write flushed before it returns.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use qdrant_edge::{
    CountRequest, CreateIndex, EdgeConfig, EdgeShard, FieldIndexOperations, Filter, JsonPath, OperationError,
    PayloadFieldSchema, PointId, PointInsertOperations, PointOperations, PointStructPersisted, Record, ScrollRequest,
    ShardInfo, UpdateOperation, VectorPersisted, VectorStructPersisted, WithPayloadInterface, WithVector,
};

use super::search::{Found, Search, evaluate};
use super::{folder, log};
use crate::Error;
use crate::options::Bounds;

/// A collection that exists on disk.
pub(crate) struct Collection {
    name: String,
    path: PathBuf,
    /// None once the collection is deleted, or when it could not be reopened after its log was cut.
    shard: RwLock<Option<EdgeShard>>,
    /// Held by whoever changes the shard: `EdgeShard::flush` panics when it meets another writer.
    writer: Mutex<Written>,
}

/// What was written since the collection was tidied last.
#[derive(Default)]
struct Written {
    points: usize,
    log_bytes: usize,
}

/// What a delete removes.
pub(crate) enum Selection {
    Ids(Vec<PointId>),
    Matching(Filter),
}

/// What a caller may want to do after a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterWrite {
    Nothing,
    Tidy,
}

impl Collection {
    /// Creates the shard, then the manifest that makes it count.
    pub(super) fn create(name: String, path: PathBuf, mut config: EdgeConfig) -> Result<Self, Error> {
        folder::create(&path)?;
        config.wal_options.get_or_insert_with(log::options);
        let shard = EdgeShard::new(&path, config)?;
        shard.flush();
        folder::write_manifest(&path)?;
        Ok(Self::new(name, path, shard))
    }

    /// Opens what an earlier process left, its log cut.
    pub(super) fn open(name: String, path: PathBuf) -> Result<Self, Error> {
        log::cut(&path)?;
        match EdgeShard::load(&path, None) {
            Ok(shard) => Ok(Self::new(name, path, shard)),
            Err(source) => Err(Error::CollectionUnreadable { name, source }),
        }
    }

    fn new(name: String, path: PathBuf, shard: EdgeShard) -> Self {
        Self { name, path, shard: RwLock::new(Some(shard)), writer: Mutex::new(Written::default()) }
    }

    /// Inserts or replaces points. All are checked before any is written.
    ///
    /// `bytes` is the size of the request, which is about what the log grows by.
    pub(crate) fn upsert(
        &self,
        points: Vec<PointStructPersisted>,
        bytes: usize,
        bounds: &Bounds,
    ) -> Result<AfterWrite, Error> {
        if points.is_empty() {
            return Ok(AfterWrite::Nothing);
        }
        self.read(|shard| {
            let config = shard.config();
            check_vectors(&config, &points)
        })?;
        let written = Written { points: points.len(), log_bytes: bytes };
        let operation = PointOperations::UpsertPoints(PointInsertOperations::PointsList(points));
        self.write(UpdateOperation::PointOperation(operation), written, bounds)
    }

    /// Deletes points by id or by filter; points that are not there are no error.
    pub(crate) fn delete_points(
        &self,
        selection: Selection,
        bytes: usize,
        bounds: &Bounds,
    ) -> Result<AfterWrite, Error> {
        let (points, operation) = match selection {
            Selection::Ids(ids) => (ids.len(), PointOperations::DeletePoints { ids }),
            Selection::Matching(filter) => {
                (self.count(Some(filter.clone()), true)?, PointOperations::DeletePointsByFilter(filter))
            }
        };
        let written = Written { points, log_bytes: bytes };
        self.write(UpdateOperation::PointOperation(operation), written, bounds)
    }

    /// Creates a payload index, or replaces it by one of another type.
    pub(crate) fn create_index(
        &self,
        field_name: JsonPath,
        schema: PayloadFieldSchema,
        bounds: &Bounds,
    ) -> Result<AfterWrite, Error> {
        let operation = FieldIndexOperations::CreateIndex(CreateIndex { field_name, field_schema: Some(schema) });
        let operation = UpdateOperation::FieldIndexOperation(operation);
        self.write(operation, Written::default(), bounds)
    }

    /// Deletes a payload index; one that is not there is no error.
    pub(crate) fn delete_index(&self, field_name: JsonPath, bounds: &Bounds) -> Result<AfterWrite, Error> {
        let operation = FieldIndexOperations::DeleteIndex(field_name);
        let operation = UpdateOperation::FieldIndexOperation(operation);
        self.write(operation, Written::default(), bounds)
    }

    /// Points by id, in the order asked for; those that are not there are left out.
    pub(crate) fn retrieve(
        &self,
        ids: &[PointId],
        with_payload: WithPayloadInterface,
        with_vector: WithVector,
    ) -> Result<Vec<Record>, Error> {
        self.read(|shard| Ok(shard.retrieve(ids, Some(with_payload), Some(with_vector))?))
    }

    /// A page of points by id, and the id that the next page starts with.
    pub(crate) fn scroll(&self, request: ScrollRequest) -> Result<(Vec<Record>, Option<PointId>), Error> {
        self.read(|shard| Ok(shard.scroll(request)?))
    }

    /// How many points satisfy the filter.
    pub(crate) fn count(&self, filter: Option<Filter>, exact: bool) -> Result<usize, Error> {
        self.read(|shard| Ok(shard.count(CountRequest { filter, exact })?))
    }

    /// The best points of a search, best first.
    pub(crate) fn search(&self, search: &Search) -> Result<Vec<Found>, Error> {
        self.read(|shard| evaluate(shard, search))
    }

    /// Configuration and statistics.
    pub(crate) fn describe(&self) -> Result<(EdgeConfig, ShardInfo), Error> {
        self.read(|shard| Ok((shard.config().clone(), shard.info())))
    }

    /// Drops deleted points from the segments and indexes large ones. Reads go on, writes wait.
    pub(crate) fn tidy(&self) -> Result<bool, Error> {
        let mut written = self.writer();
        written.points = 0;
        self.read(|shard| {
            let changed = shard.optimize()?;
            shard.flush();
            Ok(changed)
        })
    }

    /// Closes the shard and removes its folder; calls under way finish first, later ones find no collection.
    pub(super) fn delete(&self) -> Result<(), Error> {
        let _written = self.writer();
        let mut slot = self.shard.write().unwrap_or_else(PoisonError::into_inner);
        folder::remove_manifest(&self.path)?;
        drop(slot.take());
        folder::remove(&self.path)
    }

    fn write(&self, operation: UpdateOperation, written: Written, bounds: &Bounds) -> Result<AfterWrite, Error> {
        let mut total = self.writer();
        self.read(|shard| {
            let outcome = shard.update(operation);
            // Also after a refusal: what was applied before it must not differ between memory and disk.
            shard.flush();
            Ok(outcome?)
        })?;
        total.points += written.points;
        total.log_bytes += written.log_bytes;
        if total.log_bytes >= bounds.log_bytes_max {
            total.log_bytes = 0;
            self.reopen()?;
        }
        Ok(if total.points >= bounds.optimise_after_points { AfterWrite::Tidy } else { AfterWrite::Nothing })
    }

    /// Cuts the log, for which the shard must be closed for a moment. The caller is the writer.
    fn reopen(&self) -> Result<(), Error> {
        let mut slot = self.shard.write().unwrap_or_else(PoisonError::into_inner);
        drop(slot.take());
        let removed = log::cut(&self.path)?;
        let shard = EdgeShard::load(&self.path, None)
            .map_err(|source| Error::CollectionUnreadable { name: self.name.clone(), source })?;
        *slot = Some(shard);
        tracing::debug!(collection = self.name, removed, "cut the log");
        Ok(())
    }

    fn read<T>(&self, work: impl FnOnce(&EdgeShard) -> Result<T, Error>) -> Result<T, Error> {
        let slot: RwLockReadGuard<'_, _> = self.shard.read().unwrap_or_else(PoisonError::into_inner);
        match slot.as_ref() {
            Some(shard) => work(shard),
            None => Err(Error::CollectionNotFound { name: self.name.clone() }),
        }
    }

    /// A panic in an earlier write was answered as a failure; the next one starts afresh.
    fn writer(&self) -> MutexGuard<'_, Written> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses the whole batch when one vector does not fit the collection.
fn check_vectors(config: &EdgeConfig, points: &[PointStructPersisted]) -> Result<(), Error> {
    for (index, point) in points.iter().enumerate() {
        let VectorStructPersisted::Named(vectors) = &point.vector else {
            // `wire` names every vector, the unnamed one by the empty name.
            return Err(Error::invalid(format!("points[{index}].vectors"), "have no names"));
        };
        for (name, vector) in vectors {
            check_vector(config, name, vector)
                .map_err(|source| Error::invalid(format!("points[{index}].vectors.{name}"), source.to_string()))?;
        }
    }
    Ok(())
}

fn check_vector(config: &EdgeConfig, name: &str, vector: &VectorPersisted) -> Result<(), OperationError> {
    match (vector, config.vectors.get(name), config.sparse_vectors.get(name)) {
        (VectorPersisted::Dense(values), Some(params), _) => {
            if values.len() == params.size {
                return Ok(());
            }
            Err(OperationError::WrongVectorDimension { expected_dim: params.size, received_dim: values.len() })
        }
        (VectorPersisted::Sparse(_), _, Some(_)) => Ok(()),
        (_, None, None) => Err(OperationError::vector_name_not_exists(name)),
        (VectorPersisted::MultiDense(_), _, _) => Err(OperationError::WrongMulti),
        (VectorPersisted::Dense(_), None, Some(_)) | (VectorPersisted::Sparse(_), Some(_), None) => {
            Err(OperationError::WrongSparse)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qdrant_edge::{Distance, EdgeSparseVectorParams, EdgeVectorParams, Payload, WalOptions};

    fn collection(folder: &std::path::Path) -> Collection {
        collection_with(folder, |_| ())
    }

    fn collection_with(folder: &std::path::Path, change: impl FnOnce(&mut EdgeConfig)) -> Collection {
        let mut config = EdgeConfig::builder()
            .vector("dense", EdgeVectorParams::builder(2, Distance::Cosine).build())
            .sparse_vector("bm25", EdgeSparseVectorParams::builder().build())
            .build();
        change(&mut config);
        Collection::create("c".into(), folder.join("c"), config).expect("a collection")
    }

    fn point(id: u64, name: &str, vector: VectorPersisted) -> PointStructPersisted {
        PointStructPersisted {
            id: PointId::NumId(id),
            vector: VectorStructPersisted::Named([(name.to_owned(), vector)].into()),
            payload: Some(Payload::default()),
        }
    }

    #[test]
    fn a_batch_with_one_bad_vector_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let collection = collection(folder.path());
        let good = || point(1, "dense", VectorPersisted::Dense(vec![1.0, 0.0]));
        let bad = [
            (point(2, "dense", VectorPersisted::Dense(vec![1.0])), "expected dim: 2, got 1"),
            (point(2, "other", VectorPersisted::Dense(vec![1.0])), "other"),
            (point(2, "bm25", VectorPersisted::Dense(vec![1.0])), "sparse"),
            (point(2, "dense", VectorPersisted::new_sparse(vec![1], vec![1.0])), "sparse"),
        ];
        for (bad, expected) in bad {
            let refusal = collection.upsert(vec![good(), bad], 0, &Bounds::default()).expect_err(expected);
            let text = refusal.to_string();
            assert!(text.starts_with("points[1].vectors.") && text.contains(expected), "{text}");
            assert_eq!(collection.count(None, true).expect("a count"), 0);
        }
    }

    #[test]
    fn cutting_the_log_in_use_loses_nothing_and_later_writes_count() {
        let folder = tempfile::tempdir().expect("a folder");
        // A log file holds two of these writes, and the log is cut after every fifth.
        let collection = collection_with(folder.path(), |config| {
            config.wal_options = Some(WalOptions { segment_capacity: 1024, ..log::options() });
        });
        let bounds = Bounds { log_bytes_max: 5, ..Bounds::default() };
        for round in 0..33u64 {
            // From the second third on, points are replaced.
            let vector = VectorPersisted::Dense(vec![round as f32 + 1.0, 1.0]);
            let mut written = point(round % 11, "dense", vector);
            let payload = serde_json::json!({ "round": round, "filler": "x".repeat(300) });
            written.payload = payload.as_object().cloned().map(Payload);
            collection.upsert(vec![written], 1, &bounds).expect("a write");
        }
        let (records, _) = collection.scroll(ScrollRequest::default()).expect("a page");
        assert_eq!(collection.count(None, true).expect("a count"), 11);
        for (record, round) in records.iter().zip(22u64..) {
            let payload = record.payload.as_ref().expect("a payload");
            assert_eq!(payload.0["round"], round, "the last write of {} counts", record.id);
        }
        let files = std::fs::read_dir(folder.path().join("c/wal")).expect("the log");
        let closed = files
            .map(|entry| entry.expect("an entry").file_name())
            .filter(|name| name.to_string_lossy().starts_with("closed-"))
            .count();
        assert!((1..=3).contains(&closed), "{closed} closed files after 33 writes");
    }

    #[test]
    fn tidying_is_asked_for_after_enough_points_and_keeps_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let collection = collection(folder.path());
        let bounds = Bounds { optimise_after_points: 3, ..Bounds::default() };
        let write = |id| {
            let vector = VectorPersisted::Dense(vec![1.0, id as f32]);
            collection.upsert(vec![point(id, "dense", vector)], 0, &bounds).expect("a write")
        };
        assert_eq!((write(1), write(2), write(3)), (AfterWrite::Nothing, AfterWrite::Nothing, AfterWrite::Tidy,));
        collection.tidy().expect("tidied");
        assert_eq!(write(4), AfterWrite::Nothing);
        assert_eq!(collection.count(None, true).expect("a count"), 4);
    }

    #[test]
    fn a_deleted_collection_answers_that_it_is_not_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let collection = collection(folder.path());
        collection.delete().expect("deleted");
        assert!(!folder.path().join("c").exists());
        let refusal = collection.count(None, true).expect_err("deleted");
        assert!(matches!(refusal, Error::CollectionNotFound { .. }), "{refusal}");
    }
}
