"""From the stored bytes of a page to a document: pure functions, the same result on every machine.

Way in: `document.read_document`. Behind it, in this order: `decode` (bytes to text), `outline` (one walk over the parse
tree), `extract` (which of it is content), `sections`, `metadata` and `structured_data`, `language`, `rules` (what is no
content), `fingerprint`. `records` turns documents into JSON and back.
"""
