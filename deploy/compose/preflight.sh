#!/bin/sh
# Ends with one line when a secret is missing, weak, or one that everybody knows; the other services wait for it.
set -eu
. "$(dirname "$0")/secrets.sh"
for name in GLEANER_POSTGRES_PASSWORD GLEANER_AIRFLOW_DB_PASSWORD GLEANER_KNOWLEDGE_DB_PASSWORD \
    GLEANER_REDIS_PASSWORD GLEANER_FERNET_KEY GLEANER_API_SECRET_KEY GLEANER_JWT_SECRET GLEANER_ADMIN_PASSWORD; do
    check_secret "$name"
done
echo "gleaner: the secrets are good"
