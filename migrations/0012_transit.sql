-- Keys that clients use by name and never see: transit of Vault's API.
CREATE TABLE transit_key (
  tenant_id              text COLLATE "C" NOT NULL REFERENCES tenant ON DELETE CASCADE,
  name                   text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 200),
  -- Random: a key of the same name after this one was removed is another.
  key_id                 text COLLATE "C" NOT NULL CHECK (octet_length(key_id) BETWEEN 1 AND 64),
  type                   text COLLATE "C" NOT NULL CHECK (octet_length(type) BETWEEN 1 AND 64),
  derived                boolean     NOT NULL,
  deletion_allowed       boolean     NOT NULL DEFAULT false,
  latest_version         integer     NOT NULL CHECK (latest_version >= 1),
  min_decryption_version integer     NOT NULL DEFAULT 1,
  min_encryption_version integer     NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, name),
  UNIQUE (tenant_id, key_id),
  CHECK (min_decryption_version BETWEEN 1 AND latest_version),
  CHECK (min_encryption_version = 0 OR
         min_encryption_version BETWEEN min_decryption_version AND latest_version)
);
ALTER TABLE transit_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE transit_key FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON transit_key
  USING      (tenant_id = current_setting('postern.tenant_id', true))
  WITH CHECK (tenant_id = current_setting('postern.tenant_id', true));
GRANT SELECT, INSERT, DELETE,
      UPDATE (deletion_allowed, latest_version, min_decryption_version, min_encryption_version)
  ON transit_key TO postern_service;

CREATE TABLE transit_key_version (
  tenant_id   text COLLATE "C" NOT NULL,
  key_id      text COLLATE "C" NOT NULL,
  version     integer     NOT NULL CHECK (version >= 1),
  kek_version integer     NOT NULL,
  wrapped     bytea       NOT NULL CHECK (octet_length(wrapped) BETWEEN 1 AND 4096),
  created_at  timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, key_id, version),
  FOREIGN KEY (tenant_id, key_id) REFERENCES transit_key (tenant_id, key_id) ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, kek_version) REFERENCES kek DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX transit_key_version_by_kek ON transit_key_version (tenant_id, kek_version);
ALTER TABLE transit_key_version ENABLE ROW LEVEL SECURITY;
ALTER TABLE transit_key_version FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON transit_key_version
  USING      (tenant_id = current_setting('postern.tenant_id', true))
  WITH CHECK (tenant_id = current_setting('postern.tenant_id', true));
-- A version is made once; a rewrap may replace how it is wrapped, and it goes with its key.
GRANT SELECT, INSERT, UPDATE (kek_version, wrapped) ON transit_key_version TO postern_service;
CREATE TRIGGER under_newest_kek BEFORE INSERT OR UPDATE OF kek_version ON transit_key_version
  FOR EACH ROW EXECUTE FUNCTION under_newest_kek();

CREATE OR REPLACE FUNCTION older_others(p_tenant text, p_newest integer) RETURNS bigint
LANGUAGE sql STABLE SECURITY INVOKER AS $$
  SELECT (SELECT count(*) FROM postern.wrapped_answer w
           WHERE w.tenant_id = p_tenant AND w.kek_version < p_newest)
       + (SELECT count(*) FROM postern.transit_key_version t
           WHERE t.tenant_id = p_tenant AND t.kek_version < p_newest)
$$;
