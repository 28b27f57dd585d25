#!/bin/sh
# Writes .env from .env.example with secrets of this machine's own, or with --files into deploy/compose/secrets/.
# What is there already stays as it is, so it may be run again; nothing is printed.
set -eu
cd "$(dirname "$0")/../.."
umask 077

random() { # of 43 letters and digits, 32 bytes and more of randomness
    LC_ALL=C tr -dc 'A-Za-z0-9' < /dev/urandom | head -c 43
}

make() { # a value for the secret of this name
    case "$1" in
        GLEANER_FERNET_KEY) head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n' ;;
        *) random ;;
    esac
}

[ -f .env ] || cp .env.example .env
chmod 600 .env
for name in POSTGRES_PASSWORD AIRFLOW_DB_PASSWORD KNOWLEDGE_DB_PASSWORD REDIS_PASSWORD FERNET_KEY API_SECRET_KEY \
    JWT_SECRET ADMIN_PASSWORD METRICS_TOKEN GRAFANA_PASSWORD; do
    if [ "${1:-}" = --files ]; then
        file="deploy/compose/secrets/$(printf %s "$name" | tr '[:upper:]' '[:lower:]')"
        if [ ! -s "$file" ]; then
            make "GLEANER_$name" > "$file"
            chmod 444 "$file" # any user in a container; on this machine the folder keeps others out
        fi
    elif ! grep -q "^GLEANER_$name=..*" .env || grep -q "^GLEANER_$name=change-me$" .env; then
        value=$(make "GLEANER_$name")
        grep -v "^GLEANER_$name=" .env > .env.new || true
        echo "GLEANER_$name=$value" >> .env.new
        mv .env.new .env
    fi
done
if [ "${1:-}" = --files ]; then
    chmod 700 deploy/compose/secrets
    [ -s deploy/compose/secrets/openai_api_key ] || { : > deploy/compose/secrets/openai_api_key; chmod 444 deploy/compose/secrets/openai_api_key; }
    echo "The secrets are in deploy/compose/secrets/, the settings in .env"
else
    echo "The secrets are in .env, as GLEANER_ADMIN_PASSWORD the one of the first login"
fi
