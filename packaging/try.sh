#!/usr/bin/env bash
# Try preforkd: a real Django site in a pool of workers, behind a real nginx.
#
#   packaging/try.sh            build, set up, start; Ctrl-C stops
#   packaging/try.sh --check    the same, but ask for the pages, log in, stop; the exit status tells
#
# Run it as root, with sudo, or as yourself (then only missing Debian packages ask for sudo).
# All it makes lies in PREFORKD_TRY_DIR (/tmp/preforkd-try unless set), besides cargo's target folder
# and Debian packages that were missing. The first free port from PREFORKD_TRY_PORT (8080) on is used,
# on 127.0.0.1 alone. The system's own nginx is neither used nor changed nor started.
set -euo pipefail
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=${here%/*}
state=${PREFORKD_TRY_DIR:-/tmp/preforkd-try}
first_port=${PREFORKD_TRY_PORT:-8080}
check=no
preforkd_pid=
nginx_pid=

say() { printf '%s\n' "$*" >&2; }
die() { say "try.sh: $*"; exit 1; }

case $#:${1-} in
  0:) ;;
  1:--check) check=yes ;;
  1:-h | 1:--help) sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
  *) say "usage: packaging/try.sh [--check]"; exit 64 ;;
esac

# The pool's user. As root the workers must be somebody else; anybody else can only be themselves.
if [[ $EUID -eq 0 ]]; then
  user=www-data group=www-data
else
  user=$(id -un) group=$(id -gn)
fi

as_pool_user() {
  if [[ $EUID -eq 0 ]]; then
    setpriv --reuid="$user" --regid="$group" --init-groups -- "$@"
  else
    "$@"
  fi
}

# The folder may lie in /tmp, where others can make one of the same name first.
make_state() {
  [[ $state == /* ]] || die "PREFORKD_TRY_DIR must be an absolute path, not '$state'"
  [[ $state =~ ^[A-Za-z0-9/._-]+$ ]] || die "PREFORKD_TRY_DIR may hold letters, digits and / . _ - only, not '$state'"
  mkdir -p "$state"
  [[ -d $state && ! -L $state && -O $state ]] || die "$state is not a folder of yours; set PREFORKD_TRY_DIR to another"
  chmod 755 "$state"
  exec 9>"$state/lock"
  flock -n 9 || die "another try.sh runs with $state; stop it first, or set PREFORKD_TRY_DIR to another folder"
  mkdir -p "$state"/{run,log,nginx,var}
  chmod 700 "$state/var"
  [[ $EUID -ne 0 ]] || chown "$user:$group" "$state/var"
}

# A copy that was killed outright leaves its processes behind; they are known by pid file and command line.
stop_leftovers() {
  local file pid
  for file in "$state"/run/preforkd.pid "$state"/run/nginx.pid; do
    [[ -s $file ]] || continue
    pid=$(<"$file")
    if [[ $pid =~ ^[0-9]+$ ]] && grep -aqsF "$state/" "/proc/$pid/cmdline"; then
      say "Stopping process $pid, left from an earlier run"
      kill -TERM "$pid"
      gone "$pid" 10 || kill -KILL "$pid"
    fi
    rm -f "$file"
  done
}

# Waits for the end of process $1, at most $2 seconds.
gone() {
  local deadline=$((SECONDS + $2))
  while kill -0 "$1" 2>/dev/null; do
    [[ $SECONDS -lt $deadline ]] || return 1
    sleep 0.1
  done
}

set_up_site() {
  local manage=(
    env -C "$state/site" PYTHONDONTWRITEBYTECODE=1 TOUR_STATE="$state/var" TOUR_STATIC="$state/static"
    "$state/venv/bin/python3" manage.py
  )
  rm -rf "$state/site"
  cp -R "$here/try/site" "$state/site"
  "$state/venv/bin/python3" -m compileall -q "$state/site"
  if [[ ! -s $state/password ]]; then
    (umask 077 && "$state/venv/bin/python3" -c 'import secrets; print(secrets.token_urlsafe(9))' >"$state/password")
  fi
  password=$(<"$state/password")
  # First as the pool's user, whose own the database and the secret key must be.
  TOUR_PASSWORD=$password as_pool_user "${manage[@]}" prepare
  "${manage[@]}" collectstatic --noinput --verbosity 0
}

free_port() {
  local port
  for ((port = first_port; port < first_port + 100; port++)); do
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
  die "no free port from $first_port to $((first_port + 99)); set PREFORKD_TRY_PORT"
}

configure() {
  local name
  for name in preforkd nginx; do
    sed -e "s|@STATE@|$state|g" -e "s|@USER@|$user|g" -e "s|@GROUP@|$group|g" -e "s|@PORT@|$port|g" \
      "$here/try/$name.conf.in" >"$state/$name.conf"
  done
  # Only root's nginx can change its user; another warns.
  [[ $EUID -eq 0 ]] || sed -i '/^user /d' "$state/nginx.conf"
  "$preforkd" -t -y "$state/preforkd.conf" 2>"$state/log/test.log" || { cat "$state/log/test.log" >&2; die "the configuration is wrong"; }
  nginx -q -t -e "$state/log/nginx.log" -p "$state/nginx/" -c "$state/nginx.conf"
}

# Sessions of their own, so that Ctrl-C reaches this script alone, which stops both in order.
start() {
  : >"$state/log/preforkd.log"
  : >"$state/log/nginx.log"
  setsid "$preforkd" -F -y "$state/preforkd.conf" 2>>"$state/log/preforkd.log" </dev/null 9>&- &
  preforkd_pid=$!
  until_up grep -q 'ready to handle connections' "$state/log/preforkd.log"
  setsid nginx -e "$state/log/nginx.log" -p "$state/nginx/" -c "$state/nginx.conf" -g 'daemon off;' </dev/null 9>&- &
  nginx_pid=$!
  until_up curl -fsS -o /dev/null -m 10 "$address/worker" 2>/dev/null
}

# Tries the command until it succeeds, for a minute, while what was started runs.
until_up() {
  local deadline=$((SECONDS + 60)) pid
  until "$@"; do
    for pid in $preforkd_pid $nginx_pid; do
      kill -0 "$pid" 2>/dev/null || { show_logs; die "the site did not come up: process $pid has ended"; }
    done
    [[ $SECONDS -lt $deadline ]] || { show_logs; die "the site did not come up within a minute"; }
    sleep 0.1
  done
}

show_logs() {
  say "--- the end of $state/log/preforkd.log:"
  tail -n 40 "$state/log/preforkd.log" >&2
  say "--- the end of $state/log/nginx.log:"
  tail -n 20 "$state/log/nginx.log" >&2
}

# nginx first: what it has taken in is still answered by the pool.
stop() {
  local pid status=0
  for pid in $nginx_pid $preforkd_pid; do
    kill -QUIT "$pid" 2>/dev/null || true
    gone "$pid" 10 || { kill -TERM "$pid"; gone "$pid" 10; } || { kill -KILL "$pid"; status=1; }
    wait "$pid" || status=1
  done
  nginx_pid='' preforkd_pid=''
  return $status
}

on_exit() {
  local status=$?
  trap - EXIT INT TERM HUP
  stop || true
  exit "$status"
}

main() {
  "$here/try/debian.sh" nginx=nginx-light curl=curl ps=procps cc=gcc libc6-dev
  PATH=$PATH:/usr/sbin

  say "Building preforkd"
  cd "$root"
  "$here/try/rust.sh" cargo build --release --locked
  preforkd=$("$here/try/rust.sh" cargo metadata --locked --no-deps --format-version 1 |
    sed 's|.*"target_directory":"\([^"]*\)".*|\1/release/preforkd|')

  make_state
  stop_leftovers
  say "Making the Django site in $state"
  "$here/try/venv.sh" "$state/venv" "$user"
  set_up_site

  port=$(free_port)
  address=http://127.0.0.1:$port
  configure
  trap on_exit EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  start

  if [[ $check == yes ]]; then
    if ! "$here/try/check.sh" "$address" "$password"; then
      show_logs
      die "the check failed"
    fi
    stop || die "preforkd or nginx did not stop as asked; see $state/log"
    say "The site works."
    return
  fi

  cat <<TEXT

The site:          $address/
Log in as:         demo, password $password
Watch the workers: watch -n 0.5 ps -o pid,etimes,rss,args --ppid $preforkd_pid
                   or in the browser: $address/workers/
Give them work:    seq 50 | xargs -P 50 -I{} curl -s '$address/slow?ms=500'
The log:           tail -f $state/log/preforkd.log
The configuration: $state/preforkd.conf, $state/nginx.conf

Ctrl-C stops both.
TEXT
  trap 'say ""; say "Stopping"; exit 0' INT
  wait -n "$preforkd_pid" "$nginx_pid" || true
  show_logs
  die "preforkd or nginx ended by itself"
}

main
