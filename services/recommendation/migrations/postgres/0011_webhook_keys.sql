-- Which key a secret is encrypted with; empty for one that is not. The service encrypts those when it starts.
ALTER TABLE webhooks ADD COLUMN secret_key_id TEXT NOT NULL DEFAULT '';
ALTER TABLE webhooks ADD COLUMN previous_key_id TEXT NOT NULL DEFAULT '';
