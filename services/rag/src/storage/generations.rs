//! The record of which collections answer. It is written before collections are made and after they are gone, so that a
//! process that breaks off anywhere finds out what to do next.

use sqlx::any::AnyRow;
use sqlx::{Any, Row as _, Transaction};

use super::{Store, rows};
use crate::Error;

const COLUMNS: &str = "SELECT sequence, name, model, model_dir, dimensions, state FROM index_generations";

/// Collections made of the documents at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Generation {
    /// Grows with each.
    pub(crate) sequence: u32,
    /// Ends the names of its collections; empty for the first.
    pub(crate) name: String,
    /// The model that its vectors are of; empty before any was loaded.
    pub(crate) model: String,
    /// The folder that the model was read from.
    pub(crate) model_dir: String,
    /// Numbers of a vector.
    pub(crate) dimensions: u32,
}

/// What the record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Generations {
    /// Answers.
    pub(crate) serving: Generation,
    /// Is being filled, to answer once it holds everything.
    pub(crate) filling: Option<Generation>,
    /// Answered before, or was never filled to the end; to be dropped.
    pub(crate) retired: Vec<Generation>,
}

impl Store {
    /// The record, begun with a first generation of this many dimensions where there is none.
    pub(crate) async fn generations(&self, dimensions: u32) -> Result<Generations, Error> {
        sqlx::query(
            "INSERT INTO index_generations (sequence, name, model, model_dir, dimensions, state) \
             VALUES (1, '', '', '', $1, 'serving') ON CONFLICT DO NOTHING",
        )
        .bind(i64::from(dimensions))
        .execute(self.database.pool())
        .await?;
        let found = sqlx::query(sqlx::AssertSqlSafe(format!("{COLUMNS} ORDER BY sequence")))
            .fetch_all(self.database.pool())
            .await?;
        let (mut serving, mut filling, mut retired) = (None, None, Vec::new());
        for row in &found {
            let generation = generation(row)?;
            match row.try_get::<String, _>("state")?.as_str() {
                "serving" => serving = Some(generation),
                "filling" => filling = Some(generation),
                "retired" => retired.push(generation),
                other => return Err(Error::Corrupt(format!("state `{other}` of an index generation"))),
            }
        }
        let serving = serving.ok_or_else(|| Error::Corrupt("no index generation serves".to_owned()))?;
        Ok(Generations { serving, filling, retired })
    }

    /// The generation that answers had no model yet and takes this one.
    pub(crate) async fn bind_generation(&self, sequence: u32, model: &str, model_dir: &str) -> Result<(), Error> {
        sqlx::query(
            "UPDATE index_generations SET model = $1, model_dir = $2 WHERE sequence = $3 AND model IN ('', $4)",
        )
        .bind(model)
        .bind(model_dir)
        .bind(i64::from(sequence))
        .bind(model)
        .execute(self.database.pool())
        .await?;
        Ok(())
    }

    /// The generation to fill for this model: the one that answers where it is of this model already (another process was
    /// faster), the one under way, or a new one. One under way for another model is retired.
    pub(crate) async fn begin_filling(
        &self,
        model: &str,
        model_dir: &str,
        dimensions: u32,
    ) -> Result<Generation, Error> {
        let mut transaction = self.begin_change().await?;
        let answering = sqlx::query(sqlx::AssertSqlSafe(format!("{COLUMNS} WHERE state = 'serving' AND model = $1")))
            .bind(model)
            .fetch_optional(&mut *transaction)
            .await?;
        if let Some(row) = answering {
            return generation(&row);
        }
        sqlx::query("UPDATE index_generations SET state = 'retired' WHERE state = 'filling' AND model <> $1")
            .bind(model)
            .execute(&mut *transaction)
            .await?;
        let under_way = sqlx::query(sqlx::AssertSqlSafe(format!("{COLUMNS} WHERE state = 'filling'")))
            .fetch_optional(&mut *transaction)
            .await?;
        let generation = match under_way {
            Some(row) => generation(&row)?,
            None => insert_filling(&mut transaction, model, model_dir, dimensions).await?,
        };
        transaction.commit().await?;
        Ok(generation)
    }

    /// What was being filled is not wanted any more.
    pub(crate) async fn give_up_filling(&self) -> Result<(), Error> {
        sqlx::query("UPDATE index_generations SET state = 'retired' WHERE state = 'filling'")
            .execute(self.database.pool())
            .await?;
        Ok(())
    }

    /// The filled generation answers from now on, and the one that did is retired: both or neither. Where it answers already,
    /// nothing changes.
    pub(crate) async fn swap_generations(&self, filled: &Generation) -> Result<(), Error> {
        let mut transaction = self.begin_change().await?;
        let retired =
            sqlx::query("UPDATE index_generations SET state = 'retired' WHERE state = 'serving' AND sequence <> $1")
                .bind(i64::from(filled.sequence))
                .execute(&mut *transaction)
                .await?;
        if retired.rows_affected() == 0 {
            return Ok(());
        }
        let swapped =
            sqlx::query("UPDATE index_generations SET state = 'serving' WHERE sequence = $1 AND state = 'filling'")
                .bind(i64::from(filled.sequence))
                .execute(&mut *transaction)
                .await?;
        if swapped.rows_affected() != 1 {
            return Err(Error::Corrupt(format!("index generation {} is not being filled", filled.sequence)));
        }
        transaction.commit().await?;
        Ok(())
    }

    /// A transaction that waits for changes of other processes: the row that answers is read before it is written.
    async fn begin_change(&self) -> Result<Transaction<'static, Any>, Error> {
        let mut transaction = self.database.begin_write().await?;
        sqlx::query("UPDATE index_generations SET state = state WHERE state = 'serving'")
            .execute(&mut *transaction)
            .await?;
        Ok(transaction)
    }

    /// The collections of a retired generation are gone.
    pub(crate) async fn forget_generation(&self, sequence: u32) -> Result<(), Error> {
        sqlx::query("DELETE FROM index_generations WHERE sequence = $1 AND state = 'retired'")
            .bind(i64::from(sequence))
            .execute(self.database.pool())
            .await?;
        Ok(())
    }
}

async fn insert_filling(
    transaction: &mut Transaction<'static, Any>,
    model: &str,
    model_dir: &str,
    dimensions: u32,
) -> Result<Generation, Error> {
    let newest = sqlx::query("SELECT CAST(COALESCE(MAX(sequence), 0) AS BIGINT) FROM index_generations")
        .fetch_one(&mut **transaction)
        .await?;
    let sequence = rows::version(&newest, 0)? + 1;
    let generation = Generation {
        sequence,
        name: format!("g{sequence}"),
        model: model.to_owned(),
        model_dir: model_dir.to_owned(),
        dimensions,
    };
    sqlx::query(
        "INSERT INTO index_generations (sequence, name, model, model_dir, dimensions, state) \
         VALUES ($1, $2, $3, $4, $5, 'filling')",
    )
    .bind(i64::from(sequence))
    .bind(generation.name.as_str())
    .bind(model)
    .bind(model_dir)
    .bind(i64::from(dimensions))
    .execute(&mut **transaction)
    .await?;
    Ok(generation)
}

fn generation(row: &AnyRow) -> Result<Generation, Error> {
    Ok(Generation {
        sequence: rows::version(row, "sequence")?,
        name: row.try_get("name")?,
        model: row.try_get("model")?,
        model_dir: row.try_get("model_dir")?,
        dimensions: rows::version(row, "dimensions")?,
    })
}
