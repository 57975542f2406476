-- What a model says of classes of services beside its constants, as JSON; empty for models from before.
ALTER TABLE models ADD COLUMN classes TEXT NOT NULL DEFAULT '';
