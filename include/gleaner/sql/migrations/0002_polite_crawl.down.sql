ALTER TABLE gleaner.crawl_job DROP COLUMN traps;
ALTER TABLE gleaner.crawl_job DROP COLUMN goes_on;
DROP TABLE gleaner.site_slot;
DROP TABLE gleaner.site_pace;
