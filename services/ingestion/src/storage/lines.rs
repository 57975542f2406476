//! Many rows as one text: a line each, values between tabs, bytes in hexadecimal. On SQLite every row that comes by itself is
//! handed over between two threads, which takes longer than to read it; a whole topology has tens of thousands.
//!
//! Texts that are read this way are names, which hold neither tabs nor line ends.

use attain_runtime::database::Dialect;
use sqlx::any::AnyRow;

use super::rows::column;
use crate::Error;

/// What is read of each row, in this order.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    /// A name or a number.
    Plain(&'static str),
    Bytes(&'static str),
    /// A number, or null.
    OptionalNumber(&'static str),
    /// Bytes, or null.
    OptionalBytes(&'static str),
}

/// The expression that is selected for all rows together, named `lines`.
pub(super) fn all_lines(dialect: Dialect, values: &[Value]) -> String {
    let hex = |name: &str| match dialect {
        Dialect::Sqlite => format!("hex({name})"),
        Dialect::Postgres => format!("encode({name}, 'hex')"),
    };
    let expression = |value: &Value| match value {
        Value::Plain(name) => (*name).to_owned(),
        Value::Bytes(name) => hex(name),
        Value::OptionalNumber(name) => format!("COALESCE(CAST({name} AS TEXT), '')"),
        // A mark in front, for there may be no bytes.
        Value::OptionalBytes(name) => format!("CASE WHEN {name} IS NULL THEN '' ELSE 'x' || {} END", hex(name)),
    };
    let expressions: Vec<String> = values.iter().map(expression).collect();
    format!("STRING_AGG(CONCAT_WS('\t', {}), '\n') AS lines", expressions.join(", "))
}

/// What every line of the rows reads as.
pub(super) fn read_lines<T>(
    rows: &[AnyRow],
    mut read: impl FnMut(&mut Line<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let mut all = Vec::new();
    for row in rows {
        // Without a row there is no text.
        let Some(lines) = column::<Option<&str>>(row, "lines")? else { continue };
        for line in lines.split('\n') {
            all.push(read(&mut Line(line.split('\t')))?);
        }
    }
    Ok(all)
}

/// Values of one row that are left to read.
pub(super) struct Line<'a>(std::str::Split<'a, char>);

impl<'a> Line<'a> {
    pub(super) fn text(&mut self) -> Result<&'a str, Error> {
        self.0.next().ok_or_else(|| Error::Corrupt("a row has too few values".to_owned()))
    }

    pub(super) fn number(&mut self) -> Result<i64, Error> {
        number(self.text()?)
    }

    pub(super) fn count(&mut self) -> Result<u64, Error> {
        let number = self.number()?;
        u64::try_from(number).map_err(|_| Error::Corrupt(format!("a count is {number}")))
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, Error> {
        bytes(self.text()?)
    }

    pub(super) fn optional_number(&mut self) -> Result<Option<i64>, Error> {
        Some(self.text()?).filter(|text| !text.is_empty()).map(number).transpose()
    }

    pub(super) fn optional_count(&mut self) -> Result<Option<u64>, Error> {
        let count = |number| u64::try_from(number).map_err(|_| Error::Corrupt(format!("a count is {number}")));
        self.optional_number()?.map(count).transpose()
    }

    pub(super) fn optional_bytes(&mut self) -> Result<Option<Vec<u8>>, Error> {
        self.text()?.strip_prefix('x').map(bytes).transpose()
    }
}

fn number(text: &str) -> Result<i64, Error> {
    text.parse().map_err(|_| Error::Corrupt(format!("`{text}` is no number")))
}

fn bytes(text: &str) -> Result<Vec<u8>, Error> {
    hex::decode(text).map_err(|_| Error::Corrupt("bytes are not hexadecimal".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::super::testing::{on_both_databases, tenant};
    use super::*;
    use sqlx::AssertSqlSafe;

    on_both_databases!(rows_come_as_lines_and_back);

    async fn rows_come_as_lines_and_back(store: &Store) {
        let mut write = store.begin_write(&tenant("acme")).await.expect("begun");
        let dialect = write.dialect;
        let values = [Value::Plain("n"), Value::Bytes("b"), Value::OptionalNumber("m"), Value::OptionalBytes("o")];
        let lines = all_lines(dialect, &values);
        let hex = |digits: &str| match dialect {
            Dialect::Sqlite => format!("x'{digits}'"),
            Dialect::Postgres => format!("'\\x{digits}'::bytea"),
        };
        let (some, none, null) = (hex("00ff0a09"), hex(""), "NULL");
        let table = format!(
            "(SELECT 7 AS n, {some} AS b, CAST({null} AS BIGINT) AS m, {none} AS o \
             UNION ALL SELECT -8, {none}, 0, {some} UNION ALL SELECT 9, {none}, -1, {null}) AS rows"
        );
        let mut read = async |rest: &str| {
            let rows = sqlx::query(AssertSqlSafe(format!("SELECT {lines} FROM {table} {rest}")))
                .fetch_all(&mut *write.transaction)
                .await
                .expect("read");
            let one = |line: &mut Line<'_>| {
                Ok((line.number()?, line.bytes()?, line.optional_number()?, line.optional_bytes()?))
            };
            let mut read = read_lines(&rows, one).expect("lines");
            read.sort();
            read
        };
        let some = vec![0, 0xff, 0x0a, 0x09];
        assert_eq!(
            read("").await,
            [(-8, vec![], Some(0), Some(some.clone())), (7, some, None, Some(vec![])), (9, vec![], Some(-1), None)]
        );
        assert_eq!(read("WHERE n > 100").await, []);
    }

    #[test]
    fn what_is_no_line_is_corrupt() {
        let line = |text: &'static str| Line(text.split('\t'));
        assert!(line("a").number().is_err() && line("-1").count().is_err());
        assert!(line("0g").bytes().is_err() && line("x0").optional_bytes().is_err());
        let mut short = line("a");
        assert!(short.text().is_ok() && short.text().is_err());
    }
}
