//! What a collection is: its vectors and its payload indexes, in both directions.

use std::collections::HashMap;

use qdrant_client::qdrant::payload_index_params::IndexParams;
use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::{
    CollectionConfig, CollectionInfo, CollectionParams, CollectionStatus, CreateCollection, CreateFieldIndexCollection,
    Datatype, Distance as WireDistance, FieldType, Modifier as WireModifier, OptimizerStatus, PayloadSchemaInfo,
    PayloadSchemaType as WireSchema, ShardingMethod, SparseIndexConfig, SparseVectorConfig,
    SparseVectorParams as WireSparse, VectorParams as WireDense, VectorParamsMap, VectorsConfig,
};
use qdrant_edge::{
    DEFAULT_VECTOR_NAME, Distance, EdgeConfig, EdgeSparseVectorParams, EdgeVectorParams, KeywordIndexParams, Modifier,
    PayloadFieldSchema, PayloadSchemaParams, PayloadSchemaType, ShardInfo,
};

use super::refuse;
use crate::Error;

/// Most dimensions of a dense vector, as on a genuine server.
const DIMENSIONS_MAX: u64 = 65_536;

/// The engine's configuration for a new collection.
pub(crate) fn config_from_wire(wire: CreateCollection) -> Result<EdgeConfig, Error> {
    refuse_unsupported(&wire)?;
    let mut config = EdgeConfig::default();
    #[allow(deprecated)]
    if let Some(on_disk_payload) = wire.on_disk_payload {
        config.on_disk_payload = on_disk_payload;
    }
    match wire.vectors_config.and_then(|vectors| vectors.config) {
        None => {}
        Some(Config::Params(params)) => {
            let params = dense_from_wire("vectors_config", params)?;
            config.vectors.insert(DEFAULT_VECTOR_NAME.to_owned(), params);
        }
        Some(Config::ParamsMap(VectorParamsMap { map })) => {
            for (name, params) in map {
                let params = dense_from_wire(&format!("vectors_config.{name}"), params)?;
                config.vectors.insert(name, params);
            }
        }
    }
    for (name, params) in wire.sparse_vectors_config.unwrap_or_default().map {
        let field = format!("sparse_vectors_config.{name}");
        if config.vectors.contains_key(&name) {
            return Err(Error::invalid(field, "a dense vector has this name already"));
        }
        let params = sparse_from_wire(&field, params)?;
        config.sparse_vectors.insert(name, params);
    }
    if config.vectors.is_empty() && config.sparse_vectors.is_empty() {
        return Err(Error::invalid("vectors_config", "a collection needs at least one vector"));
    }
    Ok(config)
}

/// What a client sees of a collection.
pub(crate) fn info_to_wire(config: &EdgeConfig, info: ShardInfo) -> CollectionInfo {
    let payload_schema = info
        .payload_schema
        .into_iter()
        .map(|(key, index)| {
            let schema = PayloadSchemaInfo {
                data_type: schema_type_to_wire(index.data_type).into(),
                params: None,
                points: Some(index.points as u64),
            };
            (key.to_string(), schema)
        })
        .collect();
    CollectionInfo {
        status: CollectionStatus::Green.into(),
        optimizer_status: Some(OptimizerStatus { ok: true, error: String::new() }),
        segments_count: info.segments_count as u64,
        config: Some(CollectionConfig { params: Some(params_to_wire(config)), ..CollectionConfig::default() }),
        payload_schema,
        points_count: Some(info.points_count as u64),
        indexed_vectors_count: Some(info.indexed_vectors_count as u64),
        ..CollectionInfo::default()
    }
}

