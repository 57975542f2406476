-- SHA-256 of what was declared of the edges into a dependency when it was said to be wrong; empty where none is meant, and in
-- what was kept before.
ALTER TABLE feedback ADD COLUMN edges_sha256 TEXT NOT NULL DEFAULT '';
