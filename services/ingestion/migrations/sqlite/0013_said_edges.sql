-- What people (source 1) and the catalogue (source 5) say of dependencies: all edges of a caller together.
CREATE TABLE said_edges (
    tenant_id TEXT NOT NULL,
    caller_id TEXT NOT NULL,
    source BIGINT NOT NULL,
    edge_count BIGINT NOT NULL,
    -- Callee and terms (record::TermsRecord) of each edge by turns, in lexical order of callees, each after its length and a
    -- colon.
    edges BLOB NOT NULL,
    PRIMARY KEY (tenant_id, caller_id, source)
) WITHOUT ROWID;
INSERT INTO said_edges (tenant_id, caller_id, source, edge_count, edges)
    SELECT tenant_id, caller_id, source, COUNT(*),
        CAST(STRING_AGG(OCTET_LENGTH(callee_id) || ':' || callee_id || OCTET_LENGTH(terms) || ':' || CAST(terms AS TEXT), ''
            ORDER BY callee_id) AS BLOB)
    FROM dependencies WHERE source IN (1, 5) GROUP BY tenant_id, caller_id, source;
DELETE FROM dependencies WHERE source IN (1, 5);
