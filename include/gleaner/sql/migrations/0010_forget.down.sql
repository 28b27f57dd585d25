DROP INDEX gleaner.dead_letter_open;
DROP TABLE gleaner.forgotten;
