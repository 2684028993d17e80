-- A key whose public half is announced waits to be handed out, for as long as its settings
-- say: a rotation that is scheduled begins so much before it is due.
CREATE OR REPLACE FUNCTION credential_due_moved() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
  UPDATE postern.credential_rotation r
     SET due_at = NEW.rotation_due_at,
         next_at = CASE WHEN r.phase = 'none' AND NOT r.wanted
                         AND r.settings ? 'interval_seconds'
                         AND r.settings->>'kind' <> 'manual'
                        THEN NEW.rotation_due_at - make_interval(secs =>
                               coalesce((r.settings->>'announce_seconds')::double precision, 0))
                        ELSE r.next_at END
   WHERE r.tenant_id = NEW.tenant_id AND r.owner_issuer = NEW.owner_issuer
     AND r.owner_subject = NEW.owner_subject AND r.name = NEW.name;
  RETURN NULL;
END $$;

-- What it would follow was taken away while it waits: it is undone, and that now.
CREATE FUNCTION credential_current_ended() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
  UPDATE postern.credential_rotation r SET next_at = to_timestamp(0)
   WHERE r.tenant_id = NEW.tenant_id AND r.owner_issuer = NEW.owner_issuer
     AND r.owner_subject = NEW.owner_subject AND r.name = NEW.name
     AND r.phase = 'tested' AND r.old_version = NEW.version;
  RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION credential_current_ended() FROM PUBLIC;
CREATE TRIGGER current_ended AFTER UPDATE OF deleted_at, destroyed_at ON credential_version
  FOR EACH ROW WHEN ((NEW.deleted_at IS NOT NULL OR NEW.destroyed_at IS NOT NULL)
                     AND OLD.deleted_at IS NULL AND OLD.destroyed_at IS NULL)
  EXECUTE FUNCTION credential_current_ended();
