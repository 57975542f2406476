-- What people said of citations, appended and never changed: each entry is bound to the one before by its hash.
CREATE TABLE citation_ratings (
    tenant_id TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    document_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    start_offset BIGINT NOT NULL,
    end_offset BIGINT NOT NULL,
    quote_sha256 TEXT NOT NULL,
    rating TEXT NOT NULL,
    reason TEXT NOT NULL,
    question_sha256 TEXT NOT NULL,
    caller TEXT NOT NULL,
    time_ms BIGINT NOT NULL,
    entry_sha256 TEXT NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
);
CREATE INDEX citation_ratings_by_document ON citation_ratings (tenant_id, document_id, sequence);
