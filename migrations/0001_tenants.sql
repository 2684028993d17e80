-- Tenants, their keys and their configuration.
--
-- Every table begins its primary key with tenant_id, so that the schema can be
-- distributed by tenant, and shows only rows of the tenant named by the setting
-- postern.tenant_id, also to the owner (FORCE). The setting is made with
-- set_config(..., true) and ends with the transaction.

GRANT USAGE ON SCHEMA postern TO postern_service, postern_auditor;
GRANT SELECT ON schema_migration TO postern_service;

CREATE TABLE tenant (
  tenant_id    text COLLATE "C" PRIMARY KEY
               CHECK (tenant_id ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
  display_name text        NOT NULL CHECK (octet_length(display_name) <= 1000),
  enabled      boolean     NOT NULL DEFAULT true,
  settings     text        NOT NULL DEFAULT '{}' CHECK (octet_length(settings) <= 262144),
  epoch        bigint      NOT NULL DEFAULT 1 CHECK (epoch > 0),
  created_at   timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE tenant ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON tenant
  USING      (tenant_id = current_setting('postern.tenant_id', true))
  WITH CHECK (tenant_id = current_setting('postern.tenant_id', true));
-- Listing tenants and following their epochs: names and numbers, no secrets.
CREATE POLICY directory ON tenant FOR SELECT
  USING (current_setting('postern.scope', true) = 'directory');
GRANT SELECT, INSERT, UPDATE (display_name, enabled, settings, epoch), DELETE
  ON tenant TO postern_service;

-- Ids of removed tenants. An id is never used again: tokens and audit records
-- that name it must not come to mean somebody else.
CREATE TABLE tenant_tombstone (
  tenant_id  text COLLATE "C" PRIMARY KEY,
  removed_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE tenant_tombstone ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant_tombstone FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON tenant_tombstone
  USING      (tenant_id = current_setting('postern.tenant_id', true))
  WITH CHECK (tenant_id = current_setting('postern.tenant_id', true));
GRANT SELECT, INSERT ON tenant_tombstone TO postern_service;

-- Key-encrypting keys, each sealed under a root key that never comes here.
CREATE TABLE kek (
  tenant_id   text COLLATE "C" NOT NULL REFERENCES tenant ON DELETE CASCADE,
  version     integer     NOT NULL CHECK (version > 0),
  root_key_id text        NOT NULL CHECK (octet_length(root_key_id) BETWEEN 1 AND 100),
  wrapped     bytea       NOT NULL CHECK (octet_length(wrapped) BETWEEN 1 AND 1024),
  created_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, version)
);
ALTER TABLE kek ENABLE ROW LEVEL SECURITY;
ALTER TABLE kek FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON kek
  USING      (tenant_id = current_setting('postern.tenant_id', true))
  WITH CHECK (tenant_id = current_setting('postern.tenant_id', true));
GRANT SELECT, INSERT, UPDATE (root_key_id, wrapped) ON kek TO postern_service;

CREATE TABLE config_object (
  tenant_id text COLLATE "C" NOT NULL REFERENCES tenant ON DELETE CASCADE,
  kind      text COLLATE "C" NOT NULL
            CHECK (kind IN ('issuer', 'client', 'backend', 'role', 'binding')),
  name      text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255),
  spec      text   NOT NULL CHECK (octet_length(spec) BETWEEN 2 AND 1048576),
  revision  bigint NOT NULL CHECK (revision > 0),
  PRIMARY KEY (tenant_id, kind, name)
);
ALTER TABLE config_object ENABLE ROW LEVEL SECURITY;
ALTER TABLE config_object FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON config_object
  USING      (tenant_id = current_setting('postern.tenant_id', true))
  WITH CHECK (tenant_id = current_setting('postern.tenant_id', true));
GRANT SELECT, INSERT, UPDATE (spec, revision), DELETE ON config_object TO postern_service;

-- Hashes only; a secret is shown once, when it is made.
CREATE TABLE client_secret (
  tenant_id  text COLLATE "C" NOT NULL,
  client_id  text COLLATE "C" NOT NULL,
  secret_id  text COLLATE "C" NOT NULL CHECK (octet_length(secret_id) BETWEEN 1 AND 100),
  hash       bytea       NOT NULL CHECK (octet_length(hash) = 32),
  expires_at timestamptz,
  -- Lets a foreign key say "a configuration object that is a client".
  kind       text COLLATE "C" NOT NULL GENERATED ALWAYS AS ('client') STORED,
  PRIMARY KEY (tenant_id, client_id, secret_id),
  FOREIGN KEY (tenant_id, kind, client_id) REFERENCES config_object ON DELETE CASCADE
);
ALTER TABLE client_secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE client_secret FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON client_secret
  USING      (tenant_id = current_setting('postern.tenant_id', true))
  WITH CHECK (tenant_id = current_setting('postern.tenant_id', true));
GRANT SELECT, INSERT, DELETE ON client_secret TO postern_service;

CREATE TABLE admin_token (
  tenant_id   text COLLATE "C" NOT NULL REFERENCES tenant ON DELETE CASCADE,
  token_id    text COLLATE "C" NOT NULL CHECK (octet_length(token_id) BETWEEN 1 AND 100),
  description text        NOT NULL CHECK (octet_length(description) <= 1000),
  hash        bytea       NOT NULL CHECK (octet_length(hash) = 32),
  created_at  timestamptz NOT NULL,
  expires_at  timestamptz,
  PRIMARY KEY (tenant_id, token_id)
);
ALTER TABLE admin_token ENABLE ROW LEVEL SECURITY;
ALTER TABLE admin_token FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON admin_token
  USING      (tenant_id = current_setting('postern.tenant_id', true))
  WITH CHECK (tenant_id = current_setting('postern.tenant_id', true));
GRANT SELECT, INSERT, DELETE ON admin_token TO postern_service;

CREATE TABLE signing_key (
  tenant_id   text COLLATE "C" NOT NULL REFERENCES tenant ON DELETE CASCADE,
  kid         text COLLATE "C" NOT NULL CHECK (octet_length(kid) BETWEEN 1 AND 128),
  algorithm   text        NOT NULL CHECK (octet_length(algorithm) BETWEEN 1 AND 20),
  public_jwk  text        NOT NULL CHECK (octet_length(public_jwk) BETWEEN 2 AND 8192),
  state       text        NOT NULL CHECK (state IN ('pending', 'active', 'retired')),
  kek_version integer     NOT NULL,
  wrapped     bytea       NOT NULL CHECK (octet_length(wrapped) BETWEEN 1 AND 16384),
  created_at  timestamptz NOT NULL,
  retired_at  timestamptz,
  PRIMARY KEY (tenant_id, kid),
  -- Deferred, so that removing the tenant can cascade in any order.
  FOREIGN KEY (tenant_id, kek_version) REFERENCES kek DEFERRABLE INITIALLY DEFERRED
);
ALTER TABLE signing_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE signing_key FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON signing_key
  USING      (tenant_id = current_setting('postern.tenant_id', true))
  WITH CHECK (tenant_id = current_setting('postern.tenant_id', true));
GRANT SELECT, INSERT, UPDATE (state, retired_at, kek_version, wrapped)
  ON signing_key TO postern_service;
