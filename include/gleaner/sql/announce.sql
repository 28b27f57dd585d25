-- What rebuild_knowledge and maintain_knowledge announce: what their runs wrote, website by website. %(tenant_id)s is one tenant, or
-- null for all of them.

-- written --
-- Websites of a list whose rows a run changed: the mapped tasks of its own jobs, all tries, and what was filled in since it began.
SELECT j.tenant_id, j.source_id, s.root_url, coalesce(sum(r.chunks), 0)::int AS chunks,
       coalesce(sum(r.embedded), 0)::int AS embedded, coalesce(sum(r.reused), 0)::int AS reused,
       coalesce(sum(r.requests), 0)::int AS requests, coalesce(sum(r.tokens), 0)::bigint AS tokens,
       coalesce(sum(r.created), 0)::int AS created, coalesce(sum(r.updated), 0)::int AS updated,
       coalesce(sum(r.unchanged), 0)::int AS unchanged, coalesce(sum(r.deleted), 0)::int AS deleted,
       coalesce(sum(r.stale_pages), 0)::int AS stale_pages,
       coalesce(max((j.report #>> '{retired,retired}')::int) FILTER (WHERE j.run_id = %(run_id)s), 0)::int AS retired
FROM (SELECT DISTINCT tenant_id, source_id
      FROM unnest(%(tenant_ids)s::text[], %(source_ids)s::uuid[]) AS l (tenant_id, source_id)) wanted
JOIN gleaner.website_source s USING (tenant_id, source_id)
JOIN gleaner.crawl_job j USING (tenant_id, source_id)
JOIN gleaner.batch_report r USING (tenant_id, job_id)
WHERE (%(tenant_id)s::text IS NULL OR j.tenant_id = %(tenant_id)s)
  AND (j.run_id = %(run_id)s AND r.stage <> 'estimate'
       OR r.stage = 'renew' AND greatest(r.started_at, r.finished_at) >= %(since)s)
GROUP BY j.tenant_id, j.source_id, s.root_url
HAVING sum(r.created + r.updated + r.deleted) > 0
    OR max((j.report #>> '{retired,retired}')::int) FILTER (WHERE j.run_id = %(run_id)s) > 0
ORDER BY j.tenant_id, s.root_url
