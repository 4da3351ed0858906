-- When a run last looked at the exam and the PACS answered cleanly; 0: never. By night the longest unseen come along.
ALTER TABLE reconciled ADD COLUMN looked_at INTEGER NOT NULL DEFAULT 0;
