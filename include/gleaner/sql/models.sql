-- Queries of the change from one embedding model to another. Readers see the rows of tenant.search_model only.

-- state --
SELECT search_model, previous_model FROM gleaner.tenant WHERE tenant_id = %(tenant_id)s

-- pages_behind --
-- Pages that readers can find under their model and not yet, or not with all of their vectors, under the new one.
SELECT count(*)::int FROM gleaner.knowledge_generation g
JOIN gleaner.tenant t ON t.tenant_id = g.tenant_id AND t.search_model = g.embedding_model
WHERE g.tenant_id = %(tenant_id)s AND t.search_model <> %(model)s AND g.chunk_count > 0
  AND (NOT EXISTS (
        SELECT 1 FROM gleaner.knowledge_generation n
        WHERE n.tenant_id = g.tenant_id AND n.source_id = g.source_id AND n.embedding_model = %(model)s
          AND n.generation >= g.generation)
       OR EXISTS (
        SELECT 1 FROM gleaner.tenant_knowledge k
        WHERE k.tenant_id = g.tenant_id AND k.source_id = g.source_id AND k.embedding_model = %(model)s
          AND k.embedding IS NULL
          AND NOT EXISTS (
                SELECT 1 FROM gleaner.dead_letter d
                WHERE d.tenant_id = k.tenant_id AND d.stage = 'embed' AND d.page_id = k.source_id
                  AND d.item = k.chunk_type || '/' || k.chunk_index AND d.resolved_at IS NULL)))

-- switch --
-- From this statement on readers see the new model: when it is the first, or when no page is behind.
UPDATE gleaner.tenant t
SET search_model = %(model)s, previous_model = t.search_model
WHERE t.tenant_id = %(tenant_id)s AND t.search_model IS DISTINCT FROM %(model)s AND t.previous_model IS NULL
  AND (t.search_model IS NULL OR NOT EXISTS (
        SELECT 1 FROM gleaner.knowledge_generation g
        WHERE g.tenant_id = t.tenant_id AND g.embedding_model = t.search_model AND g.chunk_count > 0
          AND (NOT EXISTS (
                SELECT 1 FROM gleaner.knowledge_generation n
                WHERE n.tenant_id = g.tenant_id AND n.source_id = g.source_id AND n.embedding_model = %(model)s
                  AND n.generation >= g.generation)
               OR EXISTS (
                SELECT 1 FROM gleaner.tenant_knowledge k
                WHERE k.tenant_id = g.tenant_id AND k.source_id = g.source_id AND k.embedding_model = %(model)s
                  AND k.embedding IS NULL
                  AND NOT EXISTS (
                        SELECT 1 FROM gleaner.dead_letter d
                        WHERE d.tenant_id = k.tenant_id AND d.stage = 'embed' AND d.page_id = k.source_id
                          AND d.item = k.chunk_type || '/' || k.chunk_index AND d.resolved_at IS NULL)))))
RETURNING previous_model

-- hold_state --
-- The tenant's models cannot be switched until the transaction ends.
SELECT previous_model FROM gleaner.tenant WHERE tenant_id = %(tenant_id)s FOR SHARE

-- old_pages --
-- Some pages with rows of a model; their fences are locked, so that no writer comes between.
SELECT source_id FROM gleaner.knowledge_generation
WHERE tenant_id = %(tenant_id)s AND embedding_model = %(model)s AND chunk_count > 0
ORDER BY source_id LIMIT %(pages)s FOR UPDATE

-- delete_old_chunks --
DELETE FROM gleaner.tenant_knowledge
WHERE tenant_id = %(tenant_id)s AND embedding_model = %(model)s AND source_id = ANY(%(page_ids)s)

-- delete_old_fences --
-- Those of retired pages stay: no late task of the old model brings their chunks back.
DELETE FROM gleaner.knowledge_generation
WHERE tenant_id = %(tenant_id)s AND embedding_model = %(model)s AND source_id = ANY(%(page_ids)s)

-- delete_old_pending --
DELETE FROM gleaner.pending_embedding WHERE tenant_id = %(tenant_id)s AND embedding_model = %(model)s

-- forget_previous --
UPDATE gleaner.tenant SET previous_model = NULL
WHERE tenant_id = %(tenant_id)s AND previous_model = %(model)s

-- rows_by_model --
SELECT embedding_model, count(*)::int, count(embedding)::int FROM gleaner.tenant_knowledge
WHERE tenant_id = %(tenant_id)s GROUP BY embedding_model ORDER BY embedding_model

-- dimensions --
-- Of one of the tenant's vectors of the model; all of them have as many.
SELECT vector_dims(embedding) FROM gleaner.tenant_knowledge
WHERE tenant_id = %(tenant_id)s AND embedding_model = %(model)s AND embedding IS NOT NULL LIMIT 1
