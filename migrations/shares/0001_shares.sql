-- The share store: what keys need besides the root key, in a database of its own that
-- is in no backup. Whoever has a copy of it alone opens nothing with it.

GRANT USAGE ON SCHEMA postern TO postern_service;
GRANT SELECT ON schema_migration TO postern_service;

-- Of whom a share is, and of what, only the other database says.
CREATE TABLE key_share (
  tenant_id  text COLLATE "C" NOT NULL
             CHECK (tenant_id ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
  share_id   bytea       NOT NULL CHECK (octet_length(share_id) = 32),  -- a hash of the share
  share      bytea       NOT NULL CHECK (octet_length(share) = 32),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, share_id)
)
-- A row that was deleted is in its page until a vacuum: each one is reason for it.
WITH (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0);
ALTER TABLE key_share ENABLE ROW LEVEL SECURITY;
ALTER TABLE key_share FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON key_share
  USING      (tenant_id = current_setting('postern.tenant_id', true))
  WITH CHECK (tenant_id = current_setting('postern.tenant_id', true));
-- A share is made once, and destroyed once.
GRANT SELECT, INSERT, DELETE ON key_share TO postern_service;
