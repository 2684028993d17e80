-- Keys that take a share besides the root key. Shares are in another database, the
-- share store, which is in no backup; here is only which share a key takes.

-- NULL: none. It is bound to how the KEK is wrapped, so a KEK whose mark was taken away
-- does not open.
ALTER TABLE kek ADD COLUMN share_id bytea CHECK (octet_length(share_id) = 32);
-- When nothing was left to move from this KEK, which takes no share: copies of the
-- database from then on open nothing that it sealed.
ALTER TABLE kek ADD COLUMN emptied_at timestamptz;
GRANT UPDATE (emptied_at) ON kek TO postern_service;

-- The share that a principal's credentials are under from now on. It does not refer to
-- tenant, for it is added beside a transaction that may hold that row: a trigger below
-- takes it away.
CREATE TABLE principal_share (
  tenant_id      text COLLATE "C" NOT NULL,
  owner_issuer   text COLLATE "C" NOT NULL CHECK (octet_length(owner_issuer) BETWEEN 1 AND 1024),
  owner_subject  text COLLATE "C" NOT NULL CHECK (octet_length(owner_subject) BETWEEN 1 AND 255),
  share_id       bytea       NOT NULL CHECK (octet_length(share_id) = 32),
  created_at     timestamptz NOT NULL DEFAULT now(),
  -- When the last version that was under no share was moved or removed.
  unshared_until timestamptz,
  PRIMARY KEY (tenant_id, owner_issuer, owner_subject)
);
ALTER TABLE principal_share ENABLE ROW LEVEL SECURITY;
ALTER TABLE principal_share FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON principal_share
  USING      (tenant_id = current_setting('postern.tenant_id', true))
  WITH CHECK (tenant_id = current_setting('postern.tenant_id', true));
GRANT SELECT, INSERT, UPDATE (unshared_until), DELETE ON principal_share TO postern_service;

CREATE FUNCTION principal_shares_go() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
  DELETE FROM postern.principal_share p WHERE p.tenant_id = OLD.tenant_id;
  RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION principal_shares_go() FROM PUBLIC;
CREATE TRIGGER principal_shares_go AFTER DELETE ON tenant
  FOR EACH ROW EXECUTE FUNCTION principal_shares_go();

ALTER TABLE credential_version
  ADD COLUMN share_id bytea CHECK (octet_length(share_id) = 32),
  ADD CHECK (share_id IS NULL OR owner_issuer <> '');
GRANT UPDATE (share_id) ON credential_version TO postern_service;

-- Nothing is stored under a share that is not its owner's: one that was destroyed while
-- the writer had it in memory. The lock is that of migration 0009.
CREATE FUNCTION under_current_share() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
  IF NEW.share_id IS NULL OR NEW.wrapped_dek IS NULL THEN
    RETURN NEW;
  END IF;
  PERFORM pg_advisory_xact_lock_shared(postern.kek_lock(NEW.tenant_id));
  IF NOT EXISTS (SELECT 1 FROM postern.principal_share p
                  WHERE p.tenant_id = NEW.tenant_id AND p.owner_issuer = NEW.owner_issuer
                    AND p.owner_subject = NEW.owner_subject AND p.share_id = NEW.share_id) THEN
    RAISE EXCEPTION 'sealed under a share that is no more' USING ERRCODE = 'SHR01';
  END IF;
  RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION under_current_share() FROM PUBLIC;
CREATE TRIGGER under_current_share
  BEFORE INSERT OR UPDATE OF kek_version, wrapped_dek, share_id ON credential_version
  FOR EACH ROW EXECUTE FUNCTION under_current_share();

-- What a copy from before may hold without a share.
CREATE FUNCTION unshared_until_now() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
  UPDATE postern.principal_share p SET unshared_until = clock_timestamp()
   WHERE p.tenant_id = OLD.tenant_id AND p.owner_issuer = OLD.owner_issuer
     AND p.owner_subject = OLD.owner_subject;
  RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION unshared_until_now() FROM PUBLIC;
CREATE TRIGGER unshared_until_now AFTER DELETE OR UPDATE OF wrapped_dek ON credential_version
  FOR EACH ROW WHEN (OLD.owner_issuer <> '' AND OLD.share_id IS NULL AND OLD.wrapped_dek IS NOT NULL)
  EXECUTE FUNCTION unshared_until_now();

-- As before, and which share the version takes. The release before asks by name.
DROP FUNCTION credential_latest(text, text, text, text);
CREATE FUNCTION credential_latest(p_tenant text, p_issuer text, p_subject text, p_name text)
RETURNS TABLE (version integer, kek_version integer, wrapped_dek bytea, sealed bytea,
               field_names text, created_at bigint, expires_at bigint, share_id bytea)
LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
BEGIN
  PERFORM set_config('postern.tenant_id', p_tenant, true);
  RETURN QUERY
    SELECT v.version, v.kek_version, v.wrapped_dek, v.sealed,
           array_to_string(v.field_names, ','),
           extract(epoch FROM v.created_at)::bigint, extract(epoch FROM v.expires_at)::bigint,
           v.share_id
      FROM credential c
      JOIN credential_version v
        ON v.tenant_id = c.tenant_id AND v.owner_issuer = c.owner_issuer
       AND v.owner_subject = c.owner_subject AND v.name = c.name
       AND v.version = c.current_version
     WHERE c.tenant_id = p_tenant AND c.owner_issuer = p_issuer
       AND c.owner_subject = p_subject AND c.name = p_name
       AND v.deleted_at IS NULL AND v.destroyed_at IS NULL;
END $$;
REVOKE ALL ON FUNCTION credential_latest(text, text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credential_latest(text, text, text, text) TO postern_service;
