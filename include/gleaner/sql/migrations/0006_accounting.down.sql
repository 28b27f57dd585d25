ALTER TABLE gleaner.batch_report DROP COLUMN paused;
ALTER TABLE gleaner.batch_report DROP COLUMN withheld;
DELETE FROM gleaner.batch_report WHERE stage IN ('estimate', 'renew');
ALTER TABLE gleaner.batch_report DROP CONSTRAINT batch_report_stage_check;
ALTER TABLE gleaner.batch_report ADD CONSTRAINT batch_report_stage_check CHECK (stage IN ('process', 'load'));
DROP TABLE gleaner.token_reservation;
DROP TABLE gleaner.embedding_usage;
ALTER TABLE gleaner.tenant DROP COLUMN monthly_token_quota;
ALTER TABLE gleaner.tenant DROP COLUMN previous_model;
