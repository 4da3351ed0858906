-- A job is due when not_before is 0; the claim makes it so when the time has come, in order of class and time (F23).
DROP INDEX outbox_claim;
CREATE INDEX outbox_claim ON outbox_job (kind, state, job_class, deadline, job_id)
    WHERE not_before = 0 AND lease_owner IS NULL AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED');
CREATE INDEX outbox_waking ON outbox_job (job_class, not_before)
    WHERE not_before > 0 AND lease_owner IS NULL AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED');
