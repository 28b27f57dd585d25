#!/bin/sh
# The entry of the image: secrets from the environment or from files into Airflow's settings, then Airflow.
#   init             prepares databases, pools, connections and the first user
#   gleaner db ...   the knowledge's schema and backups: docker compose run --rm airflow-init gleaner db status
#   tidy [once]      removes old logs and rows of old runs, day by day
#   python ...       anything in the image, with the same settings and, where its password is known, the knowledge's address
#   anything else    is a command of airflow
# On Kubernetes the settings come from Airflow's chart, and what is run is named in full: nothing is added to either.
set -eu
if [ -n "${KUBERNETES_SERVICE_HOST:-}" ]; then
    case "${1:-}" in
        airflow | bash | python) exec "$@" ;;
        *) exec airflow "$@" ;;
    esac
fi
here=$(dirname "$0")
. "$here/secrets.sh"

for name in GLEANER_AIRFLOW_DB_PASSWORD GLEANER_REDIS_PASSWORD GLEANER_FERNET_KEY GLEANER_API_SECRET_KEY GLEANER_JWT_SECRET; do
    check_secret "$name"
done

quoted() {
    secret "$1" | python -c 'import sys, urllib.parse; print(urllib.parse.quote(sys.stdin.read(), safe=""), end="")'
}

know() { # where the knowledge is
    GLEANER_DSN="postgresql://gleaner:$(quoted GLEANER_KNOWLEDGE_DB_PASSWORD)@${GLEANER_POSTGRES_HOST:-postgres}:${GLEANER_POSTGRES_PORT:-5432}/gleaner"
    export GLEANER_DSN
}

database="airflow:$(quoted GLEANER_AIRFLOW_DB_PASSWORD)@${GLEANER_POSTGRES_HOST:-postgres}:${GLEANER_POSTGRES_PORT:-5432}/airflow"
export AIRFLOW__DATABASE__SQL_ALCHEMY_CONN="postgresql+psycopg2://$database"
export AIRFLOW__CELERY__RESULT_BACKEND="db+postgresql+psycopg2://$database"
export AIRFLOW__CELERY__BROKER_URL="redis://:$(quoted GLEANER_REDIS_PASSWORD)@${GLEANER_REDIS_HOST:-redis}:6379/0"
AIRFLOW__CORE__FERNET_KEY=$(secret GLEANER_FERNET_KEY)
AIRFLOW__API__SECRET_KEY=$(secret GLEANER_API_SECRET_KEY)
AIRFLOW__API_AUTH__JWT_SECRET=$(secret GLEANER_JWT_SECRET)
export AIRFLOW__CORE__FERNET_KEY AIRFLOW__API__SECRET_KEY AIRFLOW__API_AUTH__JWT_SECRET

# What may read the metrics without a login: whoever has the token, for which the application wants a file.
if [ -n "$(secret GLEANER_METRICS_TOKEN)" ]; then
    check_secret GLEANER_METRICS_TOKEN
    (umask 077 && secret GLEANER_METRICS_TOKEN > /tmp/gleaner_metrics_token)
    export GLEANER_METRICS_TOKEN_FILE=/tmp/gleaner_metrics_token
fi

# Behind a proxy that speaks TLS: cookies for TLS only, and the proxy's word on who asks.
case "${AIRFLOW__API__BASE_URL:-}" in
    https://*) export AIRFLOW__FAB__COOKIE_SECURE=True AIRFLOW__FAB__ENABLE_PROXY_FIX=True ;;
esac

# A component asks once for the address of the StatsD exporter, which may start at the same moment, and without an answer
# it is silent for good.
case "${AIRFLOW__METRICS__STATSD_ON:-}-${1:-}" in
    [Tt]rue-api-server | [Tt]rue-scheduler | [Tt]rue-dag-processor | [Tt]rue-triggerer | [Tt]rue-celery)
        tries=30
        until getent hosts "${AIRFLOW__METRICS__STATSD_HOST:-localhost}" > /dev/null; do
            tries=$((tries - 1))
            if [ "$tries" -eq 0 ]; then
                echo "gleaner: there is no host ${AIRFLOW__METRICS__STATSD_HOST:-}: no StatsD metrics until the next start" >&2
                break
            fi
            sleep 1
        done
        ;;
esac

case "${1:-}" in
    init)
        for name in GLEANER_POSTGRES_PASSWORD GLEANER_KNOWLEDGE_DB_PASSWORD GLEANER_ADMIN_PASSWORD; do
            check_secret "$name"
        done
        GLEANER_POSTGRES_PASSWORD=$(secret GLEANER_POSTGRES_PASSWORD)
        GLEANER_AIRFLOW_DB_PASSWORD=$(secret GLEANER_AIRFLOW_DB_PASSWORD)
        GLEANER_KNOWLEDGE_DB_PASSWORD=$(secret GLEANER_KNOWLEDGE_DB_PASSWORD)
        GLEANER_REDIS_PASSWORD=$(secret GLEANER_REDIS_PASSWORD)
        GLEANER_ADMIN_PASSWORD=$(secret GLEANER_ADMIN_PASSWORD)
        GLEANER_OPENAI_API_KEY=$(secret GLEANER_OPENAI_API_KEY)
        export GLEANER_POSTGRES_PASSWORD GLEANER_AIRFLOW_DB_PASSWORD GLEANER_KNOWLEDGE_DB_PASSWORD \
            GLEANER_REDIS_PASSWORD GLEANER_ADMIN_PASSWORD GLEANER_OPENAI_API_KEY
        export AIRFLOW__LOGGING__LOGGING_LEVEL=WARNING  # else FAB tells of each of its hundred permissions
        exec python "$here/init.py"
        ;;
    gleaner)
        check_secret GLEANER_KNOWLEDGE_DB_PASSWORD
        know
        shift
        exec python -m include.gleaner "$@"
        ;;
    tidy) shift; exec "$here/tidy.sh" "$@" ;;
    python)
        [ -z "$(secret GLEANER_KNOWLEDGE_DB_PASSWORD)" ] || know
        exec "$@"
        ;;
    *) exec airflow "$@" ;;
esac
