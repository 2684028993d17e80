-- An erasure also takes the answers that a client had wrapped for whom is erased: those
-- are made by `client <id> for <issuer> <subject>`, as the Vault subset writes it.

-- Whether this maker is that principal, by themselves or by a client. No client's id has a
-- space, so what comes before the issuer is told from it whatever a subject holds. Nor has
-- the issuer of any token a space; an erasure may name one that has, and then takes the
-- answers of both whose names read the same: better one too many than one too few.
CREATE FUNCTION is_maker(p_maker text, p_issuer text, p_subject text) RETURNS boolean
LANGUAGE sql IMMUTABLE SECURITY INVOKER AS $$
  SELECT regexp_replace(p_maker, '^client [^ ]+ for ', 'user ')
         = 'user ' || p_issuer || ' ' || p_subject
$$;
REVOKE ALL ON FUNCTION is_maker(text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION is_maker(text, text, text) TO postern_service;

-- As before, and for those.
CREATE OR REPLACE FUNCTION maker_not_being_erased() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(postern.kek_lock(NEW.tenant_id));
  IF EXISTS (SELECT 1 FROM postern.erasure e
              WHERE e.tenant_id = NEW.tenant_id AND e.done_at IS NULL
                AND postern.is_maker(NEW.maker, e.owner_issuer, e.owner_subject)) THEN
    RAISE EXCEPTION 'the maker is being erased' USING ERRCODE = 'ERA01';
  END IF;
  RETURN NEW;
END $$;
