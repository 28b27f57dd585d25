#!/bin/sh
# As the image's own: initdb with POSTGRES_PASSWORD when there is no data, then the server with the given arguments.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    : "${POSTGRES_PASSWORD:?}"
    printf '%s\n' "$POSTGRES_PASSWORD" > /tmp/password
    # shellcheck disable=SC2086 - these are several arguments
    initdb --username=postgres --pwfile=/tmp/password --no-sync $POSTGRES_INITDB_ARGS
    rm /tmp/password
    printf 'host all all all scram-sha-256\n' >> "$PGDATA/pg_hba.conf"
fi
exec "$@" -c listen_addresses='*' -c unix_socket_directories=/run/postgresql
