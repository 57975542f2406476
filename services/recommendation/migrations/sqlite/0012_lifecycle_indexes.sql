-- Whose turn it is at an endpoint, and which messages belong to an event.
CREATE INDEX deliveries_by_endpoint ON deliveries (tenant_id, webhook_id, state, sequence);
CREATE INDEX deliveries_by_event ON deliveries (tenant_id, sequence);
-- What upkeep, policy and the list of open recommendations look for.
CREATE INDEX slos_by_renewal ON slos (renewal_ms) WHERE renewal_offered = 0 AND renewal_ms > 0;
CREATE INDEX decisions_by_policy ON decisions (tenant_id, create_ms) WHERE policy_version > 0;
CREATE INDEX recommendation_states_open ON recommendation_states (tenant_id, sequence)
    WHERE decided = '' AND superseded = 0;
