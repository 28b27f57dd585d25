-- Queries of /gleaner/metrics: sums over the whole fleet, no tenant's rows. None of them looks at every page or chunk.

-- totals --
-- What was added up, and what changed since.
SELECT name, label, sum(amount)::float8 FROM (
    SELECT name, label, amount FROM gleaner.metric_total
    UNION ALL SELECT name, label, amount FROM gleaner.metric_change) AS counted
GROUP BY name, label

-- fold --
-- Adds the changes up, so that there is less to read. Changes no number.
SELECT gleaner.fold_metrics()

-- oldest_waiting --
-- Seconds since the oldest content was fetched that is not loaded; null when there is none.
SELECT extract(epoch FROM clock_timestamp() - min(fetched_at))::float8 FROM gleaner.website_page
WHERE state IN ('fetched', 'completed')

-- open_runs --
-- Runs that have begun and not ended, and the seconds since the first of them began. One that died counts until its source has a
-- newer one, or for a week.
SELECT j.kind, count(*)::int, extract(epoch FROM clock_timestamp() - min(j.started_at))::float8
FROM gleaner.crawl_job j
WHERE j.finished_at IS NULL AND j.started_at > now() - interval '7 days'
  AND NOT EXISTS (SELECT 1 FROM gleaner.crawl_job n
                  WHERE n.tenant_id = j.tenant_id AND n.source_id = j.source_id AND n.kind = 'crawl'
                    AND n.started_at >= j.started_at AND n.job_id > j.job_id)
GROUP BY j.kind

-- sources --
-- Websites that are refreshed, that are paused, that have no interval; and those not crawled for twice their interval.
SELECT count(*) FILTER (WHERE NOT s.paused AND s.params IS NOT NULL AND s.refresh_every IS NOT NULL)::int,
       count(*) FILTER (WHERE s.paused)::int,
       count(*) FILTER (WHERE NOT s.paused AND (s.params IS NULL OR s.refresh_every IS NULL))::int,
       count(*) FILTER (WHERE NOT s.paused AND s.params IS NOT NULL AND s.created_at < now() - 2 * s.refresh_every
           AND NOT EXISTS (SELECT 1 FROM gleaner.crawl_job j
                           WHERE j.tenant_id = s.tenant_id AND j.source_id = s.source_id AND j.kind = 'crawl'
                             AND j.started_at >= now() - 2 * s.refresh_every))::int
FROM gleaner.website_source s

-- tenants --
-- All of them, and those that have spent their quota of the month.
SELECT count(*)::int,
       count(*) FILTER (WHERE t.monthly_token_quota <= (
           SELECT coalesce(sum(u.tokens), 0) FROM gleaner.embedding_usage u
           WHERE u.tenant_id = t.tenant_id AND u.month = date_trunc('month', now() AT TIME ZONE 'UTC')::date))::int
FROM gleaner.tenant t

-- sizes --
-- Bytes on disk of each table with its indexes.
SELECT c.relname, pg_total_relation_size(c.oid)::float8
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'gleaner' AND c.relkind = 'r' ORDER BY c.relname

-- database_size --
SELECT pg_database_size(current_database())::float8

-- check --
-- What maintain_knowledge found last, and when.
SELECT extract(epoch FROM checked_at)::float8, report FROM gleaner.knowledge_check

-- store_check --
INSERT INTO gleaner.knowledge_check (checked_at, report) VALUES (clock_timestamp(), %(report)s)
ON CONFLICT (only_row) DO UPDATE SET checked_at = excluded.checked_at, report = excluded.report

-- schema_version --
SELECT coalesce(max(version), 0) FROM gleaner.schema_migration
