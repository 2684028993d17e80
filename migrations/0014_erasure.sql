-- Erasures: of all that one principal has, and of a tenant.

CREATE TABLE erasure (
  tenant_id     text COLLATE "C" NOT NULL REFERENCES tenant ON DELETE CASCADE,
  erasure_id    text COLLATE "C" NOT NULL CHECK (octet_length(erasure_id) BETWEEN 1 AND 64),
  owner_issuer  text COLLATE "C" NOT NULL CHECK (octet_length(owner_issuer) BETWEEN 1 AND 1024),
  owner_subject text COLLATE "C" NOT NULL CHECK (octet_length(owner_subject) BETWEEN 1 AND 255),
  asked_at      timestamptz NOT NULL,
  removed_at    timestamptz,  -- the rows are gone
  done_at       timestamptz,  -- the share is destroyed, and the statement made
  share_id      bytea   CHECK (octet_length(share_id) = 32),
  -- Copies of the database from then on hold nothing that opens without the share.
  covered_since timestamptz,
  credentials   integer NOT NULL DEFAULT 0 CHECK (credentials >= 0),
  versions      integer NOT NULL DEFAULT 0 CHECK (versions >= 0),
  -- The largest version number that went: none is ever used again.
  last_version  integer NOT NULL DEFAULT 0 CHECK (last_version >= 0),
  statement     text    CHECK (octet_length(statement) BETWEEN 1 AND 16384),
  PRIMARY KEY (tenant_id, erasure_id),
  CHECK (done_at IS NULL OR removed_at IS NOT NULL),
  CHECK ((done_at IS NULL) = (statement IS NULL))
);
CREATE UNIQUE INDEX erasure_open ON erasure (tenant_id, owner_issuer, owner_subject)
  WHERE done_at IS NULL;
CREATE INDEX erasure_of_owner ON erasure (tenant_id, owner_issuer, owner_subject);
ALTER TABLE erasure ENABLE ROW LEVEL SECURITY;
ALTER TABLE erasure FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON erasure
  USING      (tenant_id = current_setting('postern.tenant_id', true))
  WITH CHECK (tenant_id = current_setting('postern.tenant_id', true));
-- Every replica goes on with those that did not end.
CREATE POLICY open_erasures ON erasure FOR SELECT
  USING (current_setting('postern.scope', true) = 'erasures');
GRANT SELECT, INSERT,
      UPDATE (removed_at, done_at, share_id, covered_since, credentials, versions, last_version,
              statement)
  ON erasure TO postern_service;

-- It outlives the tenant.
CREATE TABLE tenant_erasure (
  tenant_id     text COLLATE "C" PRIMARY KEY,
  erasure_id    text COLLATE "C" NOT NULL CHECK (octet_length(erasure_id) BETWEEN 1 AND 64),
  asked_at      timestamptz NOT NULL,
  done_at       timestamptz,
  shares        bigint  NOT NULL DEFAULT 0 CHECK (shares >= 0),  -- that were destroyed, when done
  statement     text    CHECK (octet_length(statement) BETWEEN 1 AND 16384),
  CHECK ((done_at IS NULL) = (statement IS NULL))
);
ALTER TABLE tenant_erasure ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant_erasure FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON tenant_erasure
  USING      (tenant_id = current_setting('postern.tenant_id', true))
  WITH CHECK (tenant_id = current_setting('postern.tenant_id', true));
CREATE POLICY open_erasures ON tenant_erasure FOR SELECT
  USING (current_setting('postern.scope', true) = 'erasures');
GRANT SELECT, INSERT, UPDATE (done_at, shares, statement) ON tenant_erasure TO postern_service;

-- While one is open nothing is sealed anew: neither written nor moved to another key. Nor
-- is the number of a version that was erased used again: whoever waited for the erasure
-- has looked for the largest one before it. They are refused as with a destroyed share,
-- and look again.
CREATE FUNCTION not_being_erased() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
  IF NEW.wrapped_dek IS NULL THEN
    RETURN NEW;
  END IF;
  PERFORM pg_advisory_xact_lock_shared(postern.kek_lock(NEW.tenant_id));
  IF EXISTS (SELECT 1 FROM postern.erasure e
              WHERE e.tenant_id = NEW.tenant_id AND e.owner_issuer = NEW.owner_issuer
                AND e.owner_subject = NEW.owner_subject AND e.done_at IS NULL)
     OR EXISTS (SELECT 1 FROM postern.tenant_erasure e WHERE e.tenant_id = NEW.tenant_id) THEN
    RAISE EXCEPTION 'the owner is being erased' USING ERRCODE = 'ERA01';
  END IF;
  IF TG_OP = 'INSERT' AND EXISTS (
       SELECT 1 FROM postern.erasure e
        WHERE e.tenant_id = NEW.tenant_id AND e.owner_issuer = NEW.owner_issuer
          AND e.owner_subject = NEW.owner_subject AND e.last_version >= NEW.version) THEN
    RAISE EXCEPTION 'the number of a version that was erased' USING ERRCODE = 'SHR01';
  END IF;
  RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION not_being_erased() FROM PUBLIC;
