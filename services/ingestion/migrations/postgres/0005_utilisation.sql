-- What a service used: one row a day and source, with every kind and five minutes of it (utilisation::DayRecord). The day
-- that goes on is rewritten; an ordinary table, since rows have kilobytes.
CREATE TABLE utilisation_days (
    tenant_id TEXT COLLATE "C" NOT NULL,
    service_id TEXT COLLATE "C" NOT NULL,
    day_ms BIGINT NOT NULL,
    source BIGINT NOT NULL,
    record BYTEA NOT NULL,
    PRIMARY KEY (tenant_id, service_id, day_ms, source)
);
-- For retention.
CREATE INDEX utilisation_days_by_day ON utilisation_days (day_ms);
