-- The newest state of every document; a removed one leaves its last version behind, so that version numbers never return.
CREATE TABLE documents (
    tenant_id TEXT NOT NULL,
    document_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    removed BIGINT NOT NULL,
    recipe TEXT NOT NULL,
    PRIMARY KEY (tenant_id, document_id)
);

-- Every version that a citation may name.
CREATE TABLE document_versions (
    tenant_id TEXT NOT NULL,
    document_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    kind TEXT NOT NULL,
    title TEXT NOT NULL,
    text TEXT NOT NULL,
    text_sha256 TEXT NOT NULL,
    service_ids TEXT NOT NULL,
    update_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, document_id, version)
);

-- Which services the newest version is about.
CREATE TABLE document_services (
    tenant_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    document_id TEXT NOT NULL,
    PRIMARY KEY (tenant_id, service_id, document_id)
);
CREATE INDEX document_services_by_document ON document_services (tenant_id, document_id);

-- Which terms the newest version holds, for document frequencies.
CREATE TABLE document_terms (
    tenant_id TEXT NOT NULL,
    term BIGINT NOT NULL,
    document_id TEXT NOT NULL,
    PRIMARY KEY (tenant_id, term, document_id)
);
CREATE INDEX document_terms_by_document ON document_terms (tenant_id, document_id);
