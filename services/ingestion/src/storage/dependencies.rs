use std::collections::{BTreeMap, BTreeSet, HashSet};

use attain_runtime::database::Dialect;
use attain_vocabulary::{EntityId, Source, TenantId};
use sqlx::AssertSqlSafe;

use super::Store;
use super::changes::ChangeKind;
use super::entities::{WhenFull, entity_lines, read_entity_line};
use super::lines::{Line, Value, all_lines, read_lines};
use super::record::{
    decode_call_days, decode_histogram, decode_terms, encode_call_days, encode_histogram, encode_terms, entity_id,
    invalid, source, source_number,
};
use super::rows::{Row, count, insert_many, select_in, stored};
use super::write::Write;
use crate::Error;
use crate::domain::{
    CallerRequests, Dependency, DependencyKey, DependencyStatement, DependencyTerms, Entity, EntityDeclaration,
    RequestDays, Sightings, merge_statements,
};

/// An edge as declared: what is said of it, and whether a `depends_on` list names it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclaredEdge {
    /// Caller and callee.
    pub key: DependencyKey,
    /// What is said; what is left out keeps its stored value.
    pub said: DependencyTerms,
    /// Whether it is hard where nothing else is or was declared.
    pub listed: bool,
}

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

/// As [`read_statement`] reads them.
const VALUES: [Value; 13] = [
    Value::Plain("caller_id"),
    Value::Plain("callee_id"),
    Value::Plain("source"),
    Value::Bytes("terms"),
    Value::OptionalNumber("first_seen_ms"),
    Value::OptionalNumber("last_seen_ms"),
    Value::Plain("call_count"),
    Value::Plain("calling_request_count"),
    Value::OptionalNumber("failure_count"),
    Value::OptionalNumber("rescued_count"),
    Value::OptionalNumber("retry_count"),
    Value::OptionalBytes("latency"),
    Value::OptionalBytes("call_days"),
];

pub(super) type Statements = BTreeMap<DependencyKey, DependencyStatement>;

impl Store {
    /// Adds or updates services and edges. Nodes that only an edge names are created. The topology version after it.
    ///
    /// # Errors
    /// [`Error::TenantFull`], or where storage does not answer.
    pub async fn declare(
        &self,
        tenant: &TenantId,
        entities: Vec<EntityDeclaration>,
        edges: Vec<DeclaredEdge>,
    ) -> Result<u64, Error> {
        let mut write = self.begin_write(tenant).await?;
        let mut said: BTreeMap<EntityId, Vec<EntityDeclaration>> = BTreeMap::new();
        for declaration in entities {
            said.entry(declaration.id.clone()).or_default().push(declaration);
        }
        let ends = edges.iter().flat_map(|edge| [edge.key.caller(), edge.key.callee()]);
        // Most are named several times, and to compare names is what sorting costs.
        let ids: HashSet<&EntityId> = said.keys().chain(ends).collect();
        let ids: BTreeSet<EntityId> = ids.into_iter().cloned().collect();
        write
            .update_entities(&ids, WhenFull::Refuse, |entity| {
                for declaration in said.get(&entity.id).into_iter().flatten() {
                    entity.declare(declaration.clone());
                }
                if entity.known_from_catalogue_at_most() {
                    entity.sources.insert(Source::Declared);
                }
            })
            .await?;
        let terms = one_for_each_key(edges);
        let keys = terms.keys().cloned().collect();
        write
            .update_statements(&keys, Source::Declared, WhenFull::Refuse, |statement| {
                let Some((said, listed)) = terms.get(&statement.key) else { return };
                let shorthand = if *listed { DependencyTerms::hard() } else { DependencyTerms::default() };
                statement.terms = said.clone().or(std::mem::take(&mut statement.terms)).or(shorthand);
            })
            .await?;
        write.commit().await
    }

    /// Everything that is known of the tenant's topology.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn topology(&self, tenant: &TenantId) -> Result<Topology, Error> {
        let mut transaction = self.begin_read().await?;
        let version = sqlx::query("SELECT topology_version FROM tenants WHERE tenant_id = $1")
            .bind(tenant.as_str())
            .fetch_optional(&mut *transaction)
            .await?;
        let dialect = self.database.dialect();
        let entities = sqlx::query(AssertSqlSafe(entity_lines(dialect)))
            .bind(tenant.as_str())
            .fetch_all(&mut *transaction)
            .await?;
        let statements = sqlx::query(AssertSqlSafe(statement_lines(dialect)))
            .bind(tenant.as_str())
            .fetch_all(&mut *transaction)
            .await?;
        transaction.commit().await?;
        let mut entities = read_lines(&entities, read_entity_line)?;
        entities.sort_by(|a, b| a.id.cmp(&b.id));
        let window_days = self.capacity.call_rate_days;
        let dependencies = merged(&entities, read_lines(&statements, read_statement)?, window_days);
        let version = version.map_or(Ok(0), |row| count(&row, "topology_version"))?;
        Ok(Topology { version, entities, dependencies })
    }
}