/// The type of a payload index.
pub(crate) fn index_from_wire(wire: &CreateFieldIndexCollection) -> Result<PayloadFieldSchema, Error> {
    let kind = wire.field_type.ok_or_else(|| Error::invalid("field_type", "is needed")).and_then(|number| {
        FieldType::try_from(number).map_err(|_| Error::invalid("field_type", format!("{number} is unknown")))
    })?;
    let kind = match kind {
        FieldType::Keyword => PayloadSchemaType::Keyword,
        FieldType::Integer => PayloadSchemaType::Integer,
        FieldType::Float => PayloadSchemaType::Float,
        FieldType::Text => PayloadSchemaType::Text,
        FieldType::Bool => PayloadSchemaType::Bool,
        FieldType::Datetime => PayloadSchemaType::Datetime,
        FieldType::Uuid => PayloadSchemaType::Uuid,
        FieldType::Geo => return Err(Error::unsupported("field_type", "a geographic index")),
    };
    let params = wire.field_index_params.as_ref().and_then(|params| params.index_params.as_ref());
    match params {
        None => Ok(PayloadFieldSchema::FieldType(kind)),
        Some(IndexParams::KeywordIndexParams(params)) if kind == PayloadSchemaType::Keyword => {
            keyword_index_from_wire(params)
        }
        Some(_) => Err(Error::unsupported("field_index_params", "a parameter of this index")),
    }
}

fn keyword_index_from_wire(params: &qdrant_client::qdrant::KeywordIndexParams) -> Result<PayloadFieldSchema, Error> {
    refuse(&params.prefix, "field_index_params.prefix", "a prefix index")?;
    refuse(&params.memory, "field_index_params.memory", "a memory placement")?;
    refuse(&params.nested, "field_index_params.nested", "a nested index")?;
    #[allow(deprecated)]
    let on_disk = params.on_disk;
    Ok(PayloadFieldSchema::FieldParams(PayloadSchemaParams::Keyword(KeywordIndexParams {
        is_tenant: params.is_tenant,
        on_disk,
        enable_hnsw: params.enable_hnsw,
        ..KeywordIndexParams::default()
    })))
}

fn refuse_unsupported(wire: &CreateCollection) -> Result<(), Error> {
    refuse(&wire.hnsw_config, "hnsw_config", "an HNSW configuration")?;
    refuse(&wire.wal_config, "wal_config", "a log configuration")?;
    refuse(&wire.optimizers_config, "optimizers_config", "an optimiser configuration")?;
    refuse(&wire.quantization_config, "quantization_config", "quantisation")?;
    refuse(&wire.strict_mode_config, "strict_mode_config", "strict mode")?;
    refuse(&wire.payload, "payload", "a placement of the payload")?;
    refuse(&wire.id_tracker, "id_tracker", "an id tracker configuration")?;
    let single = [
        ("shard_number", wire.shard_number),
        ("replication_factor", wire.replication_factor),
        ("write_consistency_factor", wire.write_consistency_factor),
    ];
    for (field, value) in single {
        if value.is_some_and(|value| value != 1) {
            return Err(Error::unsupported(field, "anything but 1"));
        }
    }
    if wire.sharding_method.is_some_and(|method| method != i32::from(ShardingMethod::Auto)) {
        return Err(Error::unsupported("sharding_method", "custom sharding"));
    }
    if !wire.metadata.is_empty() {
        return Err(Error::unsupported("metadata", "metadata of a collection"));
    }
    Ok(())
}

