-- Tokens revoked before they expired, and when signing keys take over.

-- Ids of tokens, never tokens: the `jti` of our own, a digest of others'. The
-- transaction that added a row stands in it, so that replicas read what is new
-- without missing what commits out of order.
CREATE TABLE revoked_token (
  tenant_id  text COLLATE "C" NOT NULL REFERENCES tenant ON DELETE CASCADE,
  token_id   text COLLATE "C" NOT NULL CHECK (octet_length(token_id) BETWEEN 1 AND 100),
  expires_at timestamptz NOT NULL,
  added_in   xid8        NOT NULL DEFAULT pg_current_xact_id(),
  PRIMARY KEY (tenant_id, token_id)
);
CREATE INDEX revoked_token_added ON revoked_token (added_in);
CREATE INDEX revoked_token_expiry ON revoked_token (tenant_id, expires_at);
ALTER TABLE revoked_token ENABLE ROW LEVEL SECURITY;
ALTER TABLE revoked_token FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON revoked_token
  USING      (tenant_id = current_setting('postern.tenant_id', true))
  WITH CHECK (tenant_id = current_setting('postern.tenant_id', true));
-- Each replica follows all of them.
CREATE POLICY revocations ON revoked_token FOR SELECT
  USING (current_setting('postern.scope', true) = 'revocations');
GRANT SELECT, INSERT, DELETE ON revoked_token TO postern_service;

-- A key signs from then on; null: from the time it was made. Until then it is
-- only published. A pending key, which the previous release never signs with.
ALTER TABLE signing_key ADD COLUMN active_from timestamptz;
GRANT DELETE ON signing_key TO postern_service;
