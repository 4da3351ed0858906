-- The inbox is emptied: what an object is to us, and when each study is looked at next.
ALTER TABLE received_object ADD COLUMN kind TEXT NOT NULL DEFAULT 'object'; -- object, key-object (unread), note (unread)
UPDATE received_object SET kind = 'key-object'
 WHERE sop_class = '1.2.840.10008.5.1.4.1.1.88.59' AND keeping = 'stored';
CREATE INDEX received_object_unread ON received_object (tenant, object_id) WHERE kind <> 'object';
CREATE INDEX received_object_stored ON received_object (tenant, received_at) WHERE keeping = 'stored';

CREATE TABLE received_study (
    tenant    TEXT NOT NULL,
    study_uid TEXT NOT NULL,
    told      BIGINT NOT NULL,           -- 1: its exam was told since the last object came
    due_at    BIGINT NOT NULL,           -- the PACS is asked then
    tries     BIGINT NOT NULL,           -- how often it was asked since the last object came
    PRIMARY KEY (tenant, study_uid)
);
CREATE INDEX received_study_due ON received_study (tenant, due_at);
INSERT INTO received_study (tenant, study_uid, told, due_at, tries)
SELECT DISTINCT tenant, study_uid, 0, 0, 0 FROM received_object WHERE keeping = 'stored';
