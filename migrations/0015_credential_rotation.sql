-- Rotation of credentials: how each is rotated, and where a rotation stands.
CREATE TABLE credential_rotation (
  tenant_id     text COLLATE "C" NOT NULL,
  owner_issuer  text COLLATE "C" NOT NULL,
  owner_subject text COLLATE "C" NOT NULL,
  name          text COLLATE "C" NOT NULL,
  settings      jsonb,                        -- none: nothing was said
  phase         text NOT NULL DEFAULT 'none'
      CHECK (phase IN ('none', 'pending', 'set', 'tested', 'previous', 'rolling_back')),
  -- Of the rotation under way. Its settings are those that it began with.
  rotation_id   text NOT NULL DEFAULT '' CHECK (octet_length(rotation_id) <= 64),
  running       jsonb,
  new_version   integer NOT NULL DEFAULT 0,
  old_version   integer NOT NULL DEFAULT 0,
  new_role      text NOT NULL DEFAULT '' CHECK (octet_length(new_role) <= 63),
  old_role      text NOT NULL DEFAULT '' CHECK (octet_length(old_role) <= 63),
  started_at    timestamptz,
  retire_at     timestamptz,
  sent          boolean NOT NULL DEFAULT false,  -- who is outside may have heard of it
  attempts      integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
  problem       text NOT NULL DEFAULT '' CHECK (octet_length(problem) <= 500),
  public_half   text NOT NULL DEFAULT '' CHECK (octet_length(public_half) <= 8192),
  rotated_at    timestamptz,
  failed_at     timestamptz,
  failures      integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
  wanted        boolean NOT NULL DEFAULT false,  -- another one, when none is under way
  next_at       timestamptz,                  -- when there is something to do
  due_at        timestamptz,                  -- the credential's rotation_due_at
  -- Who is at the next step, and until when nobody else is.
  lease         text NOT NULL DEFAULT '' CHECK (octet_length(lease) <= 64),
  lease_until   timestamptz,
  PRIMARY KEY (tenant_id, owner_issuer, owner_subject, name),
  FOREIGN KEY (tenant_id, owner_issuer, owner_subject, name) REFERENCES credential
    ON DELETE CASCADE,
  CHECK ((phase = 'none') = (rotation_id = '')),
  CHECK ((phase = 'none') = (running IS NULL))
);
ALTER TABLE credential_rotation ENABLE ROW LEVEL SECURITY;
ALTER TABLE credential_rotation FORCE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON credential_rotation
  USING      (tenant_id = current_setting('postern.tenant_id', true))
  WITH CHECK (tenant_id = current_setting('postern.tenant_id', true));
-- What is due, of all tenants: whose turn it is, and nothing that is secret.
CREATE POLICY rotations ON credential_rotation FOR SELECT
  USING (current_setting('postern.scope', true) = 'rotations');
GRANT SELECT, INSERT, UPDATE, DELETE ON credential_rotation TO postern_service;
CREATE INDEX credential_rotation_next ON credential_rotation (next_at);

-- A version that is no more than stored has a number above the current one, so that none
-- of the statements that read versions sees it. When another one passes it by, it must not
-- come to be between the first and the current: it goes. What was said about the rotation
-- of a credential goes with the credential.
CREATE FUNCTION credential_current_moved() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
  IF NEW.current_version = 0 THEN
    DELETE FROM postern.credential_rotation r
     WHERE r.tenant_id = NEW.tenant_id AND r.owner_issuer = NEW.owner_issuer
       AND r.owner_subject = NEW.owner_subject AND r.name = NEW.name;
    RETURN NULL;
  END IF;
  DELETE FROM postern.credential_version v
   WHERE v.tenant_id = NEW.tenant_id AND v.owner_issuer = NEW.owner_issuer
     AND v.owner_subject = NEW.owner_subject AND v.name = NEW.name
     AND v.version > OLD.current_version AND v.version < NEW.current_version;
  -- Somebody gave a value meanwhile: what the rotation did is undone, and that now.
  UPDATE postern.credential_rotation r SET next_at = to_timestamp(0)
   WHERE r.tenant_id = NEW.tenant_id AND r.owner_issuer = NEW.owner_issuer
     AND r.owner_subject = NEW.owner_subject AND r.name = NEW.name
     AND r.phase IN ('pending', 'set', 'tested') AND r.new_version <> NEW.current_version;
  RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION credential_current_moved() FROM PUBLIC;
CREATE TRIGGER current_moved AFTER UPDATE OF current_version ON credential
  FOR EACH ROW WHEN (OLD.current_version IS DISTINCT FROM NEW.current_version)
  EXECUTE FUNCTION credential_current_moved();

-- A schedule follows what the description says.
CREATE FUNCTION credential_due_moved() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
  UPDATE postern.credential_rotation r
     SET due_at = NEW.rotation_due_at,
         next_at = CASE WHEN r.phase = 'none' AND NOT r.wanted
                         AND r.settings ? 'interval_seconds'
                         AND r.settings->>'kind' <> 'manual'
                        THEN NEW.rotation_due_at ELSE r.next_at END
   WHERE r.tenant_id = NEW.tenant_id AND r.owner_issuer = NEW.owner_issuer
     AND r.owner_subject = NEW.owner_subject AND r.name = NEW.name;
  RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION credential_due_moved() FROM PUBLIC;
CREATE TRIGGER due_moved AFTER UPDATE OF rotation_due_at ON credential
  FOR EACH ROW WHEN (OLD.rotation_due_at IS DISTINCT FROM NEW.rotation_due_at)
  EXECUTE FUNCTION credential_due_moved();
