-- Answers of Vault's API that wait, sealed, for whoever holds their token: each is
-- taken once. Of the token there is a hash alone.
CREATE TABLE wrapped_answer (
  tenant_id     text COLLATE "C" NOT NULL REFERENCES tenant ON DELETE CASCADE,
  token_hash    bytea            NOT NULL CHECK (octet_length(token_hash) = 32),
  accessor      text COLLATE "C" NOT NULL CHECK (octet_length(accessor) BETWEEN 1 AND 64),
  maker         text COLLATE "C" NOT NULL CHECK (octet_length(maker) BETWEEN 1 AND 1500),
  creation_path text COLLATE "C" NOT NULL CHECK (octet_length(creation_path) <= 1000),
  created_at    timestamptz      NOT NULL,
  expires_at    timestamptz      NOT NULL CHECK (expires_at > created_at),
  kek_version   integer          NOT NULL,
  sealed        bytea            NOT NULL CHECK (octet_length(sealed) BETWEEN 1 AND 524288),
  PRIMARY KEY (tenant_id, token_hash),
  UNIQUE (tenant_id, accessor),
  FOREIGN KEY (tenant_id, kek_version) REFERENCES kek DEFERRABLE INITIALLY DEFERRED
);
ALTER TABLE wrapped_answer ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE INDEX wrapped_answer_by_maker ON wrapped_answer (tenant_id, maker);
CREATE INDEX wrapped_answer_by_expiry ON wrapped_answer (tenant_id, expires_at);
CREATE INDEX wrapped_answer_by_kek ON wrapped_answer (tenant_id, kek_version);
ALTER TABLE wrapped_answer ENABLE ROW LEVEL SECURITY;
ALTER TABLE wrapped_answer FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON wrapped_answer
  USING      (tenant_id = current_setting('postern.tenant_id', true))
  WITH CHECK (tenant_id = current_setting('postern.tenant_id', true));
-- What waits may be taken, and moved to another KEK.
GRANT SELECT, INSERT, UPDATE (kek_version, sealed), DELETE ON wrapped_answer TO postern_service;
CREATE TRIGGER under_newest_kek BEFORE INSERT OR UPDATE OF kek_version ON wrapped_answer
  FOR EACH ROW EXECUTE FUNCTION under_newest_kek();

-- What one tenant has under an older KEK than its newest, besides credentials and
-- signing keys. Sees what the tenant's own transactions see.
CREATE FUNCTION older_others(p_tenant text, p_newest integer) RETURNS bigint
LANGUAGE sql STABLE SECURITY INVOKER AS $$
  SELECT count(*) FROM postern.wrapped_answer w
   WHERE w.tenant_id = p_tenant AND w.kek_version < p_newest
$$;
REVOKE ALL ON FUNCTION older_others(text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION older_others(text, integer) TO postern_service;

-- As before, and with the others. The release before asks for its columns by name.
DROP FUNCTION key_backlog();
CREATE FUNCTION key_backlog(OUT tenants bigint, OUT credential_versions bigint,
                            OUT signing_keys bigint, OUT others bigint)
LANGUAGE plpgsql SECURITY INVOKER AS $$
DECLARE
  v_tenant  record;
  v_deks    bigint;
  v_signing bigint;
  v_others  bigint;
BEGIN
  tenants := 0;
  credential_versions := 0;
  signing_keys := 0;
  others := 0;
  PERFORM set_config('postern.scope', 'keys', true);
  FOR v_tenant IN SELECT k.tenant_id AS id, max(k.version) AS newest
                    FROM postern.kek k GROUP BY k.tenant_id HAVING count(*) > 1 LOOP
    PERFORM set_config('postern.tenant_id', v_tenant.id, true);
    SELECT count(*) INTO v_deks FROM postern.credential_version v
     WHERE v.tenant_id = v_tenant.id AND v.kek_version < v_tenant.newest;
    SELECT count(*) INTO v_signing FROM postern.signing_key s
     WHERE s.tenant_id = v_tenant.id AND s.kek_version < v_tenant.newest;
    v_others := postern.older_others(v_tenant.id, v_tenant.newest);
    IF v_deks + v_signing + v_others > 0 THEN
      tenants := tenants + 1;
      credential_versions := credential_versions + v_deks;
      signing_keys := signing_keys + v_signing;
      others := others + v_others;
    END IF;
  END LOOP;
  PERFORM set_config('postern.tenant_id', '', true);
  PERFORM set_config('postern.scope', '', true);
END $$;
REVOKE ALL ON FUNCTION key_backlog() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION key_backlog() TO postern_service;
