-- The index that finds a text's vector begins with the text. One that began with tenant and model was taken instead of
-- unique_chunk_per_source for a page's chunks, while the planner knew nothing of the tenant: each page read all rows.

-- step by_text --
CREATE INDEX CONCURRENTLY tenant_knowledge_by_text ON gleaner.tenant_knowledge (text_hash, tenant_id, embedding_model)

-- step old --
DROP INDEX CONCURRENTLY IF EXISTS gleaner.tenant_knowledge_text_hash
