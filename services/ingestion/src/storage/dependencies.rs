use std::collections::{BTreeMap, BTreeSet};

use attain_runtime::database::Dialect;
use attain_vocabulary::{EntityId, Source, TenantId};
use foldhash::{HashMap, HashSet};

use super::Store;
use super::changes::ChangeKind;
use super::entities::WhenFull;
use super::lines::{Line, Value, all_lines, read_lines};
use super::record::{
    decode_call_days, decode_histogram, decode_terms, encode_call_days, encode_histogram, encode_terms, entity_id,
    invalid, source, source_number,
};
use super::rows::{count, insert_many, select_in, stored};
use super::said::Said;
use super::write::Write;
use crate::Error;
use crate::domain::{DependencyKey, DependencyStatement, DependencyTerms, EntityDeclaration, Sightings};

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
        let ends = edges.iter().flat_map(|edge| [edge.key.caller(), edge.key.callee()]);
        // Most are named several times, and to compare names is what sorting costs.
        let ids: HashSet<&EntityId> = entities.iter().map(|declaration| &declaration.id).chain(ends).collect();
        let ids: BTreeSet<EntityId> = ids.into_iter().cloned().collect();
        let ranks: HashMap<&EntityId, usize> = ids.iter().zip(0..).collect();
        let entities = Grouped::new(&ranks, entities, |declaration| [&declaration.id]);
        write
            .update_entities(&ids, WhenFull::Refuse, |entity| {
                for declaration in entities.of(&entity.id) {
                    entity.declare(declaration.clone());
                }
                if entity.known_from_catalogue_at_most() {
                    entity.sources.insert(Source::Declared);
                }
            })
            .await?;
        let edges = Grouped::new(&ranks, edges, |edge| [edge.key.caller(), edge.key.callee()]);
        let callers = ids.iter().filter(|id| edges.of(id).next().is_some()).cloned().collect();
        let declare = |caller: &EntityId, said: &mut Said| {
            let of_caller: Vec<&DeclaredEdge> = edges.of(caller).collect();
            for of_one in of_caller.chunk_by(|a, b| a.key == b.key) {
                declare_edge(said, of_one);
            }
        };
        write.update_said(Source::Declared, &callers, declare).await?;
        write.commit().await
    }
}

impl Write {
    /// Lets `update` change what `source` saw of edges, of which some are known and new ones are empty, and writes those that
    /// differ. The edges left out because the tenant is full.
    pub(super) async fn change_statements(
        &mut self,
        known: &Statements,
        keys: &BTreeSet<DependencyKey>,
        source: Source,
        update: impl Fn(&mut DependencyStatement) + Send,
    ) -> Result<BTreeSet<DependencyKey>, Error> {
        let new = keys.iter().filter(|key| !known.contains_key(key)).count();
        let mut room = if new == 0 { 0 } else { self.edge_room().await? };
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
        let mut statements = read_lines(&rows, |line| read_statement(line, entity_id))?;
        statements.retain(|statement| keys.contains(&statement.key));
        // A map is built from sorted rows at once.
        statements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(statements.into_iter().map(|statement| (statement.key.clone(), statement)).collect())
    }

    /// How many more edges the tenant may have, each counted once a source.
    pub(super) async fn edge_room(&mut self) -> Result<usize, Error> {
        let row = sqlx::query(
            "SELECT (SELECT COUNT(*) FROM dependencies WHERE tenant_id = $1) + \
             (SELECT CAST(COALESCE(SUM(edge_count), 0) AS BIGINT) FROM said_edges WHERE tenant_id = $1) AS kept",
        )
        .bind(self.tenant.clone())
        .fetch_one(&mut *self.transaction)
        .await?;
        let kept = usize::try_from(count(&row, "kept")?).unwrap_or(usize::MAX);
        Ok(self.capacity.dependencies_max.saturating_sub(kept))
    }

    async fn write_statements(&mut self, statements: &[DependencyStatement]) -> Result<(), Error> {
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
        let of_callers = statements.chunk_by(|a, b| a.key.caller() == b.key.caller());
        of_callers.for_each(|of_one| self.changed(ChangeKind::Topology, of_one[0].key.caller()));
        Ok(())
    }
}

