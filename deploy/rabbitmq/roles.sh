#!/usr/bin/env bash
# Gives each role of evalfleet a user of its own at a RabbitMQ, with the least rights that it works with, and takes
# away what an earlier version gave it. May be run again at any time.
#
#   deploy/rabbitmq/roles.sh DIR
#
# DIR keeps a file with the password of each role, made up where it is missing. Each part gets the URL of its role
# alone: EVALFLEET_BROKER__URLS=amqp://evalfleet-worker:PASSWORD@HOST:5672/%2f. The topology is declared by the
# operator: evalfleet topology declare.
#
# RABBITMQCTL  how the node is reached (default: rabbitmqctl)
# VHOST        the virtual host (default: /)
set -euo pipefail

dir=${1:?"usage: $0 DIR"}
read -ra ctl <<< "${RABBITMQCTL:-rabbitmqctl}"
vhost=${VHOST:-/}

# For each role: what it may declare, what it may publish to and bind, what it may consume and bind from.
readonly ROLES=(producer worker recorder api operator)
declare -rA CONFIGURE=(
    [producer]='^eval\.client\..+$'
    [worker]='^$'
    [recorder]='^$'
    [api]='^eval\.(api|client)\..+$'
    [operator]='^eval\..*$'
)
declare -rA WRITE=(
    # Verdicts on what several jobs showed are results, too.
    [producer]='^eval\.(jobs|control|results|client\..+)$'
    [worker]='^eval\.(retry|results|events|control|dlx)$'
    [recorder]='^eval\.(dlx|results)$'
    # It submits and calls off for others, and handles dead letters: who may, its own tokens say.
    [api]='^eval\.(jobs|control|dlx|(api|client)\..+)$'
    [operator]='^eval\..*$'
)
declare -rA READ=(
    [producer]='^eval\.(client\..+|results|events|events\.log)$'
    [worker]='^eval\.(jobs\..+|control\.log)$'
    [recorder]='^eval\.(results|dead)\.recorder$'
    [api]='^eval\.((api|client)\..+|events|results|dead)$'
    [operator]='^eval\..*$'
)
# Producers hear of jobs that they can name, and not of everybody's.
readonly NAMED='^(job|eval\.client)\.[0-9a-f-]+$'

umask 077
mkdir -p "$dir"
users=$("${ctl[@]}" --quiet list_users --formatter json)
for role in "${ROLES[@]}"; do
    user=evalfleet-$role
    file=$dir/$role
    [ -s "$file" ] || head -c 24 /dev/urandom | base64 | tr '+/' '-_' > "$file"
    # By standard input, which no list of processes shows.
    if grep -q "\"$user\"" <<< "$users"; then
        "${ctl[@]}" --quiet change_password "$user" < "$file"
    else
        "${ctl[@]}" --quiet add_user "$user" < "$file"
    fi
    "${ctl[@]}" --quiet set_permissions -p "$vhost" "$user" "${CONFIGURE[$role]}" "${WRITE[$role]}" "${READ[$role]}"
    "${ctl[@]}" --quiet clear_topic_permissions -p "$vhost" "$user"
done
for exchange in eval.results eval.events; do
    "${ctl[@]}" --quiet set_topic_permissions -p "$vhost" evalfleet-producer "$exchange" '^job\.[0-9a-f-]+$' "$NAMED"
done
printf '%s\n' "users ${ROLES[*]/#/evalfleet-} have their rights on $vhost; passwords are in $dir" >&2
