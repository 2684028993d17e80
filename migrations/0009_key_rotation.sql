-- Keys are rotated while the service runs.

-- Which root key each KEK is under, of all tenants: for readiness, and for
-- rotating the root key. KEKs are sealed, here as everywhere.
CREATE POLICY root_keys ON kek FOR SELECT
  USING (current_setting('postern.scope', true) = 'keys');

-- How many rows were moved to this KEK from older ones.
ALTER TABLE kek ADD COLUMN rewrapped bigint NOT NULL DEFAULT 0 CHECK (rewrapped >= 0);
GRANT UPDATE (rewrapped) ON kek TO postern_service;

-- Finds what is left under an older KEK, and what refers to a KEK that goes.
CREATE INDEX credential_version_by_kek ON credential_version (tenant_id, kek_version);

-- Of one tenant's KEKs: writers hold it shared, a rotation alone. Not a row's lock,
-- for those are not given in the order in which they are asked for: a tenant that
-- always writes would never be rotated.
CREATE FUNCTION kek_lock(p_tenant text) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
  SELECT hashtextextended('postern.kek ' || p_tenant, 0)
$$;
REVOKE ALL ON FUNCTION kek_lock(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION kek_lock(text) TO postern_service;

-- Nothing is stored under a KEK that is not the newest: when a rotation has ended,
-- no writer that has not heard of it adds to what is left to move. A rotation waits
-- for writers before it, and writers for one under way; what that added is then
-- seen by the second statement.
CREATE FUNCTION under_newest_kek() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(postern.kek_lock(NEW.tenant_id));
  IF EXISTS (SELECT 1 FROM postern.kek k
              WHERE k.tenant_id = NEW.tenant_id AND k.version > NEW.kek_version) THEN
    RAISE EXCEPTION 'sealed under a KEK that was rotated' USING ERRCODE = 'KEK01';
  END IF;
  RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION under_newest_kek() FROM PUBLIC;
CREATE TRIGGER under_newest_kek BEFORE INSERT OR UPDATE OF kek_version ON credential_version
  FOR EACH ROW EXECUTE FUNCTION under_newest_kek();
CREATE TRIGGER under_newest_kek BEFORE INSERT OR UPDATE OF kek_version ON signing_key
  FOR EACH ROW EXECUTE FUNCTION under_newest_kek();

-- What all tenants have left to move, in one round trip. Of each tenant's rows it
-- sees what that tenant's own transactions see, one tenant after the other.
CREATE FUNCTION key_backlog(OUT tenants bigint, OUT credential_versions bigint,
                            OUT signing_keys bigint)
LANGUAGE plpgsql SECURITY INVOKER AS $$
DECLARE
  v_tenant  record;
  v_deks    bigint;
  v_signing bigint;
BEGIN
  tenants := 0;
  credential_versions := 0;
  signing_keys := 0;
  PERFORM set_config('postern.scope', 'keys', true);
  FOR v_tenant IN SELECT k.tenant_id AS id, max(k.version) AS newest
                    FROM postern.kek k GROUP BY k.tenant_id HAVING count(*) > 1 LOOP
    PERFORM set_config('postern.tenant_id', v_tenant.id, true);
    SELECT count(*) INTO v_deks FROM postern.credential_version v
     WHERE v.tenant_id = v_tenant.id AND v.kek_version < v_tenant.newest;
    SELECT count(*) INTO v_signing FROM postern.signing_key s
     WHERE s.tenant_id = v_tenant.id AND s.kek_version < v_tenant.newest;
    IF v_deks + v_signing > 0 THEN
      tenants := tenants + 1;
      credential_versions := credential_versions + v_deks;
      signing_keys := signing_keys + v_signing;
    END IF;
  END LOOP;
  PERFORM set_config('postern.tenant_id', '', true);
  PERFORM set_config('postern.scope', '', true);
END $$;
REVOKE ALL ON FUNCTION key_backlog() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION key_backlog() TO postern_service;
