-- What may be presented once: ids of client assertions, DPoP proofs and ID-JAGs,
-- as hashes. Shared by all replicas, so that none takes what another has seen.
CREATE TABLE used_once (
  tenant_id  text COLLATE "C" NOT NULL REFERENCES tenant ON DELETE CASCADE,
  kind       text COLLATE "C" NOT NULL CHECK (octet_length(kind) BETWEEN 1 AND 32),
  digest     bytea            NOT NULL CHECK (octet_length(digest) = 32),
  expires_at timestamptz      NOT NULL,
  PRIMARY KEY (tenant_id, kind, digest)
);
CREATE INDEX used_once_by_expiry ON used_once (tenant_id, expires_at);
ALTER TABLE used_once ENABLE ROW LEVEL SECURITY;
ALTER TABLE used_once FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON used_once
  USING      (tenant_id = current_setting('postern.tenant_id', true))
  WITH CHECK (tenant_id = current_setting('postern.tenant_id', true));
-- FOR UPDATE SKIP LOCKED below needs the right to update some column.
GRANT SELECT, INSERT, DELETE, UPDATE (expires_at) ON used_once TO postern_service;

-- Whether this is the first use, in one round trip and one transaction. Of two at
-- the same time the second waits for the first and is told false.
--
-- Each use also removes up to four rows that expired, so the table holds what is
-- live and little more, and no call ever has much to clear away. The two minutes
-- leave room for replicas whose clocks differ from this one's.
CREATE FUNCTION use_once(p_tenant text, p_kind text, p_digest bytea, p_expires_at bigint)
RETURNS boolean LANGUAGE plpgsql SECURITY INVOKER AS $$
DECLARE
  v_added integer;
BEGIN
  PERFORM set_config('postern.tenant_id', p_tenant, true);
  INSERT INTO used_once (tenant_id, kind, digest, expires_at)
  VALUES (p_tenant, p_kind, p_digest, to_timestamp(p_expires_at))
      ON CONFLICT (tenant_id, kind, digest) DO NOTHING;
  GET DIAGNOSTICS v_added = ROW_COUNT;

  DELETE FROM used_once
   WHERE tenant_id = p_tenant
     AND ctid = ANY (ARRAY(SELECT u.ctid FROM used_once u
                            WHERE u.tenant_id = p_tenant
                              AND u.expires_at < now() - interval '2 minutes'
                              AND NOT (u.kind = p_kind AND u.digest = p_digest)
                            ORDER BY u.expires_at LIMIT 4
                              FOR UPDATE SKIP LOCKED));
  RETURN v_added = 1;
END $$;
REVOKE ALL ON FUNCTION use_once(text, text, bytea, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION use_once(text, text, bytea, bigint) TO postern_service;
