#!/bin/sh
# Starts Prometheus with the token for Gleaner's metrics in the file that deploy/prometheus/prometheus.yml names.
set -eu
. "$(dirname "$0")/secrets.sh"
file=/run/secrets/gleaner_metrics_token
if [ -f "$file" ] && [ -z "${GLEANER_METRICS_TOKEN:-}" ]; then # by deploy/compose/secrets.yaml
    [ -r "$file" ] || refuse GLEANER_METRICS_TOKEN "is in the file $file, which this container may not read; chmod 444 it"
    GLEANER_METRICS_TOKEN=$(cat "$file")
fi
check_secret GLEANER_METRICS_TOKEN
[ -f "$file" ] || secret GLEANER_METRICS_TOKEN > "$file"
exec /bin/prometheus "$@"
