//! Points: write, delete, read, page, count, query, index.

use prost::Message;
use qdrant_client::qdrant::points_server::Points;
use qdrant_client::qdrant::{
    self as proto, CountPoints, CountResponse, CountResult, CreateFieldIndexCollection, DeleteFieldIndexCollection,
    DeletePoints, GetPoints, GetResponse, PointStruct, PointsOperationResponse, QueryPoints, QueryResponse,
    ScoredPoint, ScrollPoints, ScrollResponse, UpdateMode, UpdateResult, UpdateStatus, UpsertPoints,
};
use qdrant_edge::{PointId as EdgeId, Record, ScrollRequest, WithPayloadInterface, WithVector};
use tonic::{Request, Response, Status};

use super::{Api, Timed, unimplemented_methods};
use crate::Error;
use crate::storage::collection::{AfterWrite, Collection};
use crate::storage::search::Found;
use crate::wire::filter::filter_from_wire;
use crate::wire::payload::{path, payload_selector_from_wire};
use crate::wire::points::{
    found_to_wire, point_id_from_wire, point_id_to_wire, point_ids_from_wire, points_from_wire, retrieved_to_wire,
    scored_to_wire, selection_from_wire,
};
use crate::wire::query::{WholeQuery, checked_limit, query_from_wire};
use crate::wire::schema::index_from_wire;
use crate::wire::vectors::vector_selector_from_wire;
use crate::wire::{refuse, refuse_shard_key};

/// Page length of a scroll that names none, as on a genuine server.
const DEFAULT_PAGE: u32 = 10;

#[tonic::async_trait]
impl Points for Api {
    async fn upsert(&self, request: Request<UpsertPoints>) -> Result<Response<PointsOperationResponse>, Status> {
        let wire = request.into_inner();
        refuse_shard_key(&wire.shard_key_selector)?;
        refuse(&wire.update_filter, "update_filter", "a conditional upsert")?;
        if wire.update_mode.is_some_and(|mode| mode != i32::from(UpdateMode::Upsert)) {
            return Err(Error::unsupported("update_mode", "anything but upsert").into());
        }
        let bytes = size_in_log(&wire.points);
        let points = points_from_wire(wire.points, self.store.bounds.points_per_request_max)?;
        self.write(wire.collection_name, wire.timeout, move |collection, bounds| {
            collection.upsert(points, bytes, bounds)
        })
        .await
    }

    async fn delete(&self, request: Request<DeletePoints>) -> Result<Response<PointsOperationResponse>, Status> {
        let wire = request.into_inner();
        refuse_shard_key(&wire.shard_key_selector)?;
        let selection = selection_from_wire(wire.points, self.store.bounds.points_per_request_max)?;
        self.write(wire.collection_name, wire.timeout, move |collection, bounds| {
            collection.delete_points(selection, 0, bounds)
        })
        .await
    }

    async fn get(&self, request: Request<GetPoints>) -> Result<Response<GetResponse>, Status> {
        let wire = request.into_inner();
        refuse_shard_key(&wire.shard_key_selector)?;
        let ids = point_ids_from_wire("ids", wire.ids, self.store.bounds.points_per_request_max)?;
        let with_payload = payload_selector_from_wire(wire.with_payload, true)?;
        let with_vector = vector_selector_from_wire(wire.with_vectors);
        let done = self
            .run(wire.timeout, move |store| {
                let collection = store.collection(&wire.collection_name)?;
                let records = collection.retrieve(&ids, with_payload, with_vector)?;
                Ok(records.into_iter().map(retrieved_to_wire).collect())
            })
            .await?;
        Ok(Response::new(GetResponse { result: done.value, time: done.seconds, usage: None }))
    }

    async fn scroll(&self, request: Request<ScrollPoints>) -> Result<Response<ScrollResponse>, Status> {
        let wire = request.into_inner();
        refuse_shard_key(&wire.shard_key_selector)?;
        refuse(&wire.order_by, "order_by", "ordering by payload")?;
        let (name, timeout) = (wire.collection_name.clone(), wire.timeout);
        let scroll = self.scroll_from_wire(wire)?;
        let done = self
            .run(timeout, move |store| {
                let (records, next) = store.collection(&name)?.scroll(scroll)?;
                Ok((records.into_iter().map(retrieved_to_wire).collect(), next))
            })
            .await?;
        let (result, next) = done.value;
        Ok(Response::new(ScrollResponse {
            next_page_offset: next.map(point_id_to_wire),
            result,
            time: done.seconds,
            usage: None,
        }))
    }

    async fn count(&self, request: Request<CountPoints>) -> Result<Response<CountResponse>, Status> {
        let wire = request.into_inner();
        refuse_shard_key(&wire.shard_key_selector)?;
        let filter = filter_from_wire("filter", wire.filter)?;
        let exact = wire.exact.unwrap_or(true);
        let done =
            self.run(wire.timeout, move |store| store.collection(&wire.collection_name)?.count(filter, exact)).await?;
        Ok(Response::new(CountResponse {
            result: Some(CountResult { count: done.value as u64 }),
            time: done.seconds,
            usage: None,
        }))
    }

    async fn query(&self, request: Request<QueryPoints>) -> Result<Response<QueryResponse>, Status> {
        let wire = request.into_inner();
        let (name, timeout) = (wire.collection_name.clone(), wire.timeout);
        let query = query_from_wire(wire, &self.store.bounds)?;
        let done = self.run(timeout, move |store| answer(&*store.collection(&name)?, query)).await?;
        Ok(Response::new(QueryResponse { result: done.value, time: done.seconds, usage: None }))
    }

