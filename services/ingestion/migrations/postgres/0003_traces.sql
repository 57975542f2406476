-- Calls that repeated an earlier one which had failed.
ALTER TABLE dependencies ADD COLUMN retry_count BIGINT NOT NULL DEFAULT 0;

-- What settlements left of rows of the span log: apart from them, so that a settlement does not write their payloads again.
CREATE TABLE span_progress (
    tenant_id TEXT COLLATE "C" NOT NULL,
    sequence BIGINT NOT NULL,
    -- Counts settlements, so that two observers cannot settle the same state of a row; 0 for a row that is not here.
    revision BIGINT NOT NULL,
    remaining BYTEA NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
);
INSERT INTO span_progress (tenant_id, sequence, revision, remaining)
    SELECT tenant_id, sequence, revision, remaining FROM span_log WHERE remaining IS NOT NULL;
ALTER TABLE span_log DROP COLUMN remaining;
ALTER TABLE span_log DROP COLUMN revision;

-- Exports that were kept, so that a retry is known.
CREATE TABLE span_receipts (
    tenant_id TEXT COLLATE "C" NOT NULL,
    digest BYTEA NOT NULL,
    received_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, digest)
);
CREATE INDEX span_receipts_by_time ON span_receipts (received_ms);

-- Fingerprints of spans that were settled, those of one settlement together.
CREATE TABLE settled_spans (
    tenant_id TEXT COLLATE "C" NOT NULL,
    settlement BIGINT NOT NULL,
    settled_ms BIGINT NOT NULL,
    fingerprints BYTEA NOT NULL,
    PRIMARY KEY (tenant_id, settlement)
);
CREATE INDEX settled_spans_by_settlement ON settled_spans (settlement);
INSERT INTO counters (name, last) VALUES ('settled_spans', 0);

-- Latency and failures of each operation that a service answers, and of each that it calls, a row a day.
CREATE TABLE operations (
    tenant_id TEXT COLLATE "C" NOT NULL,
    service_id TEXT COLLATE "C" NOT NULL,
    -- Days since the Unix epoch.
    day BIGINT NOT NULL,
    -- Whom the service called; empty for what it answered itself.
    callee_id TEXT COLLATE "C" NOT NULL,
    operation TEXT COLLATE "C" NOT NULL,
    request_count BIGINT NOT NULL,
    bad_count BIGINT NOT NULL,
    latency BYTEA NOT NULL,
    PRIMARY KEY (tenant_id, service_id, day, callee_id, operation)
);
CREATE INDEX operations_by_day ON operations (day);
