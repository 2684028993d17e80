-- Only the version that `credential` names as current is ever opened: a row of a
-- removed credential that finds its way back (a partial restore, a hand that may
-- write) is no credential.
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
       AND c.owner_subject = p_subject AND c.name = p_name;
END $$;
