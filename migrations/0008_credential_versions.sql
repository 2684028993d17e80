-- Versions that can be deleted, brought back and destroyed; what is said about a
-- credential beside its values; when it was last used.

ALTER TABLE credential
  -- The oldest version that counts: a row of before that finds its way back does not.
  ADD COLUMN first_version   integer     NOT NULL DEFAULT 1 CHECK (first_version >= 1),
  ADD COLUMN type            text COLLATE "C" NOT NULL DEFAULT 'generic'
      CHECK (octet_length(type) BETWEEN 1 AND 64),
  -- Changes of anything since the latest version was written.
  ADD COLUMN revision        integer     NOT NULL DEFAULT 0 CHECK (revision >= 0),
  ADD COLUMN max_versions    integer     NOT NULL DEFAULT 10
      CHECK (max_versions BETWEEN 1 AND 100),
  ADD COLUMN cas_required    boolean     NOT NULL DEFAULT false,
  ADD COLUMN description     text        NOT NULL DEFAULT ''
      CHECK (octet_length(description) <= 1000),
  ADD COLUMN labels          jsonb       NOT NULL DEFAULT '{}'
      CHECK (jsonb_typeof(labels) = 'object' AND octet_length(labels::text) <= 65536),
  ADD COLUMN metadata        jsonb       NOT NULL DEFAULT '{}'
      CHECK (jsonb_typeof(metadata) = 'object' AND octet_length(metadata::text) <= 262144),
  ADD COLUMN rotation_due_at timestamptz,
  ADD COLUMN last_used_at    timestamptz;
GRANT UPDATE (first_version, type, revision, max_versions, cas_required, description, labels,
              metadata, rotation_due_at, last_used_at) ON credential TO postern_service;

ALTER TABLE credential_version
  ADD COLUMN deleted_at   timestamptz,
  ADD COLUMN destroyed_at timestamptz,
  ALTER COLUMN kek_version DROP NOT NULL,
  ALTER COLUMN wrapped_dek DROP NOT NULL,
  ALTER COLUMN sealed      DROP NOT NULL,
  -- Destroyed is what has neither sealed bytes nor a key, and nothing else is.
  ADD CHECK ((destroyed_at IS NULL) = (kek_version IS NOT NULL)),
  ADD CHECK ((destroyed_at IS NULL) = (wrapped_dek IS NOT NULL)),
  ADD CHECK ((destroyed_at IS NULL) = (sealed IS NOT NULL));
GRANT UPDATE (sealed, deleted_at, destroyed_at) ON credential_version TO postern_service;

-- A version's content is final: it may go, and nothing may come in its place.
CREATE FUNCTION credential_content_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.sealed IS NOT NULL AND NEW.sealed IS DISTINCT FROM OLD.sealed THEN
    RAISE EXCEPTION 'the content of a credential version is final'
      USING ERRCODE = 'insufficient_privilege';  -- as without the grant
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER content_is_final BEFORE UPDATE OF sealed ON credential_version
  FOR EACH ROW EXECUTE FUNCTION credential_content_is_final();
REVOKE ALL ON FUNCTION credential_content_is_final() FROM PUBLIC;

-- A current version that is deleted or destroyed is no credential, and none
-- before it takes its place.
CREATE OR REPLACE FUNCTION credential_latest(p_tenant text, p_issuer text, p_subject text,
                                             p_name text)
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
      FROM credential c
      JOIN credential_version v
        ON v.tenant_id = c.tenant_id AND v.owner_issuer = c.owner_issuer
       AND v.owner_subject = c.owner_subject AND v.name = c.name
       AND v.version = c.current_version
     WHERE c.tenant_id = p_tenant AND c.owner_issuer = p_issuer
       AND c.owner_subject = p_subject AND c.name = p_name
       AND v.deleted_at IS NULL AND v.destroyed_at IS NULL;
END $$;