/// Rows by the first of the ids that they are sorted by; those that are sorted alike stay in their order. Ids are compared by
/// their ranks among all of them, since to compare names is what sorting costs.
struct Grouped<'i, Row> {
    rows: Vec<Row>,
    ranks: &'i HashMap<&'i EntityId, usize>,
    /// Places of the rows, sorted.
    order: Vec<usize>,
    /// By rank, where the rows of an id begin in `order`, and where the last ones end.
    starts: Vec<usize>,
}

impl<'i, Row> Grouped<'i, Row> {
    /// `ranks` has every id that `sorted_by` names, from 0 on.
    fn new<const N: usize>(
        ranks: &'i HashMap<&'i EntityId, usize>,
        rows: Vec<Row>,
        sorted_by: impl Fn(&Row) -> [&EntityId; N],
    ) -> Self {
        let keys = rows.iter().map(|row| sorted_by(row).map(|id| ranks[id]));
        let mut order: Vec<([usize; N], usize)> = keys.zip(0..).collect();
        order.sort_unstable();
        let mut starts = vec![0; ranks.len() + 1];
        order.iter().for_each(|(key, _)| starts[key[0] + 1] += 1);
        (1..starts.len()).for_each(|rank| starts[rank] += starts[rank - 1]);
        Self { rows, ranks, order: order.into_iter().map(|(_, place)| place).collect(), starts }
    }

    fn of(&self, id: &EntityId) -> impl Iterator<Item = &Row> + use<'_, Row> {
        let places = self.ranks.get(id).map_or(0..0, |rank| self.starts[*rank]..self.starts[rank + 1]);
        self.order[places].iter().map(|place| &self.rows[*place])
    }
}

/// Notes what is declared of one edge: what a later row says stands over what an earlier one does, and that over what is
/// stored.
fn declare_edge(said: &mut Said, rows: &[&DeclaredEdge]) {
    let Some(first) = rows.first() else { return };
    let listed = rows.iter().any(|row| row.listed);
    let shorthand = if listed { DependencyTerms::hard() } else { DependencyTerms::default() };
    let said_by = |row: &&DeclaredEdge| row.said.clone();
    let declared = rows.iter().rev().map(said_by).reduce(DependencyTerms::or).unwrap_or_default();
    let callee = first.key.callee();
    match said.binary_search_by(|(known, _)| known.cmp(callee)) {
        Ok(place) => {
            let stored = std::mem::take(&mut said[place].1);
            said[place].1 = declared.or(stored).or(shorthand);
        }
        Err(place) => said.insert(place, (callee.clone(), declared.or(shorthand))),
    }
}

fn empty(key: DependencyKey, source: Source) -> DependencyStatement {
    DependencyStatement { key, source, terms: DependencyTerms::default(), sightings: Sightings::default() }
}

/// Everything that was seen of a tenant's edges.
pub(super) fn statement_lines(dialect: Dialect) -> String {
    format!("SELECT {} FROM dependencies WHERE tenant_id = $1", all_lines(dialect, &VALUES))
}

pub(super) fn read_statement(
    line: &mut Line<'_>,
    named: impl Fn(&str) -> Result<EntityId, Error>,
) -> Result<DependencyStatement, Error> {
    let key = DependencyKey::new(named(line.text()?)?, named(line.text()?)?).map_err(invalid)?;
    let source = source(line.number()?)?;
    let terms = decode_terms(line.bytes()?)?;
    let mut sightings = Sightings {
        first_seen_ms: line.optional_number()?,
        last_seen_ms: line.optional_number()?,
        call_count: line.count()?,
        calling_request_count: line.count()?,
        failure_count: line.optional_count()?,
        rescued_count: line.optional_count()?,
        retry_count: line.optional_count()?,
        latency: line.optional_bytes()?.map(decode_histogram).transpose()?,
        ..Sightings::default()
    };
    (sightings.days, sightings.first_day) = decode_call_days(line.optional_bytes()?)?;
    Ok(DependencyStatement { key, source, terms, sightings })
}
