"""LlamaIndex: IngestionPipeline with a docstore (upserts and deletes) into PGVectorStore; prints what it did as JSON.

DSN_HOST, DSN_PORT, DSN_PASSWORD, EMBEDDINGS and DOCSTORE (a file) come from the environment, addresses of pages from
standard input.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

import requests
from bs4 import BeautifulSoup
from llama_index.core import Document
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.vector_stores.postgres import PGVectorStore

URLS, SAVED = sys.stdin.read().split(), os.environ["DOCSTORE"]
ready = time.monotonic()

store = PGVectorStore.from_params(
    host=os.environ["DSN_HOST"], port=os.environ["DSN_PORT"], user="gleaner", password=os.environ["DSN_PASSWORD"],
    database="peers", table_name="li", embed_dim=1_536,
)  # fmt: skip
docstore = SimpleDocumentStore.from_persist_path(SAVED) if Path(SAVED).exists() else SimpleDocumentStore()
with requests.Session() as session:
    documents = [
        Document(text=BeautifulSoup(session.get(url, timeout=60).content, "html.parser").get_text(), id_=url)
        for url in URLS
    ]
pipeline = IngestionPipeline(
    transformations=[
        SentenceSplitter(chunk_size=500, chunk_overlap=50),
        OpenAIEmbedding(
            model="text-embedding-3-small", api_base=os.environ["EMBEDDINGS"], api_key="x", embed_batch_size=100
        ),
    ],
    docstore=docstore,
    docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
    vector_store=store,
    disable_cache=True,
)
nodes = pipeline.run(documents=documents)
docstore.persist(SAVED)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
told = {
    "pages": len(documents),
    "chunks": len(nodes),
    "seconds": time.monotonic() - ready,
    "peak_mb": {"process": peak},
}
print("RESULT" + json.dumps(told))
