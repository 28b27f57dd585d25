DROP INDEX gleaner.tenant_knowledge_tldr_hash;
ALTER TABLE gleaner.tenant_knowledge DROP COLUMN tldr_embedding;
ALTER TABLE gleaner.tenant_knowledge DROP COLUMN tldr_hash;
