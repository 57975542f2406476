-- The newest back-test of each service, window, SLI and ambition: sums, so that those of a class add up.
CREATE TABLE backtests (
    tenant_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    window_days BIGINT NOT NULL,
    kind TEXT NOT NULL,
    ambition TEXT NOT NULL,
    -- The class of the service when it was made: tier 1 to 4, kind of node.
    tier BIGINT NOT NULL,
    entity_kind TEXT NOT NULL,
    forecast_count BIGINT NOT NULL,
    missed_count BIGINT NOT NULL,
    window_count DOUBLE NOT NULL,
    probability_sum DOUBLE NOT NULL,
    brier_sum DOUBLE NOT NULL,
    allowed_sum DOUBLE NOT NULL,
    observed_sum DOUBLE NOT NULL,
    update_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, service_id, window_days, kind, ambition)
);
CREATE INDEX backtests_by_class ON backtests (tenant_id, tier, entity_kind, kind, window_days, ambition);

-- Offers that were made: the first of each week, and what became of them once their window closed.
CREATE TABLE offers (
    tenant_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    window_days BIGINT NOT NULL,
    kind TEXT NOT NULL,
    ambition TEXT NOT NULL,
    -- Weeks since 1970 of the start of the window.
    week BIGINT NOT NULL,
    recommendation_id TEXT NOT NULL,
    tier BIGINT NOT NULL,
    entity_kind TEXT NOT NULL,
    start_ms BIGINT NOT NULL,
    end_ms BIGINT NOT NULL,
    target_ratio DOUBLE NOT NULL,
    -- 0 for availability.
    latency_threshold_ms BIGINT NOT NULL,
    miss_probability DOUBLE NOT NULL,
    -- open, met, missed, or unjudged where too little was measured.
    state TEXT NOT NULL,
    -- Bad over valid of the window; 0 until it is judged.
    observed_ratio DOUBLE NOT NULL,
    judge_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, service_id, window_days, kind, ambition, week)
);
CREATE INDEX offers_due ON offers (state, end_ms);
CREATE INDEX offers_by_class ON offers (tenant_id, tier, entity_kind, kind, window_days);
