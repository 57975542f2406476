-- Services whose topology changed after a version, for whoever holds that version (storage::topology). 1 is topology
-- (storage::changes::ChangeKind).
CREATE INDEX topology_changes ON changes (tenant_id, sequence) WHERE kind = 1;
