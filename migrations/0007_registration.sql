-- Initial access tokens (RFC 7591 §1.2): who holds one may register clients.
-- Hashes only; a token is shown once, when it is made.
CREATE TABLE initial_access_token (
  tenant_id   text COLLATE "C" NOT NULL REFERENCES tenant ON DELETE CASCADE,
  token_id    text COLLATE "C" NOT NULL CHECK (octet_length(token_id) BETWEEN 1 AND 100),
  description text        NOT NULL CHECK (octet_length(description) <= 1000),
  hash        bytea       NOT NULL CHECK (octet_length(hash) = 32),
  created_at  timestamptz NOT NULL,
  expires_at  timestamptz NOT NULL,
  max_uses    integer     NOT NULL CHECK (max_uses BETWEEN 1 AND 1000),
  uses        integer     NOT NULL CHECK (uses BETWEEN 0 AND max_uses),
  PRIMARY KEY (tenant_id, token_id)
);
ALTER TABLE initial_access_token ENABLE ROW LEVEL SECURITY;
ALTER TABLE initial_access_token FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON initial_access_token
  USING      (tenant_id = current_setting('postern.tenant_id', true))
  WITH CHECK (tenant_id = current_setting('postern.tenant_id', true));
GRANT SELECT, INSERT, UPDATE (uses), DELETE ON initial_access_token TO postern_service;
