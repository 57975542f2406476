//! Statements of many rows, and columns read as what they mean.

use attain_runtime::database::Dialect;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe, Row as _, Transaction};

use crate::Error;

pub(super) type Bound<'q> = Query<'q, Any, AnyArguments>;

/// Rows a statement, from large to small: few different statements, so that each is prepared once a connection.
const CHUNKS: [usize; 4] = [250, 50, 10, 1];

/// Runs `head VALUES (…), … tail` for all rows; the rows that `RETURNING` gave, or none.
pub(super) async fn insert_many<R>(
    transaction: &mut Transaction<'static, Any>,
    dialect: Dialect,
    (head, columns, tail): (&str, usize, &str),
    rows: &[R],
    bind: impl for<'q> Fn(Bound<'q>, &R) -> Bound<'q>,
) -> Result<Vec<AnyRow>, Error> {
    let mut returned = Vec::new();
    for chunk in chunks(rows) {
        let sql = format!("{head} VALUES {} {tail}", placeholders(dialect, chunk.len(), columns));
        let query = chunk.iter().fold(sqlx::query(AssertSqlSafe(sql)), &bind);
        returned.extend(query.fetch_all(&mut **transaction).await?);
    }
    Ok(returned)
}

/// Runs `head ($1, $2, …)` for keys in chunks: `start` adds what the head needs, which takes `$1` to `$fixed`, each once and in
/// this order.
pub(super) async fn select_in<'k, K: Copy>(
    transaction: &mut Transaction<'static, Any>,
    (head, fixed): (&str, usize),
    keys: &'k [K],
    start: impl for<'q> Fn(Bound<'q>) -> Bound<'q>,
    bind: impl for<'q> Fn(Bound<'q>, K) -> Bound<'q>,
) -> Result<Vec<AnyRow>, Error> {
    let dialect = dialect(transaction);
    let head = match dialect {
        Dialect::Sqlite => unnumbered(head, fixed),
        Dialect::Postgres => head.to_owned(),
    };
    let mut found = Vec::new();
    for chunk in chunks(keys) {
        let mut sql = format!("{head} (");
        for place in 0..chunk.len() {
            sql.push_str(if place == 0 { "" } else { ", " });
            push_placeholder(&mut sql, dialect, fixed + place + 1);
        }
        sql.push(')');
        let query = sqlx::query(AssertSqlSafe(sql));
        let query = chunk.iter().fold(start(query), |query, key| bind(query, *key));
        found.extend(query.fetch_all(&mut **transaction).await?);
    }
    Ok(found)
}

fn chunks<R>(mut rows: &[R]) -> impl Iterator<Item = &[R]> {
    std::iter::from_fn(move || {
        let size = CHUNKS.into_iter().find(|size| *size <= rows.len())?;
        let (chunk, rest) = rows.split_at(size);
        rows = rest;
        Some(chunk)
    })
}

fn dialect(transaction: &Transaction<'static, Any>) -> Dialect {
    if transaction.backend_name() == "SQLite" { Dialect::Sqlite } else { Dialect::Postgres }
}

/// SQLite looks numbered parameters up one by one, in time quadratic in their number; unnumbered ones it counts.
fn push_placeholder(sql: &mut String, dialect: Dialect, number: usize) {
    match dialect {
        Dialect::Postgres => sql.push_str(&format!("${number}")),
        Dialect::Sqlite => sql.push('?'),
    }
}

fn unnumbered(head: &str, fixed: usize) -> String {
    (1..=fixed).fold(head.to_owned(), |head, number| head.replacen(&format!("${number}"), "?", 1))
}

fn placeholders(dialect: Dialect, rows: usize, columns: usize) -> String {
    let mut sql = String::with_capacity(rows * (6 * columns + 4));
    let mut number = 0;
    for place in 0..rows {
        sql.push_str(if place == 0 { "(" } else { ", (" });
        for value in 0..columns {
            if value > 0 {
                sql.push_str(", ");
            }
            number += 1;
            push_placeholder(&mut sql, dialect, number);
        }
        sql.push(')');
    }
    sql
}

/// A count as it is stored.
pub(super) fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count that was stored.
pub(super) fn count(row: &AnyRow, column: &str) -> Result<u64, Error> {
    let value: i64 = row.try_get(column)?;
    u64::try_from(value).map_err(|_| Error::Corrupt(format!("{column} is {value}")))
}

/// A column of the type that it has.
pub(super) fn column<'r, T>(row: &'r AnyRow, name: &str) -> Result<T, Error>
where
    T: sqlx::Decode<'r, Any> + sqlx::Type<Any>,
{
    Ok(row.try_get(name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_count_through() {
        assert_eq!(placeholders(Dialect::Postgres, 2, 2), "($1, $2), ($3, $4)");
        assert_eq!(placeholders(Dialect::Sqlite, 2, 2), "(?, ?), (?, ?)");
    }

    #[test]
    fn what_is_numbered_in_order_is_counted_instead() {
        assert_eq!(unnumbered("WHERE a = $1 AND b = $2 AND c IN", 2), "WHERE a = ? AND b = ? AND c IN");
    }

    #[test]
    fn chunks_cover_every_row_once_in_order() {
        for length in [0, 1, 9, 10, 249, 250, 777] {
            let rows: Vec<usize> = (0..length).collect();
            let covered: Vec<usize> = chunks(&rows).flatten().copied().collect();
            assert_eq!(covered, rows);
            assert!(chunks(&rows).all(|chunk| CHUNKS.contains(&chunk.len())));
        }
    }
}
