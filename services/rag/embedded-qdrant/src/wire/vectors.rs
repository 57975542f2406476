//! Dense and sparse vectors, in both shapes that clients send, and what is returned of them.

use std::collections::{BTreeMap, HashMap};

use qdrant_client::qdrant::vectors::VectorsOptions;
use qdrant_client::qdrant::with_vectors_selector::SelectorOptions;
use qdrant_client::qdrant::{
    DenseVector, NamedVectorsOutput, SparseVector as WireSparse, Vector, VectorOutput, Vectors, VectorsOutput,
    WithVectorsSelector, vector, vector_output, vectors_output,
};
use qdrant_edge::{
    DEFAULT_VECTOR_NAME, SparseVector, VectorInternal, VectorPersisted, VectorStructInternal, WithVector,
};

use crate::Error;

/// The vectors of one point by name; a vector without a name has the empty one.
pub(crate) fn vectors_from_wire(
    field: &str,
    vectors: Option<Vectors>,
) -> Result<BTreeMap<String, VectorPersisted>, Error> {
    let Some(options) = vectors.and_then(|vectors| vectors.vectors_options) else {
        return Ok(BTreeMap::new());
    };
    match options {
        VectorsOptions::Vector(vector) => {
            Ok(BTreeMap::from([(DEFAULT_VECTOR_NAME.to_owned(), vector_from_wire(field, vector)?)]))
        }
        VectorsOptions::Vectors(named) => named
            .vectors
            .into_iter()
            .map(|(name, vector)| {
                let vector = vector_from_wire(&format!("{field}.{name}"), vector)?;
                Ok((name, vector))
            })
            .collect(),
    }
}

/// Checks a dense vector: not empty, finite.
pub(crate) fn dense(field: &str, values: Vec<f32>) -> Result<Vec<f32>, Error> {
    if values.is_empty() {
        return Err(Error::invalid(field, "a dense vector needs at least one value"));
    }
    refuse_non_finite(field, &values)?;
    Ok(values)
}

/// Checks a sparse vector (as many values as indices, no index twice, finite) and sorts it by index.
pub(crate) fn sparse(field: &str, indices: Vec<u32>, values: Vec<f32>) -> Result<SparseVector, Error> {
    if indices.len() != values.len() {
        return Err(Error::invalid(field, format!("{} indices but {} values", indices.len(), values.len())));
    }
    refuse_non_finite(field, &values)?;
    let mut entries: Vec<(u32, f32)> = indices.into_iter().zip(values).collect();
    entries.sort_by_key(|(index, _)| *index);
    if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Error::invalid(field, format!("index {} occurs twice", pair[0].0)));
    }
    let (indices, values) = entries.into_iter().unzip();
    Ok(SparseVector { indices, values })
}

/// Which vectors to return; none where the request does not say.
pub(crate) fn vector_selector_from_wire(selector: Option<WithVectorsSelector>) -> WithVector {
    match selector.and_then(|selector| selector.selector_options) {
        None => WithVector::Bool(false),
        Some(SelectorOptions::Enable(enable)) => WithVector::Bool(enable),
        Some(SelectorOptions::Include(include)) => WithVector::Selector(include.names),
    }
}

/// The vectors of a stored point, for the answer.
pub(crate) fn vectors_to_wire(vectors: Option<VectorStructInternal>) -> Option<VectorsOutput> {
    let options = match vectors? {
        VectorStructInternal::Single(values) => {
            vectors_output::VectorsOptions::Vector(output(vector_output::Vector::Dense(DenseVector { data: values })))
        }
        VectorStructInternal::Named(named) => named_to_wire(named),
        // A collection with multi-vectors cannot be created here.
        VectorStructInternal::MultiDense(_) => return None,
    };
    Some(VectorsOutput { vectors_options: Some(options) })
}

