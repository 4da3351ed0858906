-- Exams that came in an XDM archive. A report that an archive names and that never came: 'named', 'unnamed' where the
-- archive names none and this row stands for it; '' for a report that came.
ALTER TABLE report ADD COLUMN link TEXT NOT NULL DEFAULT '';
-- What an archive tells of a version's content, by which it is compared while a report of it is a mere link; '' for
-- versions made here.
ALTER TABLE manifest ADD COLUMN outline TEXT NOT NULL DEFAULT '';
