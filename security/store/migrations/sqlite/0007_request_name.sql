-- The transaction that the bytes prepared last are for (ITI-41, ITI-57, ITI-65), '' before there are any.
ALTER TABLE outbox_job ADD COLUMN request_name TEXT NOT NULL DEFAULT '';
