"""
### rebuild_knowledge

Does the pages that were fetched in the run's data interval again from what is stored of them: read, cut, embed, load.
Touches no network but the embedding endpoint, never overwrites newer content, costs nothing where nothing changes.

**Backfill** it from the UI, by `airflow backfill create --dag-id rebuild_knowledge --from-date 2026-03-01 --to-date
2026-03-07 --dag-run-conf '{"tenant": "acme"}'`, or by API. For one run without a backfill give `since` and `until`.

| Task | Does | Pool |
| --- | --- | --- |
| `find` | pages whose newest content was fetched in the interval, as batches; an empty day is green | default |
| `process` | pages into documents; only with stage `process` | `gleaner_process` |
| `survey` | what each site repeats; batches to load | default |
| `load` | chunks, vectors, bulk load | `gleaner_load` |
| `report` | index, readers, report; red when pages were left undone | default |

**Triage notes.** `report` returns what was done; each failed page or chunk is a row of `gleaner.dead_letter`.
- *a batch is red*: read its log, mend the cause, clear it; what is done stays, and a day may be run again at will.
- *"dimensions" in the error*: name those of `model` too, or the connection `gleaner_openai` names another model.
- *another backfill is running*: Airflow runs one at a time for a DAG; a run with `since` and `until` needs none.
- *readers do not see the new model*: they do when the connection names it and every page of the tenant is in it.
- *SchemaError*: run `python -m include.gleaner db migrate`.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import CronDataIntervalTimetable, Param, dag, task

from include.gleaner import pipeline, pools
from include.gleaner.assets import ANNOUNCED, announce
from include.gleaner.defaults import BATCH_NAME, DAG_ARGS, FIRST
from include.gleaner.params import REBUILD_FORM


@dag(
    dag_id="rebuild_knowledge",
    description="Process, chunk and embed the stored pages of a day again",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=4,
    dagrun_timeout=timedelta(hours=12),
    tags=["gleaner", "rebuild"],
    params={name: Param(**field) for name, field in REBUILD_FORM.items()},
    **DAG_ARGS,
)
def rebuild_knowledge():
    @task(**FIRST, show_return_value_in_logs=False)
    def find(params=None, run_id=None, data_interval_start=None, data_interval_end=None):
        return pipeline.find_pages_of_interval(params, run_id, (data_interval_start, data_interval_end))

    @task(pool=pools.PROCESS.name, map_index_template=BATCH_NAME, show_return_value_in_logs=False)
    def process(batch, params=None, ti=None, data_interval_start=None, data_interval_end=None):
        return pipeline.reprocess_pages(params, (data_interval_start, data_interval_end), batch, ti.try_number)

    @task(**FIRST, trigger_rule="all_done", show_return_value_in_logs=False)
    def survey(params=None, run_id=None, data_interval_start=None, data_interval_end=None):
        return pipeline.find_documents_of_interval(params, run_id, (data_interval_start, data_interval_end))

    @task(pool=pools.LOAD.name, map_index_template=BATCH_NAME, show_return_value_in_logs=False)
    def load(batch, params=None, ti=None, data_interval_start=None, data_interval_end=None):
        return pipeline.reload_chunks(params, (data_interval_start, data_interval_end), batch, ti.try_number)

    @task(**FIRST, trigger_rule="all_done", outlets=[ANNOUNCED])
    def report(params=None, run_id=None, data_interval_start=None, data_interval_end=None, outlet_events=None):
        told = pipeline.report_rebuild(params, run_id, (data_interval_start, data_interval_end))
        for website in pipeline.rebuilt_websites(params, run_id, (data_interval_start, data_interval_end)):
            announce(outlet_events, website["tenant"], website)
        return told

    surveyed = survey()
    process.expand(batch=find()) >> surveyed
    load.expand(batch=surveyed) >> report()


rebuild_knowledge()
