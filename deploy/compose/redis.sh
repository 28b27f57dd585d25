#!/bin/sh
# Starts Redis with its password, which is in no command line; with "ping": whether it answers.
set -eu
. "$(dirname "$0")/secrets.sh"
check_secret GLEANER_REDIS_PASSWORD
if [ "${1:-}" = ping ]; then
    REDISCLI_AUTH=$(secret GLEANER_REDIS_PASSWORD)
    export REDISCLI_AUTH
    [ "$(redis-cli ping)" = PONG ]
    exit
fi
# What is queued outlives a restart. Nothing is ever thrown away: a full Redis refuses, and Airflow tries again.
exec redis-server - <<SETTINGS
requirepass "$(secret GLEANER_REDIS_PASSWORD)"
dir /data
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
SETTINGS
