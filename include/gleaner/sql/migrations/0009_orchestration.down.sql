DROP INDEX gleaner.website_page_fetched;
ALTER TABLE gleaner.website_source DROP COLUMN params, DROP COLUMN paused, DROP COLUMN refresh_every;
DELETE FROM gleaner.crawl_job WHERE kind <> 'crawl';
ALTER TABLE gleaner.crawl_job DROP COLUMN kind;
