"""From a start address to stored pages.

Pure: `urls`, `robots`, `sitemap`, `links`. With I/O: `guard` (which addresses may be reached), `client` (one fetch),
`throttle` (politeness), `frontier` (what is known and due, in Postgres), `crawler` (the way in).
"""
