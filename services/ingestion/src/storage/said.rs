//! What people and the catalogue say of dependencies. A whole organisation's comes in one call, and nothing is counted on it,
//! so all edges of one caller are one row for each source. What is seen of edges has a row each (`dependencies`).

use std::collections::{BTreeMap, BTreeSet};

use attain_runtime::database::Dialect;
use attain_vocabulary::{EntityId, Source, TenantId};
use sqlx::{Any, AssertSqlSafe, Transaction};

use super::changes::ChangeKind;
use super::lines::{Line, Value, all_lines, append, read_lines};
use super::record::{decode_terms, encode_terms, entity_id, invalid, source, source_number};
use super::rows::{column, insert_many, select_in, stored};
use super::write::Write;
use crate::Error;
use crate::domain::{DependencyKey, DependencyStatement, DependencyTerms, Sightings};

/// What one source says of the dependencies of one caller: callees in lexical order.
pub(super) type Said = Vec<(EntityId, DependencyTerms)>;

/// As [`read_statements`] reads them.
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

/// What [`said_lines`] selected; `named` makes ids of names.
pub(super) fn read_statements(
    rows: &[sqlx::any::AnyRow],
    named: impl Fn(&str) -> Result<EntityId, Error>,
) -> Result<Vec<DependencyStatement>, Error> {
    let of_callers = read_lines(rows, |line| {
        let (caller, source) = (named(line.text()?)?, source(line.number()?)?);
        let statement = |(callee, terms)| {
            let key = DependencyKey::new(caller.clone(), callee).map_err(invalid)?;
            Ok(DependencyStatement { key, source, terms, sightings: Sightings::default() })
        };
        decode(line.bytes()?, &named)?.into_iter().map(statement).collect::<Result<Vec<_>, Error>>()
    })?;
    Ok(of_callers.into_iter().flatten().collect())
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
        update: impl Fn(&EntityId, &mut Said) + Send,
    ) -> Result<(), Error> {
        let known = self.said(source, callers).await?;
        let after = callers.iter().map(|caller| {
            let mut said = known.get(caller).cloned().unwrap_or_default();
            update(caller, &mut said);
            (caller.clone(), said)
        });
        let after = after.collect();
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
        self.replace_said(source, &known, wanted.into_iter().collect()).await
    }

    async fn said(&mut self, source: Source, callers: &BTreeSet<EntityId>) -> Result<BTreeMap<EntityId, Said>, Error> {
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
        after: Vec<(EntityId, Said)>,
    ) -> Result<(), Error> {
        let none = Said::new();
        let before = |caller: &EntityId| known.get(caller).unwrap_or(&none);
        let changed: Vec<(EntityId, Said)> =
            after.into_iter().filter(|(caller, said)| said != before(caller)).collect();
        // An edge that goes makes room for one that comes.
        let gone: usize = changed.iter().map(|(caller, _)| before(caller).len()).sum();
        let come: usize = changed.iter().map(|(_, said)| said.len()).sum();
        if come > gone && come - gone > self.edge_room().await? {
            return Err(Error::TenantFull { what: "dependencies", max: self.capacity.dependencies_max });
        }
        changed.iter().for_each(|(caller, _)| self.changed(ChangeKind::Topology, caller));
        let (silent, saying): (Vec<_>, Vec<_>) = changed.into_iter().partition(|(_, said)| said.is_empty());
        let tenant = self.tenant.clone();
        let silent: Vec<&str> = silent.iter().map(|(caller, _)| caller.as_str()).collect();
        select_in(
            &mut self.transaction,
            ("DELETE FROM said_edges WHERE tenant_id = $1 AND source = $2 AND caller_id IN", 2),
            &silent,
            |query| query.bind(tenant.clone()).bind(source_number(source)),
            |query, caller| query.bind(caller.to_owned()),
        )
        .await?;
        let sql = (
            "INSERT INTO said_edges (tenant_id, caller_id, source, edge_count, edges)",
            5,
            "ON CONFLICT (tenant_id, caller_id, source) DO UPDATE SET edge_count = excluded.edge_count, \
             edges = excluded.edges",
        );
        insert_many(&mut self.transaction, self.dialect, sql, &saying, |query, (caller, said)| {
            query
                .bind(tenant.clone())
                .bind(caller.as_str().to_owned())
                .bind(source_number(source))
                .bind(stored(said.len() as u64))
                .bind(encode(said))
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
    let mut edges = Vec::new();
    for (callee, terms) in said {
        append(&mut edges, callee.as_str().as_bytes());
        append(&mut edges, &encode_terms(terms));
    }
    edges
}

pub(super) fn decode(edges: &[u8], named: impl Fn(&str) -> Result<EntityId, Error>) -> Result<Said, Error> {
    let (mut line, mut said) = (Line::new(edges), Said::new());
    while !line.is_empty() {
        said.push((named(line.text()?)?, decode_terms(line.bytes()?)?));
    }
    Ok(said)
}
