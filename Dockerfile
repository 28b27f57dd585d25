# Gleaner on Airflow's own image. Everything is pinned: the base by its tag, the packages by requirements-image.txt.
#   docker build -t gleaner-airflow:0.1.0 .
ARG AIRFLOW_IMAGE=apache/airflow:slim-3.3.2-python3.12

# The packages: a layer that changes only with the requirements.
FROM ${AIRFLOW_IMAGE} AS packages
COPY requirements.txt requirements-cluster.txt requirements-image.txt /opt/gleaner/
# Nothing is left to resolve, and no compiler is needed.
RUN pip install --no-cache-dir --no-compile --no-deps --only-binary ':all:' -r /opt/gleaner/requirements-image.txt
# Compiled now, by all cores, because the containers are read-only; what some packages ship for other Pythons does not compile.
RUN python -m compileall -q -j 0 "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" > /dev/null; \
    python -c 'import airflow.providers.fab, airflow.providers.celery, onnxruntime, psycopg, statsd'

# What the local model builds from its weights, so that no worker has to: the same bytes from the same code and weights.
FROM packages AS model
COPY include /opt/airflow/include
RUN PYTHONPATH=/opt/airflow GLEANER_CACHE_DIR=/tmp/cache \
    python -c 'from include.gleaner.embed.local import shared_model; shared_model()'

FROM packages
USER root
ENV AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/airflow/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/airflow/plugins \
    PYTHONPATH=/opt/airflow \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GLEANER_CACHE_DIR=/opt/gleaner/cache
# Owned by root and read by all: what runs here cannot change what runs here.
COPY --from=model --chown=0:0 /tmp/cache /opt/gleaner/cache
COPY --chown=0:0 deploy/compose /opt/gleaner/compose
COPY --chown=0:0 plugins /opt/airflow/plugins
COPY --chown=0:0 dags /opt/airflow/dags
COPY --chown=0:0 include /opt/airflow/include
RUN chmod -R a+rX /opt/gleaner && python -m compileall -q /opt/airflow/include \
    && mkdir -p /opt/airflow/logs /opt/gleaner/backups && chown 50000:0 /opt/airflow/logs /opt/gleaner/backups \
    && touch /opt/airflow/airflow.cfg
USER 50000:0
WORKDIR /opt/airflow
# The vocabulary and the model's graph are there, whole, and found without a network.
RUN python -c 'from include.gleaner.chunk.tokens import count_tokens; assert count_tokens("hello world") == 2'
ENTRYPOINT ["/usr/bin/dumb-init", "--", "/opt/gleaner/compose/entrypoint.sh"]
CMD ["version"]
