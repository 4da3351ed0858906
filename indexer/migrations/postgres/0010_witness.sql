-- Which exam a PACS held most recently (indexer.witness).
CREATE INDEX pacs_answer_found ON pacs_answer (tenant, pacs, last_at, answer_id) WHERE kind = 'found';