    async fn create_field_index(
        &self,
        request: Request<CreateFieldIndexCollection>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let wire = request.into_inner();
        let schema = index_from_wire(&wire)?;
        let field = path("field_name", &wire.field_name)?;
        self.write(wire.collection_name, wire.timeout, move |collection, bounds| {
            collection.create_index(field, schema, bounds)
        })
        .await
    }

    async fn delete_field_index(
        &self,
        request: Request<DeleteFieldIndexCollection>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let wire = request.into_inner();
        let field = path("field_name", &wire.field_name)?;
        self.write(wire.collection_name, wire.timeout, move |collection, bounds| collection.delete_index(field, bounds))
            .await
    }

    unimplemented_methods! {
        update_vectors: proto::UpdatePointVectors => proto::PointsOperationResponse;
        delete_vectors: proto::DeletePointVectors => proto::PointsOperationResponse;
        set_payload: proto::SetPayloadPoints => proto::PointsOperationResponse;
        overwrite_payload: proto::SetPayloadPoints => proto::PointsOperationResponse;
        delete_payload: proto::DeletePayloadPoints => proto::PointsOperationResponse;
        clear_payload: proto::ClearPayloadPoints => proto::PointsOperationResponse;
        create_vector_name: proto::CreateVectorNameRequest => proto::PointsOperationResponse;
        delete_vector_name: proto::DeleteVectorNameRequest => proto::PointsOperationResponse;
        search: proto::SearchPoints => proto::SearchResponse;
        search_batch: proto::SearchBatchPoints => proto::SearchBatchResponse;
        search_groups: proto::SearchPointGroups => proto::SearchGroupsResponse;
        recommend: proto::RecommendPoints => proto::RecommendResponse;
        recommend_batch: proto::RecommendBatchPoints => proto::RecommendBatchResponse;
        recommend_groups: proto::RecommendPointGroups => proto::RecommendGroupsResponse;
        discover: proto::DiscoverPoints => proto::DiscoverResponse;
        discover_batch: proto::DiscoverBatchPoints => proto::DiscoverBatchResponse;
        update_batch: proto::UpdateBatchPoints => proto::UpdateBatchResponse;
        query_batch: proto::QueryBatchPoints => proto::QueryBatchResponse;
        query_groups: proto::QueryPointGroups => proto::QueryGroupsResponse;
        facet: proto::FacetCounts => proto::FacetResponse;
        search_matrix_pairs: proto::SearchMatrixPoints => proto::SearchMatrixPairsResponse;
        search_matrix_offsets: proto::SearchMatrixPoints => proto::SearchMatrixOffsetsResponse;
    }
}

impl Api {
    /// Runs a write; the answer leaves when the write is on disk.
    async fn write(
        &self,
        name: String,
        timeout: Option<u64>,
        work: impl FnOnce(&Collection, &crate::Bounds) -> Result<AfterWrite, Error> + Send + 'static,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let collection = name.clone();
        let Timed { value, seconds } =
            self.run(timeout, move |store| work(&*store.collection(&collection)?, &store.bounds)).await?;
        self.after_write(name, value);
        Ok(Response::new(PointsOperationResponse {
            result: Some(UpdateResult { operation_id: None, status: UpdateStatus::Completed.into() }),
            time: seconds,
            usage: None,
        }))
    }

    fn scroll_from_wire(&self, wire: ScrollPoints) -> Result<ScrollRequest, Error> {
        let limit = wire.limit.unwrap_or(DEFAULT_PAGE);
        if limit == 0 {
            return Err(Error::invalid("limit", "must be at least 1"));
        }
        let offset = wire.offset.map(|id| point_id_from_wire("offset", Some(id))).transpose()?;
        Ok(ScrollRequest {
            offset,
            limit: Some(checked_limit("limit", u64::from(limit), &self.store.bounds)?),
            filter: filter_from_wire("filter", wire.filter)?,
            with_payload: Some(payload_selector_from_wire(wire.with_payload, true)?),
            with_vector: vector_selector_from_wire(wire.with_vectors),
            order_by: None,
        })
    }
}

/// Bytes that these points add to the log, roughly: their size on the wire.
fn size_in_log(points: &[PointStruct]) -> usize {
    points.iter().map(Message::encoded_len).sum()
}

/// Searches, then fetches what is to be returned of the points on the page.
fn answer(collection: &Collection, query: WholeQuery) -> Result<Vec<ScoredPoint>, Error> {
    let mut found = collection.search(&query.search)?;
    let page = found.split_off(query.offset.min(found.len()));
    if is_nothing(&query.with_payload, &query.with_vector) {
        return Ok(page.into_iter().map(found_to_wire).collect());
    }
    let ids: Vec<EdgeId> = page.iter().map(|point| point.id).collect();
    let records = collection.retrieve(&ids, query.with_payload, query.with_vector)?;
    Ok(join(page, records))
}

/// Whether names and scores are all that is to be returned.
fn is_nothing(with_payload: &WithPayloadInterface, with_vector: &WithVector) -> bool {
    matches!((with_payload, with_vector), (WithPayloadInterface::Bool(false), WithVector::Bool(false)))
}

/// Both are in the order of the page; a point that was deleted between search and retrieval has no record.
fn join(page: Vec<Found>, records: Vec<Record>) -> Vec<ScoredPoint> {
    let mut records = records.into_iter().peekable();
    page.into_iter()
        .filter_map(|point| {
            let record = records.next_if(|record| record.id == point.id)?;
            Some(scored_to_wire(point.score, point.version, record))
        })
        .collect()
}
