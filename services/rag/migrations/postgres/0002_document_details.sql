-- What is known of a version beside its text. `findings` holds a line a finding, `line code`; `objectives` a line an SLO.
ALTER TABLE document_versions ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE document_versions ADD COLUMN licence TEXT NOT NULL DEFAULT '';
ALTER TABLE document_versions ADD COLUMN reviewed_ms BIGINT;
ALTER TABLE document_versions ADD COLUMN review_due_ms BIGINT;
ALTER TABLE document_versions ADD COLUMN supersedes TEXT NOT NULL DEFAULT '';
ALTER TABLE document_versions ADD COLUMN superseded_by TEXT NOT NULL DEFAULT '';
ALTER TABLE document_versions ADD COLUMN visibility TEXT NOT NULL DEFAULT 'tenant';
ALTER TABLE document_versions ADD COLUMN source_uri TEXT NOT NULL DEFAULT '';
ALTER TABLE document_versions ADD COLUMN source_revision TEXT NOT NULL DEFAULT '';
ALTER TABLE document_versions ADD COLUMN findings TEXT NOT NULL DEFAULT '';
ALTER TABLE document_versions ADD COLUMN hidden_count BIGINT NOT NULL DEFAULT 0;
ALTER TABLE document_versions ADD COLUMN redacted_count BIGINT NOT NULL DEFAULT 0;
ALTER TABLE document_versions ADD COLUMN objectives TEXT NOT NULL DEFAULT '';

-- Which document has taken the place of which, and which of the two says so in its newest version.
CREATE TABLE document_supersessions (
    tenant_id TEXT NOT NULL,
    superseded_id TEXT COLLATE "C" NOT NULL,
    by_id TEXT COLLATE "C" NOT NULL,
    document_id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, superseded_id, by_id, document_id)
);
CREATE INDEX document_supersessions_by_document ON document_supersessions (tenant_id, document_id);
