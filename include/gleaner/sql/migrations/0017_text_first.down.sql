-- step old --
CREATE INDEX CONCURRENTLY tenant_knowledge_text_hash ON gleaner.tenant_knowledge (tenant_id, embedding_model, text_hash)

-- step by_text --
DROP INDEX CONCURRENTLY IF EXISTS gleaner.tenant_knowledge_by_text
