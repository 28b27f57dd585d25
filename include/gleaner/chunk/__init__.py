"""From a document to chunks: pure functions. Way in: `splitter.split`; `pieces` cuts, `tokens` counts."""
