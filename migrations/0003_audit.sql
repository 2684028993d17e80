-- The audit chain of each tenant: records linked by hash, and one head.
--
-- Neither table refers to tenant: what was done outlives whom it was done for.
-- A batch belongs to several tenants, so besides postern.tenant_id the policies
-- honour postern.audit_tenants, a comma list (a tenant id holds no comma). The
-- sub-select makes PostgreSQL split the list once a statement, not once a row.

CREATE TABLE audit_record (
  tenant_id text COLLATE "C" NOT NULL,
  sequence  bigint NOT NULL CHECK (sequence > 0),
  body      text   NOT NULL CHECK (octet_length(body) <= 1048576),
  hash      bytea  NOT NULL CHECK (octet_length(hash) = 32),
  PRIMARY KEY (tenant_id, sequence)
);
ALTER TABLE audit_record ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_record FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON audit_record
  USING (tenant_id = current_setting('postern.tenant_id', true))
  WITH CHECK (
    tenant_id = current_setting('postern.tenant_id', true)
    OR tenant_id = ANY ((SELECT string_to_array(current_setting('postern.audit_tenants', true),
                                                ','))::text[]));
CREATE POLICY auditor ON audit_record FOR SELECT TO postern_auditor USING (true);
-- A record is never changed nor removed by the service.
GRANT SELECT, INSERT ON audit_record TO postern_service;
GRANT SELECT ON audit_record TO postern_auditor;

CREATE TABLE audit_head (
  tenant_id   text COLLATE "C" PRIMARY KEY,
  sequence    bigint  NOT NULL CHECK (sequence >= 0),
  hash        bytea   NOT NULL CHECK (octet_length(hash) = 32),
  mac         bytea   NOT NULL CHECK (octet_length(mac) = 32),
  kek_version integer NOT NULL CHECK (kek_version > 0),
  -- Set when the tenant is removed: its key is gone, so nothing can follow.
  closed      boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);  -- updated with every batch; room keeps that cheap (HOT)
ALTER TABLE audit_head ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_head FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON audit_head
  USING (
    tenant_id = current_setting('postern.tenant_id', true)
    OR tenant_id = ANY ((SELECT string_to_array(current_setting('postern.audit_tenants', true),
                                                ','))::text[]))
  WITH CHECK (
    tenant_id = current_setting('postern.tenant_id', true)
    OR tenant_id = ANY ((SELECT string_to_array(current_setting('postern.audit_tenants', true),
                                                ','))::text[]));
CREATE POLICY auditor ON audit_head FOR SELECT TO postern_auditor USING (true);
GRANT SELECT, INSERT, UPDATE ON audit_head TO postern_service;
GRANT SELECT ON audit_head TO postern_auditor;

-- Appends one batch: for each tenant some records and its new head, in one
-- statement and so in one round trip and one transaction. Answers false, and
-- does nothing, when any head is not the one the batch was computed on.
--
-- p_tenants: ascending, comma-separated; for each the sequence and hash its part
-- continues from, and the sequence, hash, MAC and KEK version it ends with.
-- p_record_tenants, p_sequences, p_bodies, p_hashes: one entry for each record.
-- Hashes and MACs are concatenated, 32 bytes each. Bodies are separated by line
-- feeds, which canonical JSON cannot hold.
CREATE FUNCTION audit_append(p_tenants text, p_from bigint[], p_from_hashes bytea,
                             p_to bigint[], p_to_hashes bytea, p_macs bytea,
                             p_kek_versions integer[], p_record_tenants text,
                             p_sequences bigint[], p_bodies text, p_hashes bytea)
RETURNS boolean LANGUAGE plpgsql SECURITY INVOKER AS $$
DECLARE
  v_tenants text[] := string_to_array(p_tenants, ',');
  v_found   integer;
BEGIN
  PERFORM set_config('postern.audit_tenants', p_tenants, true);
  -- Locked in one order everywhere, so that two replicas never deadlock.
  SELECT count(*) INTO v_found
    FROM (SELECT h.tenant_id, h.sequence, h.hash, h.closed FROM audit_head h
           WHERE h.tenant_id = ANY (v_tenants) ORDER BY h.tenant_id FOR NO KEY UPDATE) h
    JOIN unnest(v_tenants, p_from) WITH ORDINALITY AS t (tenant, sequence, i)
      ON t.tenant = h.tenant_id
   WHERE NOT h.closed AND h.sequence = t.sequence
     AND h.hash = substring(p_from_hashes FROM (t.i * 32 - 31)::integer FOR 32);
  IF v_found <> cardinality(v_tenants) THEN
    RETURN false;
  END IF;

  UPDATE audit_head h
     SET sequence = t.sequence, kek_version = t.kek_version,
         hash = substring(p_to_hashes FROM (t.i * 32 - 31)::integer FOR 32),
         mac = substring(p_macs FROM (t.i * 32 - 31)::integer FOR 32)
    FROM unnest(v_tenants, p_to, p_kek_versions)
         WITH ORDINALITY AS t (tenant, sequence, kek_version, i)
   WHERE h.tenant_id = t.tenant;

  INSERT INTO audit_record (tenant_id, sequence, body, hash)
  SELECT r.tenant, r.sequence, r.body,
         substring(p_hashes FROM (r.i * 32 - 31)::integer FOR 32)
    FROM unnest(string_to_array(p_record_tenants, ','), p_sequences,
                string_to_array(p_bodies, E'\n'))
         WITH ORDINALITY AS r (tenant, sequence, body, i);
  RETURN true;
END $$;
REVOKE ALL ON FUNCTION audit_append(text, bigint[], bytea, bigint[], bytea, bytea, integer[],
                                    text, bigint[], text, bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_append(text, bigint[], bytea, bigint[], bytea, bytea, integer[],
                                       text, bigint[], text, bytea) TO postern_service;
