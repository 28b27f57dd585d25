ALTER TABLE gleaner.page_document DROP COLUMN spoken_for;
ALTER TABLE gleaner.page_document DROP COLUMN dropped;
ALTER TABLE gleaner.page_document DROP COLUMN bands;
ALTER TABLE gleaner.page_document DROP COLUMN block_hashes;