CREATE TRIGGER not_being_erased
  BEFORE INSERT OR UPDATE OF kek_version, wrapped_dek, share_id ON credential_version
  FOR EACH ROW EXECUTE FUNCTION not_being_erased();

-- Nor does an answer of theirs begin to wait, or one that is taken begin anew, for it
-- would do so under the tenant's key. `maker` as the Vault subset writes it.
CREATE FUNCTION maker_not_being_erased() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(postern.kek_lock(NEW.tenant_id));
  IF EXISTS (SELECT 1 FROM postern.erasure e
              WHERE e.tenant_id = NEW.tenant_id AND e.done_at IS NULL
                AND NEW.maker = 'user ' || e.owner_issuer || ' ' || e.owner_subject) THEN
    RAISE EXCEPTION 'the maker is being erased' USING ERRCODE = 'ERA01';
  END IF;
  RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION maker_not_being_erased() FROM PUBLIC;
CREATE TRIGGER not_being_erased BEFORE INSERT ON wrapped_answer
  FOR EACH ROW EXECUTE FUNCTION maker_not_being_erased();

-- Nor do they get a share, which would seal nothing. It is looked at without the lock: this
-- is beside a transaction that may hold it, while an erasure waits for it.
CREATE FUNCTION share_not_being_erased() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM postern.erasure e
              WHERE e.tenant_id = NEW.tenant_id AND e.owner_issuer = NEW.owner_issuer
                AND e.owner_subject = NEW.owner_subject AND e.done_at IS NULL)
     OR EXISTS (SELECT 1 FROM postern.tenant_erasure e WHERE e.tenant_id = NEW.tenant_id) THEN
    RAISE EXCEPTION 'the owner is being erased' USING ERRCODE = 'ERA01';
  END IF;
  RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION share_not_being_erased() FROM PUBLIC;
CREATE TRIGGER not_being_erased BEFORE INSERT ON principal_share
  FOR EACH ROW EXECUTE FUNCTION share_not_being_erased();

-- Nor does the tenant get a new key, or serve again.
CREATE FUNCTION tenant_not_being_erased() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(postern.kek_lock(NEW.tenant_id));
  IF EXISTS (SELECT 1 FROM postern.tenant_erasure e WHERE e.tenant_id = NEW.tenant_id) THEN
    RAISE EXCEPTION 'the tenant is being erased' USING ERRCODE = 'ERA01';
  END IF;
  RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION tenant_not_being_erased() FROM PUBLIC;
CREATE TRIGGER not_being_erased BEFORE INSERT ON kek
  FOR EACH ROW EXECUTE FUNCTION tenant_not_being_erased();
CREATE TRIGGER not_being_erased BEFORE UPDATE OF enabled ON tenant
  FOR EACH ROW WHEN (NEW.enabled AND NOT OLD.enabled)
  EXECUTE FUNCTION tenant_not_being_erased();

-- Nor is the tenant removed, but by its own erasure, which is done by then: the shares of
-- what is open would stay, and nobody would know whose they were. The release before does
-- not look.
CREATE FUNCTION tenant_goes_without_erasure() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM postern.tenant_erasure e
                  WHERE e.tenant_id = OLD.tenant_id AND e.done_at IS NOT NULL)
     AND (EXISTS (SELECT 1 FROM postern.tenant_erasure e WHERE e.tenant_id = OLD.tenant_id)
          OR EXISTS (SELECT 1 FROM postern.erasure e
                      WHERE e.tenant_id = OLD.tenant_id AND e.done_at IS NULL)) THEN
    RAISE EXCEPTION 'an erasure of this tenant has not ended' USING ERRCODE = 'ERA01';
  END IF;
  RETURN OLD;
END $$;
REVOKE ALL ON FUNCTION tenant_goes_without_erasure() FROM PUBLIC;
CREATE TRIGGER goes_without_erasure BEFORE DELETE ON tenant
  FOR EACH ROW EXECUTE FUNCTION tenant_goes_without_erasure();

-- Until now a row of `credential` stayed for good, so that its version numbers are not
-- used again. An erasure takes it away and keeps the largest number.
CREATE FUNCTION credential_goes_by_erasure() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM postern.tenant t WHERE t.tenant_id = OLD.tenant_id)
     AND NOT EXISTS (SELECT 1 FROM postern.erasure e
                      WHERE e.tenant_id = OLD.tenant_id AND e.owner_issuer = OLD.owner_issuer
                        AND e.owner_subject = OLD.owner_subject AND e.done_at IS NULL) THEN
    RAISE EXCEPTION 'a credential goes by erasure alone'
      USING ERRCODE = 'insufficient_privilege';  -- as without the grant
  END IF;
  RETURN OLD;
END $$;
REVOKE ALL ON FUNCTION credential_goes_by_erasure() FROM PUBLIC;
CREATE TRIGGER goes_by_erasure BEFORE DELETE ON credential
  FOR EACH ROW EXECUTE FUNCTION credential_goes_by_erasure();
GRANT DELETE ON credential TO postern_service;
