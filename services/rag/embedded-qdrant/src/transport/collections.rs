//! Collections: create, describe, list, delete, ask for.

use qdrant_client::qdrant::collections_server::Collections;
use qdrant_client::qdrant::{
    self as proto, CollectionDescription, CollectionExists, CollectionExistsRequest, CollectionExistsResponse,
    CollectionOperationResponse, CreateCollection, DeleteCollection, GetCollectionInfoRequest,
    GetCollectionInfoResponse, ListCollectionsRequest, ListCollectionsResponse,
};
use tonic::{Request, Response, Status};

use super::{Api, Timed, unimplemented_methods};
use crate::wire::schema::{config_from_wire, info_to_wire};

#[tonic::async_trait]
impl Collections for Api {
    async fn create(
        &self,
        request: Request<CreateCollection>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let wire = request.into_inner();
        let name = wire.collection_name.clone();
        let timeout = wire.timeout;
        let config = config_from_wire(wire)?;
        let done = self.run(timeout, move |store| store.create(&name, config).map(|()| true)).await?;
        Ok(operated(done))
    }

    async fn get(
        &self,
        request: Request<GetCollectionInfoRequest>,
    ) -> Result<Response<GetCollectionInfoResponse>, Status> {
        let name = request.into_inner().collection_name;
        let done = self.run(None, move |store| store.collection(&name)?.describe()).await?;
        let (config, info) = done.value;
        Ok(Response::new(GetCollectionInfoResponse { result: Some(info_to_wire(&config, info)), time: done.seconds }))
    }

    async fn list(
        &self,
        _request: Request<ListCollectionsRequest>,
    ) -> Result<Response<ListCollectionsResponse>, Status> {
        let done = self.run(None, |store| Ok(store.names())).await?;
        let collections = done.value.into_iter().map(|name| CollectionDescription { name }).collect();
        Ok(Response::new(ListCollectionsResponse { collections, time: done.seconds }))
    }

    async fn delete(
        &self,
        request: Request<DeleteCollection>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let DeleteCollection { collection_name, timeout } = request.into_inner();
        let done = self.run(timeout, move |store| store.delete(&collection_name)).await?;
        Ok(operated(done))
    }

    async fn collection_exists(
        &self,
        request: Request<CollectionExistsRequest>,
    ) -> Result<Response<CollectionExistsResponse>, Status> {
        let name = request.into_inner().collection_name;
        let done = self.run(None, move |store| Ok(store.collection(&name).is_ok())).await?;
        Ok(Response::new(CollectionExistsResponse {
            result: Some(CollectionExists { exists: done.value }),
            time: done.seconds,
        }))
    }

    unimplemented_methods! {
        update: proto::UpdateCollection => proto::CollectionOperationResponse;
        update_aliases: proto::ChangeAliases => proto::CollectionOperationResponse;
        list_collection_aliases: proto::ListCollectionAliasesRequest => proto::ListAliasesResponse;
        list_aliases: proto::ListAliasesRequest => proto::ListAliasesResponse;
        collection_cluster_info: proto::CollectionClusterInfoRequest => proto::CollectionClusterInfoResponse;
        update_collection_cluster_setup: proto::UpdateCollectionClusterSetupRequest
            => proto::UpdateCollectionClusterSetupResponse;
        create_shard_key: proto::CreateShardKeyRequest => proto::CreateShardKeyResponse;
        delete_shard_key: proto::DeleteShardKeyRequest => proto::DeleteShardKeyResponse;
        list_shard_keys: proto::ListShardKeysRequest => proto::ListShardKeysResponse;
    }
}

fn operated(done: Timed<bool>) -> Response<CollectionOperationResponse> {
    Response::new(CollectionOperationResponse { result: done.value, time: done.seconds })
}
