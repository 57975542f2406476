-- The collections that were made of the documents: which of them answers, which is being filled for another model, and which
-- are left over and go.
CREATE TABLE index_generations (
    sequence BIGINT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    model TEXT NOT NULL,
    model_dir TEXT NOT NULL,
    dimensions BIGINT NOT NULL,
    state TEXT NOT NULL
);

-- Two never answer at once, and two are never filled at once.
CREATE UNIQUE INDEX index_generations_serving ON index_generations (state) WHERE state = 'serving';
CREATE UNIQUE INDEX index_generations_filling ON index_generations (state) WHERE state = 'filling';