fn named_to_wire(named: HashMap<String, VectorInternal>) -> vectors_output::VectorsOptions {
    let mut outputs: HashMap<String, VectorOutput> =
        named.into_iter().filter_map(|(name, vector)| Some((name, vector_to_wire(vector)?))).collect();
    if outputs.len() == 1
        && let Some(only) = outputs.remove(DEFAULT_VECTOR_NAME)
    {
        return vectors_output::VectorsOptions::Vector(only);
    }
    vectors_output::VectorsOptions::Vectors(NamedVectorsOutput { vectors: outputs })
}

fn vector_to_wire(vector: VectorInternal) -> Option<VectorOutput> {
    match vector {
        VectorInternal::Dense(data) => Some(output(vector_output::Vector::Dense(DenseVector { data }))),
        VectorInternal::Sparse(SparseVector { indices, values }) => {
            Some(output(vector_output::Vector::Sparse(WireSparse { values, indices })))
        }
        VectorInternal::MultiDense(_) => None,
    }
}

fn output(vector: vector_output::Vector) -> VectorOutput {
    VectorOutput { vector: Some(vector), ..VectorOutput::default() }
}

fn vector_from_wire(field: &str, wire: Vector) -> Result<VectorPersisted, Error> {
    match wire.vector {
        Some(vector::Vector::Dense(DenseVector { data })) => Ok(VectorPersisted::Dense(dense(field, data)?)),
        Some(vector::Vector::Sparse(WireSparse { values, indices })) => {
            Ok(VectorPersisted::Sparse(sparse(field, indices, values)?))
        }
        Some(vector::Vector::MultiDense(_)) => Err(Error::unsupported(field, "a multi-vector")),
        Some(vector::Vector::Document(_) | vector::Vector::Image(_) | vector::Vector::Object(_)) => {
            Err(Error::unsupported(field, "inference on the server"))
        }
        None => legacy_vector_from_wire(field, wire),
    }
}

/// The shape of before 1.16, which `Vector::from(Vec<f32>)` of the client still sends.
#[allow(deprecated)]
fn legacy_vector_from_wire(field: &str, wire: Vector) -> Result<VectorPersisted, Error> {
    if wire.vectors_count.is_some() {
        return Err(Error::unsupported(field, "a multi-vector"));
    }
    match wire.indices {
        Some(indices) => Ok(VectorPersisted::Sparse(sparse(field, indices.data, wire.data)?)),
        None => Ok(VectorPersisted::Dense(dense(field, wire.data)?)),
    }
}

fn refuse_non_finite(field: &str, values: &[f32]) -> Result<(), Error> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::invalid(field, format!("value {index} is not a finite number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparse_vector_is_sorted_by_index() {
        let vector = sparse("v", vec![9, 2, 5], vec![0.9, 0.2, 0.5]).expect("a good vector");
        assert_eq!(vector.indices, [2, 5, 9]);
        assert_eq!(vector.values, [0.2, 0.5, 0.9]);
    }

    #[test]
    fn malformed_vectors_are_refused_with_the_reason() {
        let cases = [
            (sparse("v", vec![1, 1], vec![0.1, 0.2]).err(), "twice"),
            (sparse("v", vec![1], vec![0.1, 0.2]).err(), "1 indices but 2 values"),
            (sparse("v", vec![1], vec![f32::NAN]).err(), "not a finite number"),
            (dense("v", vec![]).err(), "at least one"),
            (dense("v", vec![0.0, f32::INFINITY]).err(), "value 1 is not"),
        ];
        for (refusal, reason) in cases {
            let text = refusal.expect(reason).to_string();
            assert!(text.contains(reason), "{text}");
        }
    }

    #[test]
    fn both_shapes_of_a_vector_mean_the_same() {
        let modern =
            Vector { vector: Some(vector::Vector::Dense(DenseVector { data: vec![1.0, 2.0] })), ..Vector::default() };
        let expected = VectorPersisted::Dense(vec![1.0, 2.0]);
        assert_eq!(vector_from_wire("v", modern).expect("modern"), expected);
        assert_eq!(vector_from_wire("v", vec![1.0, 2.0].into()).expect("legacy"), expected);
    }
}
