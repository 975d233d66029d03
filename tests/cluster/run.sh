#!/bin/sh
# Two Enckes, one Redis, one haproxy: publishes by the balancer, kills one server after the other, restarts Redis, and looks
# whether a client that polls by the balancer gets everything once. Uses four ports from PORT (default 23100) on, or those
# of REDIS_PORT, ONE_PORT, TWO_PORT and FRONT_PORT.
#
#     tests/cluster/run.sh [target/debug/encke]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
encke=${1:-$here/../../target/debug/encke}
PATH=$PATH:/usr/sbin
port=${PORT:-23100}
redis_port=${REDIS_PORT:-$port} one=${ONE_PORT:-$((port + 1))} two=${TWO_PORT:-$((port + 2))}
front=${FRONT_PORT:-$((port + 3))}
work=$(mktemp -d)
pids=
finish() {
    for pid in $pids; do kill "$pid" 2>/dev/null || :; done
    wait 2>/dev/null || :
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM
fail() {
    echo "FAILED: $1" >&2
    cat "$work"/*.log >&2
    exit 1
}
# Waits until a command succeeds, for half a minute at most.
until_true() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || fail "waited in vain: $*"
        sleep 0.05
    done
}
start_redis() {
    (cd "$work" && exec redis-server --port "$redis_port" --bind 127.0.0.1 --appendonly yes --save '' \
        --maxmemory-policy noeviction >>redis.log 2>&1) &
    redis=$!
    pids="$pids $redis"
}
start_encke() { # port
    "$encke" serve --listen "127.0.0.1:$1" --engine-url "redis://127.0.0.1:$redis_port" --engine-name example \
        --drain-seconds 1 >>"$work/encke-$1.log" 2>&1 &
    started=$!
    pids="$pids $started"
    until_true curl -sf "http://127.0.0.1:$1/healthz"
}
url="http://127.0.0.1:$front"
# The loopback rule is for who comes without a proxy: the application publishes to the servers, not by the balancer.
publish() { # port, text
    until_true curl -sf -X POST -H "Idempotency-Key: $2" -d "$2" "http://127.0.0.1:$1/pub/news"
}

start_redis
start_encke "$one"; first=$started
start_encke "$two"; second=$started
sed "s/LISTEN/$front/; s/ONE/$one/; s/TWO/$two/" "$here/haproxy.cfg" >"$work/haproxy.cfg"
haproxy -db -f "$work/haproxy.cfg" >"$work/haproxy.log" 2>&1 &
pids="$pids $!"
until_true curl -sf "$url/healthz"
echo "two servers, one Redis, one haproxy: $url"

# A client that polls by the balancer, now here, now there, each time from where it was.
next=now seen= gaps=0
poll() {
    body=$(curl -s -m 20 "$url/sub/news?after=$next&timeout=1" -H 'Accept: application/json' -w '\n%{http_code}') || return 0
    case $body in *'
200') ;; *) return 0 ;; esac
    next=$(printf %s "$body" | sed -n 's/.*"next":"\([^"]*\)".*/\1/p')
    case $body in *'"gap":true'*) gaps=$((gaps + 1)) ;; esac
    for text in $(printf %s "$body" | grep -o '"data":"[^"]*"' | cut -d'"' -f4); do seen="$seen $text"; done
}
next=$(curl -s "$url/sub/news?as=interval&after=now" -D - -o "$work/none" | tr -d '\r' | sed -n 's/^[Ee]ncke-[Nn]ext: //p')
expect() { # texts
    tries=0
    while [ "$seen" != "$1" ]; do
        poll
        tries=$((tries + 1))
        [ $tries -lt 60 ] || fail "expected '$1', saw '$seen'"
    done
}

publish "$one" a
publish "$two" b
expect " a b"
echo "published on each, seen by the balancer in one order"

kill "$first"; wait "$first" 2>/dev/null || :
publish "$two" c
expect " a b c"
start_encke "$one"
kill -9 "$second"; wait "$second" 2>/dev/null || :
publish "$one" d
expect " a b c d"
start_encke "$two"
publish "$two" e
expect " a b c d e"
[ $gaps = 0 ] || fail "a gap, and Redis lost nothing"
echo "one server left, the other was killed: nothing is missing, nothing came twice, no gap"

kill -9 "$redis"; wait "$redis" 2>/dev/null || :
start_redis
publish "$one" f
expect " a b c d e f"
[ $gaps -gt 0 ] || fail "Redis was restarted, and nobody was told"
for each in "$one" "$two"; do until_true curl -sf "http://127.0.0.1:$each/healthz"; done
history() { curl -s "http://127.0.0.1:$1/sub/news?as=interval&after=oldest" -H 'Accept: application/json'; }
same() { [ "$(history "$one")" = "$(history "$two")" ]; }
until_true same
echo "Redis was killed and restarted: told as a gap, and both servers keep the same"
echo ok
