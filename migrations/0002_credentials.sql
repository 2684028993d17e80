-- Backend credentials, sealed. Plaintext never reaches these tables.

-- One row for each credential there ever was: it stays when the credential is
-- removed, because version numbers are bound by the seal and never used again.
CREATE TABLE credential (
  tenant_id       text COLLATE "C" NOT NULL REFERENCES tenant ON DELETE CASCADE,
  owner_issuer    text COLLATE "C" NOT NULL CHECK (octet_length(owner_issuer) <= 1024),
  owner_subject   text COLLATE "C" NOT NULL CHECK (octet_length(owner_subject) <= 255),
  name            text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 200),
  last_version    integer NOT NULL CHECK (last_version >= 0),  -- ever given
  current_version integer NOT NULL CHECK (current_version BETWEEN 0 AND last_version),  -- 0: removed
  PRIMARY KEY (tenant_id, owner_issuer, owner_subject, name),
  -- Both empty for the tenant's own, neither for a principal's.
  CHECK ((owner_issuer = '') = (owner_subject = ''))
);
ALTER TABLE credential ENABLE ROW LEVEL SECURITY;
ALTER TABLE credential FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON credential
  USING      (tenant_id = current_setting('postern.tenant_id', true))
  WITH CHECK (tenant_id = current_setting('postern.tenant_id', true));
GRANT SELECT, INSERT, UPDATE (last_version, current_version) ON credential TO postern_service;

CREATE FUNCTION credential_version_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.last_version < OLD.last_version THEN
    RAISE EXCEPTION 'credential versions are never reused' USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER only_grows BEFORE UPDATE ON credential
  FOR EACH ROW EXECUTE FUNCTION credential_version_only_grows();

CREATE TABLE credential_version (
  tenant_id     text COLLATE "C" NOT NULL,
  owner_issuer  text COLLATE "C" NOT NULL,
  owner_subject text COLLATE "C" NOT NULL,
  name          text COLLATE "C" NOT NULL,
  version       integer     NOT NULL CHECK (version > 0),
  kek_version   integer     NOT NULL,
  wrapped_dek   bytea       NOT NULL CHECK (octet_length(wrapped_dek) BETWEEN 1 AND 1024),
  sealed        bytea       NOT NULL CHECK (octet_length(sealed) BETWEEN 1 AND 524288),
  field_names   text[]      NOT NULL CHECK (cardinality(field_names) BETWEEN 1 AND 64),
  created_at    timestamptz NOT NULL,
  expires_at    timestamptz,
  PRIMARY KEY (tenant_id, owner_issuer, owner_subject, name, version),
  FOREIGN KEY (tenant_id, owner_issuer, owner_subject, name) REFERENCES credential
    ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, kek_version) REFERENCES kek DEFERRABLE INITIALLY DEFERRED
);
-- Sealed bytes do not compress; trying costs time on every write.
ALTER TABLE credential_version ALTER COLUMN sealed SET STORAGE EXTERNAL;
ALTER TABLE credential_version ENABLE ROW LEVEL SECURITY;
ALTER TABLE credential_version FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON credential_version
  USING      (tenant_id = current_setting('postern.tenant_id', true))
  WITH CHECK (tenant_id = current_setting('postern.tenant_id', true));
-- A version's content is final; rewrap may replace only how its DEK is wrapped.
GRANT SELECT, INSERT, UPDATE (kek_version, wrapped_dek), DELETE
  ON credential_version TO postern_service;

-- The release path in one round trip: sets the tenant for this statement's own
-- transaction, then reads under row-level security like everything else.
CREATE FUNCTION credential_latest(p_tenant text, p_issuer text, p_subject text, p_name text)
RETURNS TABLE (version integer, kek_version integer, wrapped_dek bytea, sealed bytea,
               field_names text, created_at bigint, expires_at bigint)
LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
BEGIN
  PERFORM set_config('postern.tenant_id', p_tenant, true);
  RETURN QUERY
    SELECT v.version, v.kek_version, v.wrapped_dek, v.sealed,
           array_to_string(v.field_names, ','),
           extract(epoch FROM v.created_at)::bigint, extract(epoch FROM v.expires_at)::bigint
      FROM credential_version v
     WHERE v.tenant_id = p_tenant AND v.owner_issuer = p_issuer
       AND v.owner_subject = p_subject AND v.name = p_name
     ORDER BY v.version DESC
     LIMIT 1;
END $$;
REVOKE ALL ON FUNCTION credential_latest(text, text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credential_latest(text, text, text, text) TO postern_service;
REVOKE ALL ON FUNCTION credential_version_only_grows() FROM PUBLIC;
