"""What the metrics should say, counted row by row, and what they say."""

from __future__ import annotations

import psycopg
from prometheus_client.parser import text_string_to_metric_families

from include.gleaner.report.metrics import Samples, exposition, read_knowledge

_TRUTH = """
SELECT 'gleaner_pages', state, count(*) FROM gleaner.website_page GROUP BY state
UNION ALL SELECT 'gleaner_chunks', embedding_model, count(*) FROM gleaner.tenant_knowledge GROUP BY embedding_model
UNION ALL SELECT 'gleaner_chunks_without_vector', embedding_model, count(*) FROM gleaner.tenant_knowledge
    WHERE embedding IS NULL OR tldr_hash IS NOT NULL AND tldr_embedding IS NULL GROUP BY embedding_model
UNION ALL SELECT 'gleaner_dead_letters', stage, count(*) FROM gleaner.dead_letter
    WHERE resolved_at IS NULL GROUP BY stage
UNION ALL SELECT 'gleaner_embedding_requests_total', embedding_model, sum(requests)
    FROM gleaner.embedding_usage GROUP BY 2
UNION ALL SELECT 'gleaner_embedding_inputs_total', embedding_model, sum(inputs)
    FROM gleaner.embedding_usage GROUP BY 2
UNION ALL SELECT 'gleaner_embedding_tokens_total', embedding_model, sum(tokens)
    FROM gleaner.embedding_usage GROUP BY 2
"""
Told = dict[tuple[str, str], float]


def scrape(conn: psycopg.Connection) -> dict[tuple[str, ...], float]:
    """Every sample of the exposition, by its name and the values of its labels in the order of their names."""
    samples = Samples()
    read_knowledge(conn, samples)
    return parsed(exposition(samples).decode())


def parsed(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def truth(conn: psycopg.Connection) -> Told:
    """Counted in the tables themselves; what is 0 is left out."""
    return {(name, label): float(count) for name, label, count in conn.execute(_TRUTH.encode()) if count}


def told(conn: psycopg.Connection) -> Told:
    """The same names as `truth` has, as the metrics tell them."""
    names = {"gleaner_pages", "gleaner_chunks", "gleaner_chunks_without_vector"}
    found: Told = {}
    for (name, *labels), value in scrape(conn).items():
        if name == "gleaner_dead_letters":
            key = (name, labels[1])  # reason, stage
        elif name in names or name.startswith("gleaner_embedding_"):
            key = (name, labels[0])
        else:
            continue
        if value:
            found[key] = found.get(key, 0.0) + value
    return found
