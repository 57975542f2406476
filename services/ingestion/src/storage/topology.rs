//! The topology of a tenant, as a whole or as what changed since a version that somebody holds.
//!
//! A row of the whole rests on what is kept of one service alone: a node on its entity, an edge on what its caller's sources
//! say of it and on the caller's requests. Whoever writes any of that notes a change of that service's topology
//! ([`Write::changed`](super::write::Write::changed)), so what changed since a version is what the change log says. What else
//! a row rests on are the settings and the code of this process: a version of before the last start is answered as a whole.

use std::collections::BTreeSet;

use attain_runtime::database::Dialect;
use attain_vocabulary::{EntityId, TenantId};
use foldhash::HashMap;
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Transaction};

use super::Store;
use super::dependencies::{read_statement, statement_lines};
use super::entities::{are_most, entity_lines, read_entity_line};
use super::epochs;
use super::lines::{Value, all_lines, read_lines};
use super::record::entity_id;
use super::rows::{count, select_in, stored};
use super::said::{SaidRow, read_said, said_lines};
use crate::Error;
use crate::domain::{CallerRequests, Dependency, DependencyStatement, Entity, RequestDays, merge_statements};

/// Everything that is known of a tenant's topology at one version.
#[derive(Debug, Clone, PartialEq)]
pub struct Topology {
    /// Sequence number of the newest topology change that it holds; 0 for none.
    pub version: u64,
    /// In lexical order.
    pub entities: Vec<Entity>,
    /// In lexical order of caller and callee.
    pub dependencies: Vec<Dependency>,
}

/// The version that somebody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldVersion<'a> {
    /// Sequence number; 0 for none.
    pub version: u64,
    /// The epoch that it was handed out with.
    pub epoch: &'a str,
}

/// What was handed out of a topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedTopology {
    /// Sequence number of the newest topology change in it; 0 for none.
    pub version: u64,
    /// The epoch to hold it with: that of the newest start.
    pub epoch: String,
    /// Of a part, the services whose entities and outgoing edges were handed out, in lexical order, those included that are
    /// gone; `None` for the whole.
    pub changed: Option<BTreeSet<EntityId>>,
}

/// Rows as they were read.
struct Read {
    entities: Vec<AnyRow>,
    seen: Vec<AnyRow>,
    said: Vec<AnyRow>,
}

/// Services whose topology changed after a version. The kind is that of [`ChangeKind::Topology`](super::ChangeKind): as it
/// stands here it is the condition of an index.
pub(super) fn changed_lines(dialect: Dialect) -> String {
    let service = all_lines(dialect, &[Value::Plain("service_id")]);
    format!("SELECT {service} FROM changes WHERE tenant_id = $1 AND kind = 1 AND sequence > $2")
}

impl Store {
    /// Everything that is known of the tenant's topology.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn topology(&self, tenant: &TenantId) -> Result<Topology, Error> {
        let (mut entities, mut dependencies) = (Vec::new(), Vec::new());
        let (node, edge) = (|entity| entities.push(entity), |dependency| dependencies.push(dependency));
        let version = self.visit_topology(tenant, None, node, edge).await?.version;
        Ok(Topology { version, entities, dependencies })
    }

    /// Hands out the tenant's topology, edges and nodes in lexical order, without all edges ever being in memory as structures:
    /// what changed since the version that is held, or the whole where that cannot be told or where so much changed that the
    /// whole is less work.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn visit_topology(
        &self,
        tenant: &TenantId,
        held: Option<HeldVersion<'_>>,
        node: impl FnMut(Entity) + Send,
        edge: impl FnMut(Dependency) + Send,
    ) -> Result<HandedTopology, Error> {
        let mut transaction = self.begin_read().await?;
        let version = sqlx::query("SELECT topology_version FROM tenants WHERE tenant_id = $1")
            .bind(tenant.as_str())
            .fetch_optional(&mut *transaction)
            .await?;
        let version = version.map_or(Ok(0), |row| count(&row, "topology_version"))?;
        let epoch = epochs::newest(&mut transaction).await?;
        let dialect = self.database.dialect();
        let base = held.filter(|held| (1..=version).contains(&held.version) && held.epoch == epoch);
        let changed = match base {
            Some(base) => changed_since(&mut transaction, dialect, tenant, base.version).await?,
            None => None,
        };
        let read = read(&mut transaction, dialect, tenant, changed.as_ref()).await?;
        transaction.commit().await?;
        self.hand_out(&read, node, edge)?;
        Ok(HandedTopology { version, epoch, changed })
    }

    fn hand_out(&self, read: &Read, node: impl FnMut(Entity), edge: impl FnMut(Dependency)) -> Result<(), Error> {
        let mut entities = read_lines(&read.entities, read_entity_line)?;
        entities.sort_by(|a, b| a.id.cmp(&b.id));
        let known: HashMap<&str, &EntityId> = entities.iter().map(|entity| (entity.id.as_str(), &entity.id)).collect();
        let named = |name: &str| known.get(name).map_or_else(|| entity_id(name), |id| Ok((*id).clone()));
        let mut seen = read_lines(&read.seen, |line| read_statement(line, named))?;
        seen.sort_by(|a, b| a.key.caller().cmp(b.key.caller()));
        merge((&read_said(&read.said)?, seen), &entities, named, self.capacity.call_rate_days, edge)?;
        entities.into_iter().for_each(node);
        Ok(())
    }
}

