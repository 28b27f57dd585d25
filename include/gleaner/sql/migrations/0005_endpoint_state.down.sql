DROP TABLE gleaner.endpoint_state;
