-- A tenant of which nothing begins for now (FF-46): read on each claim, shown with who and why.
CREATE TABLE outbox_pause (
    tenant TEXT PRIMARY KEY,
    at     BIGINT NOT NULL,
    actor  TEXT NOT NULL,
    reason TEXT NOT NULL
);

-- When the job last changed for people: the time of its newest history row.
ALTER TABLE outbox_job ADD COLUMN changed_at BIGINT NOT NULL DEFAULT 0;
UPDATE outbox_job SET changed_at = COALESCE(
    (SELECT MAX(past.at) FROM outbox_history AS past WHERE past.job_id = outbox_job.job_id), accepted_at);

-- Lists, newest change first (security.outbox.lanes): unfinished jobs by state and reason, published ones by kind.
CREATE INDEX outbox_list_open ON outbox_job (tenant, state, reason, changed_at, job_id)
    WHERE state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED');
CREATE INDEX outbox_list_published ON outbox_job (tenant, kind, changed_at, job_id) WHERE state = 'PUBLISHED';
CREATE INDEX outbox_lane_published ON outbox_job (tenant, lane, job_id) WHERE state = 'PUBLISHED';

-- The same with the state, so that what stands open in a lane is told by the index alone.
DROP INDEX outbox_lane_open;
CREATE INDEX outbox_lane_open ON outbox_job (tenant, lane, job_id, state)
    WHERE state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED');

-- Whose jobs are of a kind? A kind of which every tenant is paused is not looked through.
CREATE INDEX outbox_kind ON outbox_job (kind, tenant) WHERE state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED');

-- Lanes of which at least one job was ever published, counted as it happens: PUBLISHED is for ever.
CREATE TABLE outbox_published (
    tenant TEXT PRIMARY KEY,
    lanes  BIGINT NOT NULL
);
INSERT INTO outbox_published (tenant, lanes)
    SELECT tenant, COUNT(DISTINCT lane) FROM outbox_job WHERE state = 'PUBLISHED' GROUP BY tenant;
