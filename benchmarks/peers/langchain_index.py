"""LangChain: `index()` with a record manager into PGVectorStore; prints what it did as JSON.

DSN and EMBEDDINGS come from the environment, the addresses of the pages from standard input.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import time
from collections.abc import Iterator

import requests
from bs4 import BeautifulSoup
from langchain_classic.indexes import SQLRecordManager
from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document
from langchain_core.indexing import index
from langchain_openai import OpenAIEmbeddings
from langchain_postgres import Column, PGEngine, PGVectorStore
from langchain_text_splitters import RecursiveCharacterTextSplitter

logging.disable(logging.WARNING)
DSN, URLS = os.environ["DSN"], sys.stdin.read().split()
ready = time.monotonic()

engine = PGEngine.from_connection_string(DSN)
try:
    engine.init_vectorstore_table(
        "lc_docs", 1_536, metadata_columns=[Column("source", "TEXT")], id_column=Column("langchain_id", "TEXT")
    )
except Exception as error:
    if "exists" not in str(error):
        raise
embeddings = OpenAIEmbeddings(model="text-embedding-3-small", base_url=os.environ["EMBEDDINGS"], api_key="x")
store = PGVectorStore.create_sync(engine, embeddings, "lc_docs", metadata_columns=["source"])
records = SQLRecordManager("pgvector/lc_docs", db_url=DSN)
records.create_schema()
splitter = RecursiveCharacterTextSplitter.from_tiktoken_encoder(
    "cl100k_base", chunk_size=500, chunk_overlap=50, disallowed_special=()
)
chunks = 0


class Pages(BaseLoader):
    """What WebBaseLoader does: requests, html.parser, get_text."""

    def lazy_load(self) -> Iterator[Document]:
        """Pages, split."""
        global chunks
        with requests.Session() as session:
            for url in URLS:
                text = BeautifulSoup(session.get(url, timeout=60).content, "html.parser").get_text()
                for chunk in splitter.split_documents([Document(page_content=text, metadata={"source": url})]):
                    chunks += 1
                    yield chunk


done = index(Pages(), records, store, cleanup="full", source_id_key="source", key_encoder="sha256", batch_size=100)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
told = {"chunks": chunks, "done": done, "seconds": time.monotonic() - ready, "peak_mb": {"process": peak}}
print("RESULT" + json.dumps(told))
