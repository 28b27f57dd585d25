-- The gist of a chunk may have a vector of its own.

ALTER TABLE gleaner.tenant_knowledge ADD COLUMN tldr_hash bytea;
ALTER TABLE gleaner.tenant_knowledge ADD COLUMN tldr_embedding vector;
COMMENT ON COLUMN gleaner.tenant_knowledge.tldr_hash IS 'SHA-256 of the breadcrumb and gist that were embedded; null unless the run asked for it.';
CREATE INDEX tenant_knowledge_tldr_hash ON gleaner.tenant_knowledge (tenant_id, embedding_model, tldr_hash) WHERE tldr_hash IS NOT NULL;
