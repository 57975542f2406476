-- What people (source 1) and the catalogue (source 5) say of dependencies: all edges of a caller together.
CREATE TABLE said_edges (
    tenant_id TEXT COLLATE "C" NOT NULL,
    caller_id TEXT COLLATE "C" NOT NULL,
    source BIGINT NOT NULL,
    edge_count BIGINT NOT NULL,
    -- Callee and terms (record::TermsRecord) of each edge by turns, in lexical order of callees, each after its length and a
    -- colon.
    edges BYTEA NOT NULL,
    PRIMARY KEY (tenant_id, caller_id, source)
);
INSERT INTO said_edges (tenant_id, caller_id, source, edge_count, edges)
    SELECT tenant_id, caller_id, source, COUNT(*),
        STRING_AGG(CONVERT_TO(OCTET_LENGTH(callee_id) || ':' || callee_id || OCTET_LENGTH(terms) || ':', 'UTF8') || terms,
            ''::bytea ORDER BY callee_id)
    FROM dependencies WHERE source IN (1, 5) GROUP BY tenant_id, caller_id, source;
DELETE FROM dependencies WHERE source IN (1, 5);
