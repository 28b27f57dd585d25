"""
### ingest_website

Takes one website of one tenant into the knowledge base. An unchanged site costs nothing. Any task may be cleared.

**Start it** from the form, or by API: `{"logical_date": null, "conf": {"tenant": "acme", "url": "https://example.com/"}}`.

| Task | Does | Pool |
| --- | --- | --- |
| `crawl` | fetches politely, stores raw pages; a killed crawl goes on where it was | `gleaner_crawl` |
| `plan` | divides the pages that have work to do into batches | default |
| `process` | pages into documents, batch by batch | `gleaner_process` |
| `survey` | what the site repeats, which pages say nearly the same; batches to load | default |
| `load` | chunks, vectors, bulk load, batch by batch | `gleaner_load` |
| `reconcile` | removes what is gone, writes the report, decides red or green | default |

**Triage notes.** `reconcile` returns the report; each failed page or chunk is a row of `gleaner.dead_letter`.
- *crawl is red*: the start page cannot be fetched; the error says why. Nothing was deleted.
- *the crawl is partial*: the report says why. If time or the site stopped it, trigger again: that goes on with it.
- *a page is missing*: try `python -m include.gleaner.crawl URL`; "Not followed" in the report names traps it may be in.
- *a batch is red*: read its log, mend the cause, clear it or trigger again; what is done stays. Others are loaded.
- *"delete brake" in the log*: much seemed gone, so nothing was deleted. Is the site right? Raise `max_delete_share`.
- *SchemaError*: run `python -m include.gleaner db migrate`.
"""

from datetime import timedelta

from airflow.sdk import Param, dag, task

from include.gleaner import pipeline, pools
from include.gleaner.assets import ANNOUNCED, announce
from include.gleaner.defaults import BATCH_NAME, DAG_ARGS, FIRST
from include.gleaner.params import INGEST_FORM


@dag(
    dag_id="ingest_website",
    description="Crawl one website of one tenant into the knowledge base",
    doc_md=__doc__,
    schedule=None,
    max_active_runs=8,
    dagrun_timeout=timedelta(hours=12),
    tags=["gleaner", "ingest"],
    params={name: Param(**field) for name, field in INGEST_FORM.items()},
    **DAG_ARGS,
)
def ingest_website():
    @task(pool=pools.CRAWL.name, show_return_value_in_logs=False)
    def crawl(params=None, run_id=None):
        return pipeline.crawl_website(params, run_id)

    @task(**FIRST, show_return_value_in_logs=False)
    def plan(params=None, run_id=None):
        return pipeline.plan_batches(params, run_id)

    @task(pool=pools.PROCESS.name, map_index_template=BATCH_NAME, show_return_value_in_logs=False)
    def process(batch, params=None, run_id=None, ti=None):
        return pipeline.process_pages(params, run_id, batch, ti.try_number)

    @task(**FIRST, trigger_rule="all_done_min_one_success", show_return_value_in_logs=False)
    def survey(params=None, run_id=None):
        return pipeline.survey_site(params, run_id)

    @task(pool=pools.LOAD.name, map_index_template=BATCH_NAME, show_return_value_in_logs=False)
    def load(batch, params=None, run_id=None, ti=None):
        return pipeline.load_chunks(params, run_id, batch, ti.try_number)

    @task(**FIRST, trigger_rule="all_done", outlets=[ANNOUNCED])
    def reconcile(params=None, run_id=None, outlet_events=None):
        report = pipeline.reconcile(params, run_id)
        announce(outlet_events, params["tenant"], report)
        return report

    planned, surveyed = plan(), survey()
    crawl() >> planned
    process.expand(batch=planned) >> surveyed
    load.expand(batch=surveyed) >> reconcile()


ingest_website()
