"""
### maintain_knowledge

Keeps the knowledge of all tenants whole between runs. Needs no parameters. Any task may be cleared or run again.

| Task | Does | Pool |
| --- | --- | --- |
| `find` | chunks without vectors, because the endpoint failed or a quota was spent; tenants in fair turns | default |
| `fill` | asks for the vectors, batch by batch, and loads them | `gleaner_load` |
| `find_broken` | pages that a dead run left behind, failures that are due: after 1, 4, 16, 64, 256 hours | default |
| `mend` | reads and loads these | `gleaner_load` |
| `look_over` | prunes what is 14 or 90 days old, builds missing indexes, checks constraint, indexes, fences | default |

While the circuit breaker of the endpoint is open, `find` finds nothing and the run is green: the next one tries again.

**Triage notes.** `look_over` returns the report.
- *`look_over` is red*: the constraint is gone or an index is not valid; the error says what to type.
- *chunks stay without vectors*: is the quota spent (`python -m include.gleaner.ops.tenants show TENANT`)? Does the log
  of `find` say that the endpoint failed? Chunks in `dead_letter` with stage `embed` were refused.
- *`given_up` in the report*: failures that were tried six times; mend the cause and trigger `ingest_website` again.
- *SchemaError*: run `python -m include.gleaner db migrate`.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, task

from include.gleaner import pipeline, pools
from include.gleaner.assets import ANNOUNCED, TENANT_KNOWLEDGE, announce
from include.gleaner.defaults import BATCH_NAME, DAG_ARGS, FIRST


@dag(
    dag_id="maintain_knowledge",
    description="Fill in missing vectors and check the knowledge of all tenants",
    doc_md=__doc__,
    schedule="@hourly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),
    tags=["gleaner", "maintenance"],
    **DAG_ARGS,
)
def maintain_knowledge():
    @task(**FIRST, show_return_value_in_logs=False)
    def find():
        return pipeline.find_missing_vectors()

    @task(pool=pools.LOAD.name, map_index_template=BATCH_NAME, show_return_value_in_logs=False)
    def fill(batch, ti=None):
        return pipeline.fill_vectors(batch, ti.try_number)

    @task(**FIRST, show_return_value_in_logs=False)
    def find_broken(run_id=None):
        return pipeline.find_pages_to_mend(run_id)

    @task(pool=pools.LOAD.name, map_index_template=BATCH_NAME, show_return_value_in_logs=False)
    def mend(batch, ti=None):
        return pipeline.mend_pages(batch, ti.try_number)

    # Named here, the asset is there before any run: two first runs that end together would both make it.
    @task(**FIRST, trigger_rule="all_done", inlets=[TENANT_KNOWLEDGE], outlets=[ANNOUNCED])
    def look_over(filled, mended, run_id=None, dag_run=None, outlet_events=None):
        told = pipeline.look_over_knowledge()
        for website in pipeline.maintained_websites(filled, mended, run_id, dag_run.start_date):
            announce(outlet_events, website["tenant"], website)
        return told

    found, broken = find(), find_broken()
    [fill.expand(batch=found), mend.expand(batch=broken)] >> look_over(found, broken)


maintain_knowledge()
