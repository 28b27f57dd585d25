-- step started --
DROP INDEX CONCURRENTLY IF EXISTS gleaner.crawl_job_started

-- step open --
DROP INDEX CONCURRENTLY IF EXISTS gleaner.crawl_job_open

-- step waiting --
DROP INDEX CONCURRENTLY IF EXISTS gleaner.website_page_waiting
