-- Queries about websites as things to refresh. %(tenant_id)s is one tenant, or null for all of them.

-- due --
-- Websites whose last crawl is longer ago than their interval, with a tenth of it to spare, so that a daily run finds a daily
-- website due although the run before began some minutes late. Tenants in fair turns. What is under way is left alone.
WITH latest AS (
    SELECT s.tenant_id, s.source_id, s.params, max(j.started_at) AS started_at, max(j.job_id) AS last_job,
           bool_or(j.finished_at IS NULL AND j.started_at > now() - interval '12 hours') AS is_under_way
    FROM gleaner.website_source s
    JOIN gleaner.crawl_job j ON j.tenant_id = s.tenant_id AND j.source_id = s.source_id AND j.kind = 'crawl'
    WHERE NOT s.paused AND s.refresh_every IS NOT NULL AND s.params IS NOT NULL
      AND (%(tenant_id)s::text IS NULL OR s.tenant_id = %(tenant_id)s)
      AND NOT EXISTS (SELECT FROM gleaner.forgotten f
                      WHERE f.tenant_id = s.tenant_id AND f.target_id = s.source_id) -- whoever resumed it meanwhile
    GROUP BY s.tenant_id, s.source_id
    HAVING max(j.started_at) <= now() - s.refresh_every * 0.9
)
SELECT tenant_id, source_id, params, last_job, now() AT TIME ZONE 'UTC' AS day FROM latest WHERE NOT is_under_way
ORDER BY row_number() OVER (PARTITION BY tenant_id ORDER BY started_at, source_id), tenant_id
LIMIT %(most)s

-- list --
-- Every website with its interval, when it was crawled last and when it is due.
SELECT s.tenant_id, s.root_url, s.paused, s.refresh_every, s.params IS NOT NULL AS can_refresh,
       max(j.started_at) AS crawled_at, max(j.started_at) + s.refresh_every AS due_at
FROM gleaner.website_source s
LEFT JOIN gleaner.crawl_job j ON j.tenant_id = s.tenant_id AND j.source_id = s.source_id AND j.kind = 'crawl'
WHERE %(tenant_id)s::text IS NULL OR s.tenant_id = %(tenant_id)s
GROUP BY s.tenant_id, s.source_id
ORDER BY s.tenant_id, s.root_url

-- set_paused --
UPDATE gleaner.website_source SET paused = %(paused)s
WHERE tenant_id = %(tenant_id)s AND root_url = %(root_url)s
RETURNING source_id

-- set_interval --
UPDATE gleaner.website_source SET refresh_every = %(every)s
WHERE tenant_id = %(tenant_id)s AND root_url = %(root_url)s
RETURNING source_id
