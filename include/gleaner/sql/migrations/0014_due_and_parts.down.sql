DROP FUNCTION gleaner.in_parts;
DROP FUNCTION gleaner.is_due;
