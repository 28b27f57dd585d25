#!/bin/sh
# Starts Postgres by the entry of its image, with the superuser's password and settings for this work. With arguments:
# one of Postgres' programs as the superuser, as in  docker compose exec postgres sh /opt/gleaner/compose/postgres.sh psql
set -eu
. "$(dirname "$0")/secrets.sh"
check_secret GLEANER_POSTGRES_PASSWORD
if [ $# -gt 0 ]; then
    PGPASSWORD=$(secret GLEANER_POSTGRES_PASSWORD)
    export PGPASSWORD PGUSER=postgres PGHOST=127.0.0.1
    exec "$@"
fi
POSTGRES_PASSWORD=$(secret GLEANER_POSTGRES_PASSWORD)
export POSTGRES_PASSWORD
export POSTGRES_INITDB_ARGS="--auth-host=scram-sha-256 --auth-local=scram-sha-256 --encoding=UTF8 --locale=C"
exec docker-entrypoint.sh postgres \
    -c "shared_buffers=${GLEANER_POSTGRES_SHARED_BUFFERS:-512MB}" \
    -c max_connections=300 \
    -c max_wal_size=4GB \
    -c checkpoint_timeout=15min \
    -c wal_compression=on \
    -c jit=off \
    -c random_page_cost=1.1 \
    -c log_min_messages=warning \
    -c timezone=UTC
