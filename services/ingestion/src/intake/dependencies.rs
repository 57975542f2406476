use attain_vocabulary::{EntityId, InvalidValue, TenantId};
use foldhash::HashSet;

use super::{Refused, bounded, kept, sorted};
use crate::domain::{DependencyKey, DependencyTerms, EntityDeclaration, entity_name};
use crate::storage::{DeclaredEdge, Store};
use crate::{Config, Error};

/// A service as declared, and what its `depends_on` list names.
#[derive(Debug, Clone)]
pub(crate) struct ServiceRow {
    pub(crate) declaration: EntityDeclaration,
    pub(crate) depends_on: Vec<String>,
}

/// A graph as it was sent, decoded row by row.
#[derive(Debug)]
pub(crate) struct DependencyRows {
    pub(crate) services: Vec<Result<ServiceRow, InvalidValue>>,
    pub(crate) dependencies: Vec<Result<DeclaredEdge, InvalidValue>>,
    /// Names in all `depends_on` lists together, those of refused services included.
    pub(crate) listed_count: usize,
}

/// What became of a graph.
#[derive(Debug)]
pub(crate) struct DependencyIntake {
    /// Different services kept.
    pub(crate) service_count: usize,
    /// Different edges kept.
    pub(crate) dependency_count: usize,
    pub(crate) refused: Vec<Refused>,
    pub(crate) topology_version: u64,
}

/// Checks and keeps a graph. Each name in a `depends_on` list is a row of its own: a bad one is refused alone, the service
/// and its other edges are kept. The lists of a refused service are not read.
pub(crate) async fn keep_dependencies(
    store: &Store,
    config: &Config,
    tenant: &TenantId,
    rows: DependencyRows,
) -> Result<DependencyIntake, Error> {
    let edge_count = rows.dependencies.len() + rows.listed_count;
    bounded("dependencies", edge_count, config.dependencies_per_request_max)?;

    let mut refused = Vec::new();
    let mut declarations = Vec::with_capacity(rows.services.len());
    let mut edges = Vec::new();
    for (index, service) in sorted("services", rows.services, &mut refused) {
        for edge in listed_edges(&service) {
            match edge {
                Ok(edge) => edges.push(edge),
                Err(invalid) => refused.push(Refused { list: "services", index, invalid }),
            }
        }
        declarations.push(service.declaration);
    }
    refused.sort_by_key(|refused| refused.index);
    let mut explicit = kept("dependencies", rows.dependencies, &mut refused);
    if edges.is_empty() {
        edges = explicit;
    } else {
        edges.append(&mut explicit);
    }

    let services: HashSet<&EntityId> = declarations.iter().map(|declaration| &declaration.id).collect();
    let keys: HashSet<&DependencyKey> = edges.iter().map(|edge| &edge.key).collect();
    let (service_count, dependency_count) = (services.len(), keys.len());
    let topology_version = store.declare(tenant, declarations, edges).await?;
    Ok(DependencyIntake { service_count, dependency_count, refused, topology_version })
}

fn listed_edges(service: &ServiceRow) -> impl Iterator<Item = Result<DeclaredEdge, InvalidValue>> {
    service.depends_on.iter().enumerate().map(|(i, name)| {
        let field = format!("depends_on/{i}");
        let callee = entity_name(&field, name)?;
        let key = DependencyKey::new(service.declaration.id.clone(), callee)
            .map_err(|invalid| InvalidValue { field, ..invalid })?;
        Ok(DeclaredEdge { key, said: DependencyTerms::default(), listed: true })
    })
}
