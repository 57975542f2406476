//! Many rows as one run of bytes: each value after its length and a colon, null as a hyphen. On SQLite every row that comes by
//! itself is handed over between two threads, which takes longer than to read it; a whole topology has tens of thousands.

use attain_runtime::database::Dialect;
use sqlx::any::AnyRow;

use super::rows::column;
use crate::Error;

/// What is read of each row, in this order.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    /// A text or a number.
    Plain(&'static str),
    Bytes(&'static str),
    /// A number, or null.
    OptionalNumber(&'static str),
    /// Bytes, or null.
    OptionalBytes(&'static str),
}

/// The expression that is selected for all rows together, named `run`.
pub(super) fn all_lines(dialect: Dialect, values: &[Value]) -> String {
    let expressions: Vec<String> = values.iter().map(|value| value.expression(dialect)).collect();
    let row = expressions.join(" || ");
    match dialect {
        // A text holds whatever bytes it is cast from, and is cast back as it stands.
        Dialect::Sqlite => format!("CAST(STRING_AGG({row}, '') AS BLOB) AS run"),
        Dialect::Postgres => format!("STRING_AGG({row}, ''::bytea) AS run"),
    }
}

impl Value {
    fn expression(self, dialect: Dialect) -> String {
        let (Self::Plain(name) | Self::Bytes(name) | Self::OptionalNumber(name) | Self::OptionalBytes(name)) = self;
        let given = match (dialect, self) {
            (Dialect::Sqlite, _) => format!("OCTET_LENGTH({name}) || ':' || CAST({name} AS TEXT)"),
            (Dialect::Postgres, Self::Plain(_) | Self::OptionalNumber(_)) => {
                format!("CONVERT_TO(OCTET_LENGTH(CAST({name} AS TEXT)) || ':' || {name}, 'UTF8')")
            }
            (Dialect::Postgres, Self::Bytes(_) | Self::OptionalBytes(_)) => {
                format!("CONVERT_TO(OCTET_LENGTH({name}) || ':', 'UTF8') || {name}")
            }
        };
        match (self, dialect) {
            (Self::Plain(_) | Self::Bytes(_), _) => given,
            (_, Dialect::Sqlite) => format!("COALESCE({given}, '-')"),
            (_, Dialect::Postgres) => format!("COALESCE({given}, '-'::bytea)"),
        }
    }
}

/// What every row of the runs reads as.
pub(super) fn read_lines<'r, T>(
    rows: &'r [AnyRow],
    mut read: impl FnMut(&mut Line<'r>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let mut all = Vec::new();
    for row in rows {
        // Without a row there is no run.
        let Some(run) = column::<Option<&[u8]>>(row, "run")? else { continue };
        let mut line = Line(run);
        while !line.is_empty() {
            let before = line.0.len();
            all.push(read(&mut line)?);
            if all.len() == 1 {
                // As many as there are where all are about as long as the first.
                all.reserve(line.0.len() / (before - line.0.len()).max(1));
            }
        }
    }
    Ok(all)
}

/// Appends a value to a run.
pub(super) fn append(run: &mut Vec<u8>, value: &[u8]) {
    append_length(run, value.len());
    run.extend_from_slice(value);
}

/// Appends the beginning of a value of so many bytes, which are to follow.
pub(super) fn append_length(run: &mut Vec<u8>, bytes: usize) {
    run.extend_from_slice(itoa::Buffer::new().format(bytes).as_bytes());
    run.push(b':');
}

/// Values of a run that are left to read.
pub(super) struct Line<'a>(&'a [u8]);

impl<'a> Line<'a> {
    pub(super) fn new(run: &'a [u8]) -> Self {
        Self(run)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn value(&mut self) -> Result<Option<&'a [u8]>, Error> {
        let corrupt = || Error::Corrupt("a row has too few values".to_owned());
        if let Some(rest) = self.0.strip_prefix(b"-") {
            self.0 = rest;
            return Ok(None);
        }
        let (mut length, mut read) = (0_usize, 0);
        for digit in self.0 {
            read += 1;
            match digit {
                b'0'..=b'9' => length = length.saturating_mul(10).saturating_add(usize::from(digit - b'0')),
                b':' if read > 1 => {
                    let rest = &self.0[read..];
                    let (value, rest) = rest.split_at_checked(length).ok_or_else(corrupt)?;
                    self.0 = rest;
                    return Ok(Some(value));
                }
                _ => break,
            }
        }
        Err(corrupt())
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Error> {
        self.value()?.ok_or_else(|| Error::Corrupt("a value is null".to_owned()))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Error> {
        text(self.bytes()?)
    }

    pub(super) fn number(&mut self) -> Result<i64, Error> {
        number(self.bytes()?)
    }

    pub(super) fn count(&mut self) -> Result<u64, Error> {
        counted(self.number()?)
    }

    pub(super) fn optional_number(&mut self) -> Result<Option<i64>, Error> {
        self.value()?.map(number).transpose()
    }

    pub(super) fn optional_count(&mut self) -> Result<Option<u64>, Error> {
        self.optional_number()?.map(counted).transpose()
    }

    pub(super) fn optional_bytes(&mut self) -> Result<Option<&'a [u8]>, Error> {
        self.value()
    }
}

fn text(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|_| Error::Corrupt("a text is no UTF-8".to_owned()))
}

fn number(bytes: &[u8]) -> Result<i64, Error> {
    let text = text(bytes)?;
    text.parse().map_err(|_| Error::Corrupt(format!("`{text}` is no number")))
}

fn counted(number: i64) -> Result<u64, Error> {
    u64::try_from(number).map_err(|_| Error::Corrupt(format!("a count is {number}")))
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
                let (number, bytes) = (line.number()?, line.bytes()?.to_vec());
                Ok((number, bytes, line.optional_number()?, line.optional_bytes()?.map(<[u8]>::to_vec)))
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
    fn what_was_appended_is_read_back() {
        let mut run = Vec::new();
        [&b"checkout"[..], b"", b"1:2-\0\xff"].iter().for_each(|value| append(&mut run, value));
        let mut line = Line::new(&run);
        assert_eq!((line.text().expect("a text"), line.bytes().expect("none")), ("checkout", &b""[..]));
        assert_eq!((line.bytes().expect("bytes"), line.is_empty()), (&b"1:2-\0\xff"[..], true));
    }

    #[test]
    fn what_is_no_run_is_corrupt() {
        for run in ["", "3", ":", "3:ab", "x", "99999999999999999999:a", "-1:a"] {
            assert!(Line::new(run.as_bytes()).bytes().is_err(), "{run}");
        }
        let line = |run: &'static str| Line::new(run.as_bytes());
        assert!(line("1:a").number().is_err() && line("2:-1").count().is_err() && line("-").text().is_err());
        assert!(Line::new(b"1:\xff").text().is_err());
        assert_eq!(line("-").optional_number().expect("null"), None);
    }
}
