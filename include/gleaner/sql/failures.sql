-- Queries about what failed and is not mended.

-- list --
SELECT d.stage, p.url, d.item, d.reason, d.detail, d.attempts, d.first_at, d.last_at
FROM gleaner.dead_letter d JOIN gleaner.website_page p USING (tenant_id, page_id)
WHERE d.tenant_id = %(tenant_id)s AND d.resolved_at IS NULL
ORDER BY d.last_at DESC, p.url, d.item

-- replay --
-- As if they had failed once, long ago: due at once, with all their tries before them.
UPDATE gleaner.dead_letter SET attempts = 1, last_at = now() - interval '2 hours'
WHERE tenant_id = %(tenant_id)s AND resolved_at IS NULL AND stage <> 'crawl'
  AND (%(stage)s::text IS NULL OR stage = %(stage)s)
