use std::cmp::Ordering;
use std::sync::Arc;

use attain_proto::vocabulary::v1 as wire;
use attain_runtime::context::CallContext;
use attain_vocabulary::InvalidValue;

use super::{Engine, of_version, unknown_version};
use crate::error::Error;
use crate::storage::held::{Held, same_edge};

/// Most services and most edges of one answer.
const ENTITIES_MAX: usize = 1_000;
const DEPENDENCIES_MAX: usize = 5_000;

/// A row in two versions; `None` where it is not there. At least one is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Changed<Row> {
    pub(crate) before: Option<Row>,
    pub(crate) after: Option<Row>,
}

/// What differs between two versions, what was counted aside.
#[derive(Debug)]
pub(crate) struct TopologyChanges {
    pub(crate) from: Arc<Held>,
    pub(crate) to: Arc<Held>,
    pub(crate) entities: Vec<Changed<wire::Entity>>,
    pub(crate) dependencies: Vec<Changed<wire::Dependency>>,
    pub(crate) truncated: bool,
    /// Every kept version, oldest first.
    pub(crate) kept: Vec<Arc<Held>>,
}

impl Engine {
    /// What differs between two kept versions; 0 for the oldest and the newest.
    pub(crate) async fn changes(
        &self,
        context: &CallContext,
        from_version: u64,
        to_version: u64,
    ) -> Result<TopologyChanges, Error> {
        let kept = self.snapshots.kept(&context.tenant, context.deadline).await?;
        let from = if from_version == 0 { kept.first() } else { of_version(&kept, from_version) };
        let to = if to_version == 0 { kept.last() } else { of_version(&kept, to_version) };
        let (from, to) = match (from.cloned(), to.cloned()) {
            (Some(from), Some(to)) => (from, to),
            (None, _) => return Err(unknown_version(&kept, from_version)),
            (_, None) => return Err(unknown_version(&kept, to_version)),
        };
        if from.version > to.version {
            let reason = format!("{} is later than to_version, {}", from.version, to.version);
            return Err(InvalidValue::new("from_version", "out_of_range", reason).into());
        }
        let job = move |_: &dyn Fn() -> bool| Ok(compare(from, to, kept));
        self.workers.run(context.deadline, job).await
    }
}

fn compare(from: Arc<Held>, to: Arc<Held>, kept: Vec<Arc<Held>>) -> TopologyChanges {
    let mut entities = differences(
        from.entities.iter(),
        to.entities.iter(),
        |a, b| a.id.cmp(&b.id),
        |before, after| Arc::ptr_eq(before, after) || before == after,
    );
    // All of them were read when the versions were.
    let rows = |held: &Held| held.dependencies.to_vec().unwrap_or_default().into_iter();
    let mut dependencies = differences(
        rows(&from),
        rows(&to),
        |a, b| (&a.caller_id, &a.callee_id).cmp(&(&b.caller_id, &b.callee_id)),
        |before, after| same_edge(after, before),
    );
    let truncated = entities.len() > ENTITIES_MAX || dependencies.len() > DEPENDENCIES_MAX;
    entities.truncate(ENTITIES_MAX);
    dependencies.truncate(DEPENDENCIES_MAX);
    let row = |entity: &Arc<wire::Entity>| wire::Entity::clone(entity);
    let entities = entities
        .into_iter()
        .map(|row_of| Changed { before: row_of.before.map(row), after: row_of.after.map(row) })
        .collect();
    TopologyChanges { from, to, entities, dependencies, truncated, kept }
}

/// Rows of two sorted lists that are not the same in both.
fn differences<Row>(
    before: impl Iterator<Item = Row>,
    after: impl Iterator<Item = Row>,
    order: impl Fn(&Row, &Row) -> Ordering,
    same: impl Fn(&Row, &Row) -> bool,
) -> Vec<Changed<Row>> {
    let (mut before, mut after) = (before.peekable(), after.peekable());
    let mut changed = Vec::new();
    loop {
        let first = match (before.peek(), after.peek()) {
            (None, None) => return changed,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(before), Some(after)) => order(before, after),
        };
        let row = Changed {
            before: if first.is_le() { before.next() } else { None },
            after: if first.is_ge() { after.next() } else { None },
        };
        let unchanged = row.before.as_ref().zip(row.after.as_ref()).is_some_and(|(before, after)| same(before, after));
        if !unchanged {
            changed.push(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_go_and_change() {
        let rows = |rows: &'static [(u8, char)]| rows.iter().copied();
        let found = differences(
            rows(&[(1, 'a'), (2, 'a'), (4, 'a'), (6, 'a')]),
            rows(&[(2, 'a'), (3, 'a'), (4, 'b'), (7, 'a')]),
            |a, b| a.0.cmp(&b.0),
            |a, b| a.1 == b.1,
        );
        let found: Vec<_> = found.into_iter().map(|row| (row.before, row.after)).collect();
        let expected = [
            (Some((1, 'a')), None),
            (None, Some((3, 'a'))),
            (Some((4, 'a')), Some((4, 'b'))),
            (Some((6, 'a')), None),
            (None, Some((7, 'a'))),
        ];
        assert_eq!(found, expected);
    }
}
