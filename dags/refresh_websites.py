"""
### refresh_websites

Starts `ingest_website` again for each website that is due by its own interval, with the Params of its last ingest.
What is paused is left out; tenants come in fair turns. Needs no parameters. Any task may be cleared or run again.

| Task | Does | Pool |
| --- | --- | --- |
| `find` | the websites that are due | default |
| `ingest` | triggers `ingest_website` for each, once per day whatever is cleared | default |

**Set it** with `python -m include.gleaner.ops.sources`: `list`, `every TENANT URL DAYS`, `pause TENANT URL`.

**Triage notes.**
- *a website is not refreshed*: `sources list` says when it is due, whether it is paused, and when it was crawled.
- *an `ingest` is skipped*: that run was triggered before, by an earlier try or another run of this DAG.
- *the triggered runs stay queued*: `ingest_website` is paused, or eight runs of it are under way.
- *SchemaError*: run `python -m include.gleaner db migrate`.
"""

from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import dag, task

from include.gleaner import pipeline
from include.gleaner.defaults import DAG_ARGS, FIRST


@dag(
    dag_id="refresh_websites",
    description="Ingest the websites that are due",
    doc_md=__doc__,
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),
    tags=["gleaner", "refresh"],
    **DAG_ARGS,
)
def refresh_websites():
    @task(**FIRST, show_return_value_in_logs=False)
    def find():
        return pipeline.find_due_websites()

    TriggerDagRunOperator.partial(
        task_id="ingest",
        trigger_dag_id="ingest_website",
        logical_date=None,
        skip_when_already_exists=True,
        map_index_template="{{ task.conf['tenant'] }} · {{ task.conf['url'] }}",
    ).expand_kwargs(find())


refresh_websites()
