#!/bin/sh
# Starts Grafana by the entry of its image, with the administrator's password.
set -eu
. "$(dirname "$0")/secrets.sh"
check_secret GLEANER_GRAFANA_PASSWORD
GF_SECURITY_ADMIN_PASSWORD=$(secret GLEANER_GRAFANA_PASSWORD)
export GF_SECURITY_ADMIN_PASSWORD
exec /run.sh