fn dense_from_wire(field: &str, wire: WireDense) -> Result<EdgeVectorParams, Error> {
    let sub = |name: &str| format!("{field}.{name}");
    if wire.hnsw_config.is_some() {
        return Err(Error::unsupported(sub("hnsw_config"), "an HNSW configuration"));
    }
    if wire.quantization_config.is_some() {
        return Err(Error::unsupported(sub("quantization_config"), "quantisation"));
    }
    if wire.multivector_config.is_some() {
        return Err(Error::unsupported(sub("multivector_config"), "a multi-vector"));
    }
    if wire.memory.is_some() {
        return Err(Error::unsupported(sub("memory"), "a memory placement"));
    }
    refuse_datatype(&sub("datatype"), wire.datatype)?;
    if wire.size == 0 || wire.size > DIMENSIONS_MAX {
        return Err(Error::invalid(sub("size"), format!("must be 1 to {DIMENSIONS_MAX}")));
    }
    let distance = match WireDistance::try_from(wire.distance) {
        Ok(WireDistance::Cosine) => Distance::Cosine,
        Ok(WireDistance::Euclid) => Distance::Euclid,
        Ok(WireDistance::Dot) => Distance::Dot,
        Ok(WireDistance::Manhattan) => Distance::Manhattan,
        Ok(WireDistance::UnknownDistance) | Err(_) => {
            return Err(Error::invalid(sub("distance"), "is needed"));
        }
    };
    #[allow(deprecated)]
    let on_disk = wire.on_disk;
    Ok(EdgeVectorParams {
        size: wire.size as usize,
        distance,
        on_disk,
        multivector_config: None,
        datatype: None,
        quantization_config: None,
        hnsw_config: None,
    })
}

fn sparse_from_wire(field: &str, wire: WireSparse) -> Result<EdgeSparseVectorParams, Error> {
    let modifier = match wire.modifier.map(WireModifier::try_from) {
        None | Some(Ok(WireModifier::None)) => None,
        Some(Ok(WireModifier::Idf)) => Some(Modifier::Idf),
        Some(Err(_)) => return Err(Error::invalid(format!("{field}.modifier"), "is unknown")),
    };
    let index = wire.index.unwrap_or_default();
    if index.memory.is_some() {
        return Err(Error::unsupported(format!("{field}.index.memory"), "a memory placement"));
    }
    refuse_datatype(&format!("{field}.index.datatype"), index.datatype)?;
    let full_scan_threshold = index
        .full_scan_threshold
        .map(usize::try_from)
        .transpose()
        .map_err(|_| Error::invalid(format!("{field}.index.full_scan_threshold"), "is too large"))?;
    #[allow(deprecated)]
    let on_disk = index.on_disk;
    Ok(EdgeSparseVectorParams { full_scan_threshold, on_disk, modifier, datatype: None })
}

fn refuse_datatype(field: &str, datatype: Option<i32>) -> Result<(), Error> {
    match datatype.map(Datatype::try_from) {
        None | Some(Ok(Datatype::Default | Datatype::Float32)) => Ok(()),
        Some(_) => Err(Error::unsupported(field, "anything but 32-bit floats")),
    }
}

fn params_to_wire(config: &EdgeConfig) -> CollectionParams {
    let vectors: HashMap<String, WireDense> =
        config.vectors.iter().map(|(name, params)| (name.clone(), dense_to_wire(params))).collect();
    let vectors = match (vectors.len(), vectors.get(DEFAULT_VECTOR_NAME)) {
        (1, Some(only)) => Config::Params(*only),
        _ => Config::ParamsMap(VectorParamsMap { map: vectors }),
    };
    let sparse: HashMap<String, WireSparse> =
        config.sparse_vectors.iter().map(|(name, params)| (name.clone(), sparse_to_wire(params))).collect();
    #[allow(deprecated)]
    CollectionParams {
        shard_number: 1,
        on_disk_payload: config.on_disk_payload,
        vectors_config: Some(VectorsConfig { config: Some(vectors) }),
        replication_factor: Some(1),
        write_consistency_factor: Some(1),
        sparse_vectors_config: (!sparse.is_empty()).then_some(SparseVectorConfig { map: sparse }),
        ..CollectionParams::default()
    }
}

fn dense_to_wire(params: &EdgeVectorParams) -> WireDense {
    let distance = match params.distance {
        Distance::Cosine => WireDistance::Cosine,
        Distance::Euclid => WireDistance::Euclid,
        Distance::Dot => WireDistance::Dot,
        Distance::Manhattan => WireDistance::Manhattan,
    };
    #[allow(deprecated)]
    WireDense { size: params.size as u64, distance: distance.into(), on_disk: params.on_disk, ..WireDense::default() }
}

