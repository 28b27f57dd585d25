#!/bin/sh
# Removes what is older than GLEANER_KEEP_DAYS, once a day: logs of tasks, and Airflow's own rows of runs that are over.
# What Gleaner knows is not touched: maintain_knowledge prunes that. With "once": now, and then it ends.
set -eu
days=${GLEANER_KEEP_DAYS:-90}

tidy() {
    find /opt/airflow/logs -type f -mtime "+$days" -delete
    find /opt/airflow/logs -mindepth 1 -type d -empty -mtime +1 -delete
    airflow db clean --yes --skip-archive --clean-before-timestamp "$(date -u -d "$days days ago" +%Y-%m-%dT%H:%M:%SZ)"
    touch /tmp/tidied
}

[ "${1:-}" = once ] && { tidy; exit; }
touch /tmp/tidied
sleep 3600 # not while everything else starts
while true; do
    tidy
    sleep 86400
done
