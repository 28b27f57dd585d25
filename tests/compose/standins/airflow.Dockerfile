# Stands in for Airflow's own image where no image registry is reached: the same user, folders, Python environment and
# init. What the real one brings is installed by the Dockerfile that is tested, from wheels that were fetched before.
ARG DEBIAN
FROM ${DEBIAN}
RUN useradd --uid 50000 --gid 0 --create-home --home-dir /home/airflow airflow \
    && mkdir -p /opt/airflow && chown airflow:0 /opt/airflow \
    && printf '[global]\nno-index = true\nfind-links = /wheels\n' > /etc/pip.conf
USER airflow
RUN python3 -m venv /home/airflow/.local
ENV PATH=/home/airflow/.local/bin:/usr/local/bin:/usr/bin:/bin AIRFLOW_HOME=/opt/airflow
COPY wheels /wheels