fn sparse_to_wire(params: &EdgeSparseVectorParams) -> WireSparse {
    let modifier = match params.modifier {
        Some(Modifier::Idf) => WireModifier::Idf,
        Some(Modifier::None) | None => WireModifier::None,
    };
    #[allow(deprecated)]
    let index = SparseIndexConfig {
        full_scan_threshold: params.full_scan_threshold.map(|threshold| threshold as u64),
        on_disk: params.on_disk,
        ..SparseIndexConfig::default()
    };
    WireSparse { index: Some(index), modifier: Some(modifier.into()) }
}

fn schema_type_to_wire(kind: PayloadSchemaType) -> WireSchema {
    match kind {
        PayloadSchemaType::Keyword => WireSchema::Keyword,
        PayloadSchemaType::Integer => WireSchema::Integer,
        PayloadSchemaType::Float => WireSchema::Float,
        PayloadSchemaType::Geo => WireSchema::Geo,
        PayloadSchemaType::Text => WireSchema::Text,
        PayloadSchemaType::Bool => WireSchema::Bool,
        PayloadSchemaType::Datetime => WireSchema::Datetime,
        PayloadSchemaType::Uuid => WireSchema::Uuid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qdrant_client::qdrant::{
        CreateCollectionBuilder, CreateFieldIndexCollectionBuilder, HnswConfigDiffBuilder, SparseVectorParamsBuilder,
        SparseVectorsConfigBuilder, VectorParamsBuilder, VectorsConfigBuilder,
    };

    fn hybrid() -> CreateCollectionBuilder {
        let mut dense = VectorsConfigBuilder::default();
        dense.add_named_vector_params("dense", VectorParamsBuilder::new(4, WireDistance::Cosine));
        let mut sparse = SparseVectorsConfigBuilder::default();
        sparse.add_named_vector_params("bm25", SparseVectorParamsBuilder::default().modifier(WireModifier::Idf));
        CreateCollectionBuilder::new("c").vectors_config(dense).sparse_vectors_config(sparse)
    }

    #[test]
    fn a_hybrid_collection_is_described_as_it_was_asked_for() {
        let config = config_from_wire(hybrid().build()).expect("a good collection");
        let params = params_to_wire(&config);
        let Some(Config::ParamsMap(vectors)) = params.vectors_config.and_then(|c| c.config) else {
            panic!("named vectors");
        };
        assert_eq!(vectors.map["dense"].size, 4);
        assert_eq!(vectors.map["dense"].distance(), WireDistance::Cosine);
        let sparse = params.sparse_vectors_config.expect("sparse vectors");
        assert_eq!(sparse.map["bm25"].modifier(), WireModifier::Idf);
    }

    #[test]
    fn what_a_collection_cannot_be_is_refused_by_name() {
        let unnamed =
            |size| CreateCollectionBuilder::new("c").vectors_config(VectorParamsBuilder::new(size, WireDistance::Dot));
        let cases = [
            (CreateCollectionBuilder::new("c").build(), "at least one vector"),
            (unnamed(0).build(), "vectors_config.size"),
            (unnamed(65_537).build(), "1 to 65536"),
            (unnamed(4).shard_number(2).build(), "shard_number: anything but 1"),
            (hybrid().hnsw_config(HnswConfigDiffBuilder::default().m(8)).build(), "hnsw_config"),
        ];
        for (wire, expected) in cases {
            let text = config_from_wire(wire).expect_err(expected).to_string();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn payload_indexes_are_taken_or_refused_by_name() {
        let index = |kind| CreateFieldIndexCollectionBuilder::new("c", "tenant", kind).build();
        assert_eq!(
            index_from_wire(&index(FieldType::Keyword)).expect("keyword"),
            PayloadFieldSchema::FieldType(PayloadSchemaType::Keyword)
        );
        assert!(index_from_wire(&index(FieldType::Geo)).is_err());
        assert!(index_from_wire(&CreateFieldIndexCollection::default()).is_err());
    }
}
