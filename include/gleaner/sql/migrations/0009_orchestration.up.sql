-- Rebuilds and repairs beside crawls, and when each website is due again.

ALTER TABLE gleaner.crawl_job
    ADD COLUMN kind text NOT NULL DEFAULT 'crawl' CHECK (kind IN ('crawl', 'rebuild', 'mend'));
COMMENT ON COLUMN gleaner.crawl_job.kind IS 'crawl of ingest_website, rebuild of rebuild_knowledge, mend of maintain_knowledge. Only crawls fetch.';

ALTER TABLE gleaner.website_source
    ADD COLUMN refresh_every interval DEFAULT '1 day' CHECK (refresh_every >= interval '1 hour'),
    ADD COLUMN paused boolean NOT NULL DEFAULT false,
    ADD COLUMN params jsonb;
COMMENT ON COLUMN gleaner.website_source.refresh_every IS 'How often refresh_websites ingests it again; null: never.';
COMMENT ON COLUMN gleaner.website_source.params IS 'The Params of the last ingest_website that could crawl it: what a refresh repeats.';

CREATE INDEX website_page_fetched ON gleaner.website_page (fetched_at) WHERE generation IS NOT NULL;
