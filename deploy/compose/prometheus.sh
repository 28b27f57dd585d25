#!/bin/sh
# Starts Prometheus with the token for Gleaner's metrics in the file that deploy/prometheus/prometheus.yml names.
set -eu
. "$(dirname "$0")/secrets.sh"
check_secret GLEANER_METRICS_TOKEN
[ -f /run/secrets/gleaner_metrics_token ] || secret GLEANER_METRICS_TOKEN > /run/secrets/gleaner_metrics_token
exec /bin/prometheus "$@"