impl Write {
    /// Reads what `source` says of edges, new ones empty, lets `update` change each, and writes those that differ. The edges
    /// left out because the tenant is full.
    pub(super) async fn update_statements(
        &mut self,
        keys: &BTreeSet<DependencyKey>,
        source: Source,
        when_full: WhenFull,
        update: impl Fn(&mut DependencyStatement) + Send,
    ) -> Result<BTreeSet<DependencyKey>, Error> {
        let known = self.statements(keys, source).await?;
        self.change_statements(&known, keys, source, when_full, update).await
    }

    /// The same where what is known was read already.
    pub(super) async fn change_statements(
        &mut self,
        known: &Statements,
        keys: &BTreeSet<DependencyKey>,
        source: Source,
        when_full: WhenFull,
        update: impl Fn(&mut DependencyStatement) + Send,
    ) -> Result<BTreeSet<DependencyKey>, Error> {
        let new = keys.iter().filter(|key| !known.contains_key(key)).count();
        let mut room = if new == 0 { 0 } else { self.statement_room().await? };
        if new > room && when_full == WhenFull::Refuse {
            return Err(Error::TenantFull { what: "dependencies", max: self.capacity.dependencies_max });
        }
        let (mut changed, mut ignored) = (Vec::new(), BTreeSet::new());
        for key in keys {
            let before = known.get(key);
            if before.is_none() {
                let Some(left) = room.checked_sub(1) else {
                    ignored.insert(key.clone());
                    continue;
                };
                room = left;
            }
            let mut after = before.cloned().unwrap_or_else(|| empty(key.clone(), source));
            update(&mut after);
            if before != Some(&after) {
                changed.push(after);
            }
        }
        self.write_statements(&changed).await?;
        Ok(ignored)
    }

    pub(super) async fn statements(
        &mut self,
        keys: &BTreeSet<DependencyKey>,
        source: Source,
    ) -> Result<Statements, Error> {
        let callers: BTreeSet<&str> = keys.iter().map(|key| key.caller().as_str()).collect();
        let callers: Vec<&str> = callers.into_iter().collect();
        let tenant = self.tenant.clone();
        let rows = select_in(
            &mut self.transaction,
            (&format!("{} AND source = $2 AND caller_id IN", statement_lines(self.dialect)), 2),
            &callers,
            |query| query.bind(tenant.clone()).bind(source_number(source)),
            |query, caller| query.bind(caller.to_owned()),
        )
        .await?;
        let mut statements = read_lines(&rows, read_statement)?;
        statements.retain(|statement| keys.contains(&statement.key));
        // A map is built from sorted rows at once.
        statements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(statements.into_iter().map(|statement| (statement.key.clone(), statement)).collect())
    }

    async fn statement_room(&mut self) -> Result<usize, Error> {
        let row = sqlx::query("SELECT COUNT(*) AS kept FROM dependencies WHERE tenant_id = $1")
            .bind(self.tenant.clone())
            .fetch_one(&mut *self.transaction)
            .await?;
        let kept = usize::try_from(count(&row, "kept")?).unwrap_or(usize::MAX);
        Ok(self.capacity.dependencies_max.saturating_sub(kept))
    }

    async fn write_statements(&mut self, statements: &[DependencyStatement]) -> Result<(), Error> {
        let (unseen, seen): (Vec<_>, Vec<_>) =
            statements.iter().partition(|statement| statement.sightings == Sightings::default());
        self.write_unseen(&unseen).await?;
        self.write_seen(&seen).await?;
        let of_callers = statements.chunk_by(|a, b| a.key.caller() == b.key.caller());
        of_callers.for_each(|of_one| self.changed(ChangeKind::Topology, of_one[0].key.caller()));
        Ok(())
    }

    /// What nobody saw has only terms to write, also where it is stored: sightings never become less. A whole catalogue of
    /// such edges comes in one call, and every value that is bound costs.
    async fn write_unseen(&mut self, statements: &[&DependencyStatement]) -> Result<(), Error> {
        let tenant = self.tenant.clone();
        let sql = (
            "INSERT INTO dependencies (call_count, calling_request_count, tenant_id, caller_id, callee_id, source, terms)",
            Row::after("0, 0", 5),
            "ON CONFLICT (tenant_id, caller_id, callee_id, source) DO UPDATE SET terms = excluded.terms",
        );
        insert_many(&mut self.transaction, self.dialect, sql, statements, |query, statement| {
            query
                .bind(tenant.clone())
                .bind(statement.key.caller().as_str().to_owned())
                .bind(statement.key.callee().as_str().to_owned())
                .bind(source_number(statement.source))
                .bind(encode_terms(&statement.terms))
        })
        .await?;
        Ok(())
    }

