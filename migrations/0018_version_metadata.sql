-- What is said about one version when it is written. Nobody may change it: only
-- INSERT names it.
ALTER TABLE credential_version
  ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}'
      CHECK (jsonb_typeof(metadata) = 'object' AND octet_length(metadata::text) <= 65536);
