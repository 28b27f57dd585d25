# Reads secrets and refuses bad ones; for /bin/sh, sourced by every entry. Says names, never values.

PLACEHOLDERS=" airflow admin password postgres gleaner secret changeme change-me changeit change_me default example "
LEAST=16

# secret NAME: prints the value of $NAME, else of the file /run/secrets/name (lower case, without gleaner_).
secret() {
    eval "_value=\${$1:-}"
    if [ -z "$_value" ]; then
        _file="${GLEANER_SECRETS_FOLDER:-/run/secrets}/$(printf %s "${1#GLEANER_}" | tr '[:upper:]' '[:lower:]')"
        if [ -f "$_file" ]; then
            [ -r "$_file" ] || refuse "$1" "is in the file $_file, which this container may not read; chmod 444 it"
            _value=$(cat "$_file")
        fi
    fi
    printf %s "$_value"
}

# check_secret NAME: ends the shell with one line unless the secret is one.
check_secret() {
    _found=$(secret "$1") || exit 1
    [ -n "$_found" ] || refuse "$1" "is not set"
    case "$PLACEHOLDERS" in
        *" $(printf %s "$_found" | tr '[:upper:]' '[:lower:]') "*) refuse "$1" "is a default that everybody knows" ;;
    esac
    case "$_found" in
        *[!A-Za-z0-9_.~=+/:,@%^*-]*)
            refuse "$1" "has characters other than letters, digits and _ . ~ = + / : , @ % ^ * -" ;;
    esac
    [ "${#_found}" -ge "$LEAST" ] || refuse "$1" "is shorter than $LEAST characters"
    if [ "$1" = GLEANER_FERNET_KEY ]; then
        for _key in $(printf %s "$_found" | tr , ' '); do # two while they are rotated
            case "$_key" in
                *[!A-Za-z0-9_=-]*) refuse "$1" "is no Fernet key" ;;
            esac
            [ "${#_key}" -eq 44 ] || refuse "$1" "is no Fernet key"
        done
    fi
}

refuse() {
    echo "gleaner: $1 $2; nothing is started. deploy/compose/make-secrets.sh writes good secrets into .env" >&2
    exit 1
}
