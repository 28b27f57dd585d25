DROP TABLE gleaner.forgotten;
