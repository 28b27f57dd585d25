-- Removes everything that 0001 made. The extension stays: other schemas may use it.

DROP TABLE gleaner.batch_report;
DROP TABLE gleaner.dead_letter;
DROP TABLE gleaner.pending_embedding;
DROP TABLE gleaner.knowledge_generation;
DROP TABLE gleaner.tenant_knowledge;
DROP TABLE gleaner.page_document;
DROP TABLE gleaner.page_snapshot;
DROP TABLE gleaner.website_page;
DROP SEQUENCE gleaner.content_generation;
DROP TABLE gleaner.crawl_job;
DROP TABLE gleaner.website_source;
DROP TABLE gleaner.tenant;
