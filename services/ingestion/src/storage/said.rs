//! What people and the catalogue say of dependencies. A whole organisation's comes in one call, and nothing is counted on it,
//! so all edges of one caller are one row for each source. What is seen of edges has a row each (`dependencies`).

use std::collections::{BTreeMap, BTreeSet};

use attain_runtime::database::Dialect;
use attain_vocabulary::{EntityId, Source, TenantId};
use sqlx::{Any, AssertSqlSafe, Transaction};

use super::changes::ChangeKind;
use super::lines::{Line, Value, all_lines, append, read_lines};
use super::record::{append_terms, decode_terms, entity_id, invalid, source, source_number};
use super::rows::{column, insert_many, select_in, stored};
use super::write::Write;
use crate::Error;
use crate::domain::{DependencyKey, DependencyStatement, DependencyTerms, Sightings};

/// What one source says of the dependencies of one caller: callees in lexical order.
pub(super) type Said = Vec<(EntityId, DependencyTerms)>;

/// What a source says from now on of one caller.
struct Changed {
    caller: EntityId,
    edge_count: usize,
    /// As [`encode`] writes them.
    edges: Vec<u8>,
}

/// As [`read_said`] reads them.
const VALUES: [Value; 3] = [Value::Plain("caller_id"), Value::Plain("source"), Value::Bytes("edges")];
pub(super) const CALLEES: &str = "SELECT edges FROM said_edges WHERE tenant_id = $1 AND caller_id = $2";
/// Callers among whose edges such bytes are.
pub(super) fn callers(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "SELECT caller_id, edges FROM said_edges WHERE tenant_id = $1 AND INSTR(edges, $2) > 0",
        Dialect::Postgres => {
            "SELECT caller_id, edges FROM said_edges WHERE tenant_id = $1 AND POSITION($2 IN edges) > 0"
        }
    }
}

/// Everything that is said in a tenant.
pub(super) fn said_lines(dialect: Dialect) -> String {
    format!("SELECT {} FROM said_edges WHERE tenant_id = $1", all_lines(dialect, &VALUES))
}

/// What one source says of one caller's dependencies, as it is stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct SaidRow<'r> {
    pub(super) caller: &'r str,
    pub(super) source: Source,
    edges: &'r [u8],
}

impl SaidRow<'_> {
    /// Its edges as statements; `named` makes ids of names.
    pub(super) fn statements(
        &self,
        named: impl Fn(&str) -> Result<EntityId, Error>,
        mut take: impl FnMut(DependencyStatement),
    ) -> Result<(), Error> {
        let caller = named(self.caller)?;
        let mut line = Line::new(self.edges);
        while !line.is_empty() {
            let (callee, terms) = decode_edge(&mut line, &named)?;
            let key = DependencyKey::new(caller.clone(), callee).map_err(invalid)?;
            take(DependencyStatement { key, source: self.source, terms, sightings: Sightings::default() });
        }
        Ok(())
    }
}

/// What [`said_lines`] selected, in lexical order of callers.
pub(super) fn read_said(rows: &[sqlx::any::AnyRow]) -> Result<Vec<SaidRow<'_>>, Error> {
    let mut said = read_lines(rows, |line| {
        Ok(SaidRow { caller: line.text()?, source: source(line.number()?)?, edges: line.bytes()? })
    })?;
    said.sort_by_key(|row| row.caller);
    Ok(said)
}

/// Callees and callers of a service, as anybody says.
pub(super) async fn neighbours(
    transaction: &mut Transaction<'static, Any>,
    dialect: Dialect,
    (tenant, service): (&TenantId, &EntityId),
) -> Result<(BTreeSet<String>, BTreeSet<String>), Error> {
    let rows = sqlx::query(CALLEES).bind(tenant.as_str()).bind(service.as_str()).fetch_all(&mut **transaction).await?;
    let mut callees = BTreeSet::new();
    for row in &rows {
        callees.extend(decode(column(row, "edges")?, entity_id)?.into_iter().map(|(callee, _)| callee.to_string()));
    }
    let mut named = Vec::new();
    append(&mut named, service.as_str().as_bytes());
    let rows = sqlx::query(callers(dialect)).bind(tenant.as_str()).bind(named).fetch_all(&mut **transaction).await?;
    let mut callers = BTreeSet::new();
    for row in &rows {
        // A longer name may hold the same bytes.
        if decode(column(row, "edges")?, entity_id)?.iter().any(|(callee, _)| callee == service) {
            callers.insert(column(row, "caller_id")?);
        }
    }
    Ok((callees, callers))
}

impl Write {
    /// Reads what `source` says of the dependencies of callers, lets `update` change it, and writes what differs.
    ///
    /// # Errors
    /// [`Error::TenantFull`], or where storage does not answer.
    pub(super) async fn update_said(
        &mut self,
        source: Source,
        callers: &BTreeSet<EntityId>,
        update: impl Fn(&EntityId, &mut Said) + Send + Sync,
    ) -> Result<(), Error> {
        let known = self.said(source, callers).await?;
        let after = callers.iter().map(|caller| {
            let mut said = known.get(caller).cloned().unwrap_or_default();
            update(caller, &mut said);
            (caller.clone(), said)
        });
        self.replace_said(source, &known, after).await
    }

