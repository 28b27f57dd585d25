-- What the planner believes of a tenant. Statistics belong to no tenant.

-- pages --
EXPLAIN (FORMAT JSON) SELECT FROM gleaner.website_page WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s

-- pages_there --
SELECT count(*) FROM gleaner.website_page WHERE tenant_id = %(tenant_id)s AND source_id = %(source_id)s

-- analyze_pages --
-- Who finds the table locked leaves it: somebody else looks at it, or will.
ANALYZE (SKIP_LOCKED) gleaner.website_page

-- chunks --
EXPLAIN (FORMAT JSON) SELECT FROM gleaner.tenant_knowledge
WHERE tenant_id = %(tenant_id)s AND embedding_model = %(model)s

-- analyze_chunks --
ANALYZE (SKIP_LOCKED) gleaner.tenant_knowledge
