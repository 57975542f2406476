-- Recommendations of single regions, made with that of the whole of the same inputs: rows are added and never changed.
CREATE TABLE regional_recommendations (
    tenant_id TEXT NOT NULL,
    -- Of the whole.
    recommendation_id TEXT NOT NULL,
    region TEXT NOT NULL,
    -- SHA-256 of the message without id, version and time.
    result_sha256 TEXT NOT NULL,
    -- The encoded attain.recommendation.v1.Recommendation.
    message BYTEA NOT NULL,
    PRIMARY KEY (tenant_id, recommendation_id, region)
);