    /// Makes what `source` says of all callers `wanted`.
    ///
    /// # Errors
    /// [`Error::TenantFull`], or where storage does not answer.
    pub(super) async fn replace_all_said(
        &mut self,
        source: Source,
        mut wanted: BTreeMap<EntityId, Said>,
    ) -> Result<(), Error> {
        let known = self.all_said(source).await?;
        for caller in known.keys() {
            wanted.entry(caller.clone()).or_default();
        }
        self.replace_said(source, &known, wanted.into_iter()).await
    }

    async fn said(&mut self, source: Source, callers: &BTreeSet<EntityId>) -> Result<BTreeMap<EntityId, Said>, Error> {
        if self.are_most(callers.len()).await? {
            let mut said = self.all_said(source).await?;
            said.retain(|caller, _| callers.contains(caller));
            return Ok(said);
        }
        let keys: Vec<&str> = callers.iter().map(EntityId::as_str).collect();
        let tenant = self.tenant.clone();
        let rows = select_in(
            &mut self.transaction,
            (&format!("{} AND source = $2 AND caller_id IN", said_lines(self.dialect)), 2),
            &keys,
            |query| query.bind(tenant.clone()).bind(source_number(source)),
            |query, caller| query.bind(caller.to_owned()),
        )
        .await?;
        by_caller(&rows)
    }

    async fn all_said(&mut self, source: Source) -> Result<BTreeMap<EntityId, Said>, Error> {
        let rows = sqlx::query(AssertSqlSafe(format!("{} AND source = $2", said_lines(self.dialect))))
            .bind(self.tenant.clone())
            .bind(source_number(source))
            .fetch_all(&mut *self.transaction)
            .await?;
        by_caller(&rows)
    }

    async fn replace_said(
        &mut self,
        source: Source,
        known: &BTreeMap<EntityId, Said>,
        after: impl Iterator<Item = (EntityId, Said)> + Send,
    ) -> Result<(), Error> {
        let none = Said::new();
        let (mut changed, mut gone, mut come) = (Vec::with_capacity(after.size_hint().0), 0, 0);
        for (caller, said) in after {
            let before = known.get(&caller).unwrap_or(&none);
            if said != *before {
                (gone, come) = (gone + before.len(), come + said.len());
                changed.push(Changed { caller, edge_count: said.len(), edges: encode(&said) });
            }
        }
        // An edge that goes makes room for one that comes.
        if come > gone && come - gone > self.edge_room().await? {
            return Err(Error::TenantFull { what: "dependencies", max: self.capacity.dependencies_max });
        }
        changed.iter().for_each(|changed| self.changed(ChangeKind::Topology, &changed.caller));
        let tenant = self.tenant.clone();
        let is_silent = |changed: &&Changed| changed.edge_count == 0;
        let silent: Vec<&str> = changed.iter().filter(is_silent).map(|changed| changed.caller.as_str()).collect();
        select_in(
            &mut self.transaction,
            ("DELETE FROM said_edges WHERE tenant_id = $1 AND source = $2 AND caller_id IN", 2),
            &silent,
            |query| query.bind(tenant.clone()).bind(source_number(source)),
            |query, caller| query.bind(caller.to_owned()),
        )
        .await?;
        changed.retain(|changed| changed.edge_count > 0);
        let sql = (
            "INSERT INTO said_edges (tenant_id, caller_id, source, edge_count, edges)",
            5,
            "ON CONFLICT (tenant_id, caller_id, source) DO UPDATE SET edge_count = excluded.edge_count, \
             edges = excluded.edges",
        );
        insert_many(&mut self.transaction, self.dialect, sql, &changed, |query, changed| {
            query
                .bind(tenant.clone())
                .bind(changed.caller.as_str().to_owned())
                .bind(source_number(source))
                .bind(stored(changed.edge_count as u64))
                .bind(changed.edges.clone())
        })
        .await?;
        Ok(())
    }
}

fn by_caller(rows: &[sqlx::any::AnyRow]) -> Result<BTreeMap<EntityId, Said>, Error> {
    let read = read_lines(rows, |line| {
        let caller = entity_id(line.text()?)?;
        source(line.number()?)?;
        Ok((caller, decode(line.bytes()?, entity_id)?))
    })?;
    Ok(read.into_iter().collect())
}

/// Each callee and what is said of the edge to it.
fn encode(said: &Said) -> Vec<u8> {
    // What most edges take.
    let mut edges = Vec::with_capacity(64 * said.len());
    for (callee, terms) in said {
        append(&mut edges, callee.as_str().as_bytes());
        append_terms(&mut edges, terms);
    }
    edges
}

pub(super) fn decode(edges: &[u8], named: impl Fn(&str) -> Result<EntityId, Error>) -> Result<Said, Error> {
    let (mut line, mut said) = (Line::new(edges), Said::new());
    while !line.is_empty() {
        said.push(decode_edge(&mut line, &named)?);
    }
    Ok(said)
}

fn decode_edge(
    line: &mut Line<'_>,
    named: impl Fn(&str) -> Result<EntityId, Error>,
) -> Result<(EntityId, DependencyTerms), Error> {
    Ok((named(line.text()?)?, decode_terms(line.bytes()?)?))
}
