//! The two collections and their payload indexes.

use qdrant_client::qdrant::{
    CreateCollectionBuilder, CreateFieldIndexCollectionBuilder, Distance, FieldType, KeywordIndexParamsBuilder,
    SparseVectorParamsBuilder, SparseVectorsConfigBuilder, VectorParamsBuilder, VectorsConfigBuilder,
};

use super::{Index, payload};
use crate::Error;

/// Sparse vector of both collections: BM25F weights. Without an IDF modifier, for IDF is the tenant's own and comes with
/// the question; the collection's would mix tenants.
pub(super) const WORDS: &str = "words";
/// Dense vectors of a document.
pub(super) const TITLE: &str = "title";
pub(super) const LEAD: &str = "lead";
/// Dense vector of a passage.
pub(super) const TEXT: &str = "text";

impl Index {
    /// Creates what is not there yet.
    pub(crate) async fn ensure_collections(&self) -> Result<(), Error> {
        self.ensure(&self.documents, &[TITLE, LEAD], &[payload::KIND, payload::DOCUMENT, payload::NAMES]).await?;
        self.ensure(&self.passages, &[TEXT], &[payload::KIND, payload::DOCUMENT]).await
    }

    /// Deletes both collections, whether or not they are there.
    pub(crate) async fn drop_collections(&self) -> Result<(), Error> {
        for collection in [&self.passages, &self.documents] {
            if self.client.collection_exists(collection).await? {
                self.client.delete_collection(collection).await?;
            }
        }
        Ok(())
    }

    async fn ensure(&self, collection: &str, dense: &[&str], keywords: &[&str]) -> Result<(), Error> {
        if self.client.collection_exists(collection).await? {
            return Ok(());
        }
        self.known.facts.clear();
        self.known.sketches.clear();
        self.known.placed.clear();
        let mut vectors = VectorsConfigBuilder::default();
        for name in dense {
            vectors.add_named_vector_params(*name, VectorParamsBuilder::new(self.dimensions, Distance::Cosine));
        }
        let mut sparse = SparseVectorsConfigBuilder::default();
        sparse.add_named_vector_params(WORDS, SparseVectorParamsBuilder::default());
        let create = CreateCollectionBuilder::new(collection).vectors_config(vectors).sparse_vectors_config(sparse);
        self.client.create_collection(create).await?;
        let tenant = KeywordIndexParamsBuilder::default().is_tenant(true);
        let field =
            |name: &str| CreateFieldIndexCollectionBuilder::new(collection, name, FieldType::Keyword).wait(true);
        self.client.create_field_index(field(payload::TENANT).field_index_params(tenant)).await?;
        for name in keywords {
            self.client.create_field_index(field(name)).await?;
        }
        Ok(())
    }
}
