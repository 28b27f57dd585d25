-- What the metrics look up: the oldest page that waits, runs that have not ended, the last crawl of each website.

-- step waiting --
CREATE INDEX CONCURRENTLY website_page_waiting ON gleaner.website_page (fetched_at)
    WHERE state IN ('fetched', 'completed')

-- step open --
CREATE INDEX CONCURRENTLY crawl_job_open ON gleaner.crawl_job (kind, started_at) WHERE finished_at IS NULL

-- step started --
CREATE INDEX CONCURRENTLY crawl_job_started ON gleaner.crawl_job (tenant_id, source_id, started_at) WHERE kind = 'crawl'
