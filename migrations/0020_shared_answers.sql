-- An answer that waits for whom it is a user's is under that user's share besides the
-- tenant's key, as their credentials are: copies of the database from while it waited open
-- nothing of it when the share is destroyed.

ALTER TABLE wrapped_answer
  ADD COLUMN owner_issuer  text COLLATE "C" NOT NULL DEFAULT ''
      CHECK (octet_length(owner_issuer) <= 1024),
  ADD COLUMN owner_subject text COLLATE "C" NOT NULL DEFAULT ''
      CHECK (octet_length(owner_subject) <= 255),
  ADD COLUMN share_id      bytea CHECK (octet_length(share_id) = 32),
  ADD CHECK ((owner_issuer = '') = (owner_subject = '')),
  ADD CHECK (share_id IS NULL OR owner_issuer <> '');
GRANT UPDATE (share_id) ON wrapped_answer TO postern_service;

-- As with credentials, whose function it was: which rows are sealed is now said by the
-- triggers.
DROP TRIGGER under_current_share ON credential_version;
CREATE OR REPLACE FUNCTION under_current_share() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(postern.kek_lock(NEW.tenant_id));
  IF NOT EXISTS (SELECT 1 FROM postern.principal_share p
                  WHERE p.tenant_id = NEW.tenant_id AND p.owner_issuer = NEW.owner_issuer
                    AND p.owner_subject = NEW.owner_subject AND p.share_id = NEW.share_id) THEN
    RAISE EXCEPTION 'sealed under a share that is no more' USING ERRCODE = 'SHR01';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER under_current_share
  BEFORE INSERT OR UPDATE OF kek_version, wrapped_dek, share_id ON credential_version
  FOR EACH ROW WHEN (NEW.share_id IS NOT NULL AND NEW.wrapped_dek IS NOT NULL)
  EXECUTE FUNCTION under_current_share();
CREATE TRIGGER under_current_share
  BEFORE INSERT OR UPDATE OF kek_version, sealed, share_id ON wrapped_answer
  FOR EACH ROW WHEN (NEW.share_id IS NOT NULL)
  EXECUTE FUNCTION under_current_share();

-- What a copy from before may hold without a share. An answer of before this migration, or
-- of the release before, names its user as its maker alone: see is_maker().
CREATE FUNCTION answer_unshared_until_now() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER AS $$
DECLARE
  v_user text[] := regexp_match(OLD.maker, '^(?:user|client [^ ]+ for) ([^ ]+) (.+)$');
BEGIN
  UPDATE postern.principal_share p SET unshared_until = clock_timestamp()
   WHERE p.tenant_id = OLD.tenant_id AND p.owner_issuer = v_user[1]
     AND p.owner_subject = v_user[2];
  RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION answer_unshared_until_now() FROM PUBLIC;
CREATE TRIGGER unshared_until_now AFTER DELETE OR UPDATE OF sealed ON wrapped_answer
  FOR EACH ROW WHEN (OLD.share_id IS NULL) EXECUTE FUNCTION answer_unshared_until_now();
