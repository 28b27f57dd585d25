-- Queries for those who watch a run.

-- newest_job --
SELECT job_id, source_id, state, planned_pages, finished_at IS NOT NULL, report
FROM gleaner.crawl_job WHERE tenant_id = %(tenant_id)s AND run_id = %(run_id)s
ORDER BY job_id DESC LIMIT 1

-- page_counts --
SELECT count(*) FILTER (WHERE found_job = %(job_id)s)::int AS found,
       count(*) FILTER (WHERE visited_job = %(job_id)s)::int AS fetched,
       count(*) FILTER (WHERE state = 'fetched')::int AS to_process,
       count(*) FILTER (WHERE state = 'completed')::int AS to_load
FROM gleaner.website_page WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s

-- chunk_counts --
SELECT coalesce(sum(chunks), 0)::int, coalesce(sum(embedded + reused), 0)::int
FROM gleaner.batch_report WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s

-- some_headings --
-- Three headings from all over the tenant's newest source, always the same ones.
SELECT heading FROM (
    SELECT split_part(k.section_title, ' > ', 1) AS heading, min(p.page_id::text) AS first
    FROM gleaner.tenant_knowledge k
    JOIN gleaner.website_page p ON p.tenant_id = k.tenant_id AND p.page_id = k.source_id
    WHERE k.tenant_id = %(tenant_id)s AND k.section_title <> ''
    GROUP BY 1 ORDER BY 2 LIMIT 3) AS found

-- stage_progress --
-- Pages done and to do in one stage of a run, by the newest try of each batch, and the seconds since it began.
SELECT coalesce(sum(newest.pages), 0)::int, j.planned_pages,
       coalesce(extract(epoch FROM clock_timestamp() - min(newest.started_at)), 0)::float8
FROM gleaner.crawl_job j
LEFT JOIN (SELECT DISTINCT ON (batch_index) pages, started_at FROM gleaner.batch_report
           WHERE tenant_id = %(tenant_id)s AND job_id = %(job_id)s AND stage = %(stage)s
           ORDER BY batch_index, try_number DESC) AS newest ON true
WHERE j.tenant_id = %(tenant_id)s AND j.job_id = %(job_id)s
GROUP BY j.planned_pages