/// `None` where so many changed that the whole is less work.
async fn changed_since(
    transaction: &mut Transaction<'static, Any>,
    dialect: Dialect,
    tenant: &TenantId,
    version: u64,
) -> Result<Option<BTreeSet<EntityId>>, Error> {
    let rows = sqlx::query(AssertSqlSafe(changed_lines(dialect)))
        .bind(tenant.as_str())
        .bind(stored(version))
        .fetch_all(&mut **transaction)
        .await?;
    let changed: BTreeSet<EntityId> = read_lines(&rows, |line| entity_id(line.text()?))?.into_iter().collect();
    let most = are_most(transaction, tenant.as_str(), changed.len()).await?;
    Ok((!most).then_some(changed))
}

/// What is kept of some services, or of all.
async fn read(
    transaction: &mut Transaction<'static, Any>,
    dialect: Dialect,
    tenant: &TenantId,
    services: Option<&BTreeSet<EntityId>>,
) -> Result<Read, Error> {
    let services: Option<Vec<&str>> = services.map(|services| services.iter().map(EntityId::as_str).collect());
    let services = services.as_deref();
    Ok(Read {
        entities: lines_of(transaction, &entity_lines(dialect), tenant, ("id", services)).await?,
        seen: lines_of(transaction, &statement_lines(dialect), tenant, ("caller_id", services)).await?,
        said: lines_of(transaction, &said_lines(dialect), tenant, ("caller_id", services)).await?,
    })
}

async fn lines_of(
    transaction: &mut Transaction<'static, Any>,
    lines: &str,
    tenant: &TenantId,
    (column, services): (&str, Option<&[&str]>),
) -> Result<Vec<AnyRow>, Error> {
    let Some(services) = services else {
        let all = sqlx::query(AssertSqlSafe(lines.to_owned())).bind(tenant.as_str());
        return Ok(all.fetch_all(&mut **transaction).await?);
    };
    let tenant = tenant.as_str();
    select_in(
        transaction,
        (&format!("{lines} AND {column} IN"), 1),
        services,
        |query| query.bind(tenant.to_owned()),
        |query, service| query.bind(service.to_owned()),
    )
    .await
}

/// Hands out what the sources say of each edge together, in lexical order of caller and callee. What is said and what was seen
/// comes in the order of callers: those of one caller at a time are in memory as statements.
fn merge(
    (mut said, seen): (&[SaidRow<'_>], Vec<DependencyStatement>),
    entities: &[Entity],
    named: impl Fn(&str) -> Result<EntityId, Error>,
    window_days: u32,
    mut edge: impl FnMut(Dependency),
) -> Result<(), Error> {
    let requests: HashMap<&str, &RequestDays> =
        entities.iter().map(|entity| (entity.id.as_str(), &entity.request_days)).collect();
    let none = RequestDays::new();
    let mut of_caller = Vec::new();
    let mut seen = seen.into_iter().peekable();
    loop {
        let heads = (said.first().map(|row| row.caller), seen.peek().map(|statement| statement.key.caller()));
        let caller = match heads {
            (None, None) => return Ok(()),
            (Some(caller), None) => caller.to_owned(),
            (None, Some(caller)) => caller.to_string(),
            (Some(said), Some(seen)) => said.min(seen.as_str()).to_owned(),
        };
        let (of_this, rest) = said.split_at(said.iter().take_while(|row| row.caller == caller).count());
        said = rest;
        for row in of_this {
            row.statements(&named, |statement| of_caller.push(statement))?;
        }
        of_caller.extend(std::iter::from_fn(|| seen.next_if(|next| next.key.caller().as_str() == caller)));
        of_caller.sort_by(|a, b| a.key.callee().cmp(b.key.callee()));
        let days = requests.get(caller.as_str()).copied().unwrap_or(&none);
        let of_edges = of_caller.chunk_by_mut(|a, b| a.key.callee() == b.key.callee());
        of_edges
            .filter_map(|of_edge| merge_statements(of_edge, CallerRequests { days, window_days }))
            .for_each(&mut edge);
        of_caller.clear();
    }
}
