-- What became of recommendations, beside the recommendations, which never change.
CREATE TABLE recommendation_states (
    tenant_id TEXT NOT NULL,
    recommendation_id TEXT NOT NULL,
    -- Grows from one recommendation of the tenant to the next; pages go by it.
    sequence BIGINT NOT NULL,
    service_id TEXT NOT NULL,
    window_days BIGINT NOT NULL,
    version BIGINT NOT NULL,
    create_ms BIGINT NOT NULL,
    -- From then on it cannot be accepted; moved on when it is found to hold still.
    expire_ms BIGINT NOT NULL,
    -- The newest decision's action; empty where nobody decided.
    decided TEXT NOT NULL,
    -- Whether there is a newer one of the same service and window.
    superseded BIGINT NOT NULL,
    confidence BIGINT NOT NULL,
    fallback BIGINT NOT NULL,
    tier BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, recommendation_id)
);
CREATE UNIQUE INDEX recommendation_states_by_sequence ON recommendation_states (tenant_id, sequence);
CREATE UNIQUE INDEX recommendation_states_by_version
    ON recommendation_states (tenant_id, service_id, window_days, version);

-- Recommendations of before: never more than records in the audit log, so that their sequences come before all new ones.
-- Of their tier, confidence and fallback nothing is known here; they can be accepted for 90 days.
INSERT INTO recommendation_states
SELECT r.tenant_id, r.id, ROW_NUMBER() OVER (PARTITION BY r.tenant_id ORDER BY r.create_ms, r.id), r.service_id,
    r.window_days, r.version, r.create_ms, r.create_ms + 7776000000,
    COALESCE((SELECT d.action FROM decisions d WHERE d.tenant_id = r.tenant_id AND d.recommendation_id = r.id
        ORDER BY d.sequence DESC LIMIT 1), ''),
    CASE WHEN EXISTS (SELECT 1 FROM recommendations n WHERE n.tenant_id = r.tenant_id AND n.service_id = r.service_id
        AND n.window_days = r.window_days AND n.version > r.version) THEN 1 ELSE 0 END,
    0, 0, 0
FROM recommendations r;

-- What services were when they were last recommended for or decided upon.
CREATE TABLE service_facts (
    tenant_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    tier BIGINT NOT NULL,
    owner TEXT NOT NULL,
    PRIMARY KEY (tenant_id, service_id)
);

ALTER TABLE decisions ADD COLUMN approved_by TEXT NOT NULL DEFAULT '';
ALTER TABLE decisions ADD COLUMN policy_version BIGINT NOT NULL DEFAULT 0;

-- When an SLO is to be reviewed, 0 for never; and whether a renewal was offered.
ALTER TABLE slos ADD COLUMN review_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE slos ADD COLUMN renewal_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE slos ADD COLUMN renewal_offered BIGINT NOT NULL DEFAULT 0;

-- Every version of every SLO: rows are added and never changed.
CREATE TABLE slo_versions (
    tenant_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    version BIGINT NOT NULL,
    target_ratio DOUBLE NOT NULL,
    latency_threshold_ms BIGINT NOT NULL,
    -- 0 where versions of before did not record it.
    window_days BIGINT NOT NULL,
    recommendation_id TEXT NOT NULL,
    as_recommended BIGINT NOT NULL,
    -- Position of the decision in the audit log.
    sequence BIGINT NOT NULL,
    create_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, service_id, kind, version)
);

INSERT INTO slo_versions
SELECT v.tenant_id, v.service_id, v.kind, v.version, v.target_ratio, v.latency_threshold_ms,
    COALESCE(s.window_days, r.window_days, 0), v.recommendation_id, v.as_recommended, v.sequence, v.create_ms
FROM (
    SELECT d.tenant_id, d.service_id, d.kind, d.target_ratio, d.latency_threshold_ms, d.recommendation_id, d.sequence,
        d.create_ms, CASE WHEN d.action = 'accept' THEN 1 ELSE 0 END AS as_recommended,
        ROW_NUMBER() OVER (PARTITION BY d.tenant_id, d.service_id, d.kind ORDER BY d.sequence) AS version
    FROM decisions d WHERE d.action <> 'reject'
) v
LEFT JOIN slos s ON s.tenant_id = v.tenant_id AND s.service_id = v.service_id AND s.kind = v.kind AND s.version = v.version
LEFT JOIN recommendations r ON r.tenant_id = v.tenant_id AND r.id = v.recommendation_id;

-- Decisions that wait for somebody else.
CREATE TABLE pending_decisions (
    tenant_id TEXT NOT NULL,
    -- Position of the proposal's record in the tenant's audit log.
    sequence BIGINT NOT NULL,
    id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    recommendation_id TEXT NOT NULL,
    -- What is to be decided, as JSON.
    verdict_json TEXT NOT NULL,
    proposed_by TEXT NOT NULL,
    create_ms BIGINT NOT NULL,
    expire_ms BIGINT NOT NULL,
    state TEXT NOT NULL,
    closed_by TEXT NOT NULL,
    close_ms BIGINT NOT NULL,
    close_reason TEXT NOT NULL,
    -- The decision that came of it; empty unless approved.
    decision_id TEXT NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX pending_by_sequence ON pending_decisions (tenant_id, sequence);
CREATE INDEX pending_by_recommendation ON pending_decisions (tenant_id, recommendation_id);
CREATE INDEX pending_by_state ON pending_decisions (state, expire_ms);

-- Every version of every tenant's policy: rows are added and never changed.
CREATE TABLE policies (
    tenant_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    content_json TEXT NOT NULL,
    reason TEXT NOT NULL,
    set_by TEXT NOT NULL,
    set_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, version)
);
