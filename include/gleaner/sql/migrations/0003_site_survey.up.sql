-- What a site repeats from page to page, and pages that say nearly the same.

ALTER TABLE gleaner.page_document ADD COLUMN block_hashes bigint[] NOT NULL DEFAULT '{}';
ALTER TABLE gleaner.page_document ADD COLUMN bands bigint[] NOT NULL DEFAULT '{}';
ALTER TABLE gleaner.page_document ADD COLUMN dropped bigint[] NOT NULL DEFAULT '{}';
ALTER TABLE gleaner.page_document ADD COLUMN spoken_for bigint[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN gleaner.page_document.block_hashes IS 'What the document is made of: a hash for each block, lone heading and fact.';
COMMENT ON COLUMN gleaner.page_document.bands IS 'Of its MinHash; pages that share one may be near duplicates.';
COMMENT ON COLUMN gleaner.page_document.dropped IS 'Of block_hashes, those that most pages of the site have and another page speaks for.';
COMMENT ON COLUMN gleaner.page_document.spoken_for IS 'Of block_hashes, those that most pages have and this page alone keeps.';