    async fn write_seen(&mut self, statements: &[&DependencyStatement]) -> Result<(), Error> {
        let tenant = self.tenant.clone();
        let sql = (
            "INSERT INTO dependencies (tenant_id, caller_id, callee_id, source, terms, first_seen_ms, last_seen_ms, \
             call_count, calling_request_count, failure_count, rescued_count, retry_count, latency, call_days)",
            14,
            "ON CONFLICT (tenant_id, caller_id, callee_id, source) DO UPDATE SET terms = excluded.terms, \
             first_seen_ms = excluded.first_seen_ms, last_seen_ms = excluded.last_seen_ms, \
             call_count = excluded.call_count, calling_request_count = excluded.calling_request_count, \
             failure_count = excluded.failure_count, rescued_count = excluded.rescued_count, \
             retry_count = excluded.retry_count, latency = excluded.latency, call_days = excluded.call_days",
        );
        insert_many(&mut self.transaction, self.dialect, sql, statements, |query, statement| {
            let seen = &statement.sightings;
            query
                .bind(tenant.clone())
                .bind(statement.key.caller().as_str().to_owned())
                .bind(statement.key.callee().as_str().to_owned())
                .bind(source_number(statement.source))
                .bind(encode_terms(&statement.terms))
                .bind(seen.first_seen_ms)
                .bind(seen.last_seen_ms)
                .bind(stored(seen.call_count))
                .bind(stored(seen.calling_request_count))
                .bind(seen.failure_count.map(stored))
                .bind(seen.rescued_count.map(stored))
                .bind(seen.retry_count.map(stored))
                .bind(seen.latency.as_ref().map(encode_histogram))
                .bind(encode_call_days(seen))
        })
        .await?;
        Ok(())
    }
}

/// Of an edge that is declared several times, what a later row says stands over what an earlier one does.
fn one_for_each_key(mut edges: Vec<DeclaredEdge>) -> BTreeMap<DependencyKey, (DependencyTerms, bool)> {
    // Stable: rows of one edge stay in their order. A map is built from sorted rows at once.
    edges.sort_by(|a, b| a.key.cmp(&b.key));
    let mut kept: Vec<(DependencyKey, (DependencyTerms, bool))> = Vec::with_capacity(edges.len());
    for edge in edges {
        match kept.last_mut() {
            Some((key, (earlier, listed))) if *key == edge.key => {
                *earlier = edge.said.or(std::mem::take(earlier));
                *listed |= edge.listed;
            }
            _ => kept.push((edge.key, (edge.said, edge.listed))),
        }
    }
    kept.into_iter().collect()
}

fn empty(key: DependencyKey, source: Source) -> DependencyStatement {
    DependencyStatement { key, source, terms: DependencyTerms::default(), sightings: Sightings::default() }
}

fn statement_lines(dialect: Dialect) -> String {
    format!("SELECT {} FROM dependencies WHERE tenant_id = $1", all_lines(dialect, &VALUES))
}

/// What the sources say of each edge together, in lexical order of caller and callee.
fn merged(entities: &[Entity], mut statements: Vec<DependencyStatement>, window_days: u32) -> Vec<Dependency> {
    let requests: BTreeMap<&EntityId, &RequestDays> =
        entities.iter().map(|entity| (&entity.id, &entity.request_days)).collect();
    let none = RequestDays::new();
    statements.sort_by(|a, b| (&a.key, source_number(a.source)).cmp(&(&b.key, source_number(b.source))));
    let groups = statements.chunk_by(|a, b| a.key == b.key);
    let merge = |group: &[DependencyStatement]| {
        let days = group.first().and_then(|first| requests.get(first.key.caller())).copied().unwrap_or(&none);
        merge_statements(group.to_vec(), CallerRequests { days, window_days })
    };
    groups.filter_map(merge).collect()
}

fn read_statement(line: &mut Line<'_>) -> Result<DependencyStatement, Error> {
    let key = DependencyKey::new(entity_id(line.text()?)?, entity_id(line.text()?)?).map_err(invalid)?;
    let source = source(line.number()?)?;
    let terms = decode_terms(&line.bytes()?)?;
    let mut sightings = Sightings {
        first_seen_ms: line.optional_number()?,
        last_seen_ms: line.optional_number()?,
        call_count: line.count()?,
        calling_request_count: line.count()?,
        failure_count: line.optional_count()?,
        rescued_count: line.optional_count()?,
        retry_count: line.optional_count()?,
        latency: line.optional_bytes()?.as_deref().map(decode_histogram).transpose()?,
        ..Sightings::default()
    };
    (sightings.days, sightings.first_day) = decode_call_days(line.optional_bytes()?.as_deref())?;
    Ok(DependencyStatement { key, source, terms, sightings })
}
