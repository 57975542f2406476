-- Endpoints that are told of what happens.
CREATE TABLE webhooks (
    tenant_id TEXT NOT NULL,
    id TEXT NOT NULL,
    url TEXT NOT NULL,
    -- Types of events as a JSON list; empty for all.
    event_types TEXT NOT NULL,
    secret BYTEA NOT NULL,
    -- The secret before, and until when messages are signed with it too; 0 without one.
    previous_secret BYTEA NOT NULL,
    previous_expire_ms BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    create_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

-- What somebody is to be told of, written in the transaction of what happened.
CREATE TABLE events (
    tenant_id TEXT NOT NULL,
    -- Position in the tenant's audit log.
    sequence BIGINT NOT NULL,
    type TEXT NOT NULL,
    service_id TEXT NOT NULL,
    create_ms BIGINT NOT NULL,
    -- The body as it is sent, to the byte.
    body TEXT NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
);
CREATE INDEX events_by_age ON events (create_ms);

-- One message an event and endpoint.
CREATE TABLE deliveries (
    tenant_id TEXT NOT NULL,
    webhook_id TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    state TEXT NOT NULL,
    attempt_count BIGINT NOT NULL,
    -- Attempts that count towards giving up: those since it was written or sent again on request.
    round_count BIGINT NOT NULL,
    next_ms BIGINT NOT NULL,
    last_status BIGINT NOT NULL,
    last_error TEXT NOT NULL,
    PRIMARY KEY (tenant_id, webhook_id, sequence)
);
CREATE INDEX deliveries_due ON deliveries (state, next_ms);
