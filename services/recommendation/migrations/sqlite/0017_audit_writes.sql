-- Pages of the log without reads, which are most of it: of a tenant, and of one service.
CREATE INDEX audit_writes ON audit (tenant_id, sequence) WHERE substr(action, 1, 5) <> 'read.';
CREATE INDEX audit_writes_by_service ON audit (tenant_id, service_id, sequence) WHERE substr(action, 1, 5) <> 'read.';
