-- step drop --
DROP INDEX CONCURRENTLY IF EXISTS gleaner.dead_letter_open
