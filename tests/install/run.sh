#!/usr/bin/env bash
# Installs the Debian package on a Debian of its own, under a systemd of its own and then with the init script alone:
# starts, reloads, upgrades under load, rotates logs, removes, purges. Needs root.
set -euo pipefail
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
. tests/install/host.sh
[[ $EUID -eq 0 ]] || { echo "to install packages, run this as root" >&2; exit 1; }

scratch=$(mktemp -d)
pid=
finish() {
  [[ -z $pid ]] || host_stop "$pid" || true
  rm -rf --one-file-system "$scratch"
}
trap finish EXIT

step() { printf -- '-- %s\n' "$*"; }

fail() {
  echo "failed: $*" >&2
  [[ -z $pid ]] || host_run "$pid" journalctl --no-pager --unit preforkd --lines 40 >&2 || true
  exit 1
}

# until_true SECONDS COMMAND…
until_true() {
  local tries=$(($1 * 10))
  shift
  while ! "$@" >/dev/null 2>&1; do
    ((tries-- > 0)) || return 1
    sleep 0.1
  done
}

run() { host_run "$pid" "$@"; }
logged() { run journalctl --no-pager --quiet --unit preforkd --output cat | grep -qF -- "$1"; }
main_pid() { run systemctl show --value --property MainPID preforkd; }
# The built-in page of the first pool.
ask() {
  env -i REQUEST_METHOD=GET SCRIPT_NAME=/ REQUEST_URI=/ SERVER_PROTOCOL=HTTP/1.1 \
    nsenter --target "$pid" --mount --root --wd=/ -- /usr/bin/cgi-fcgi -bind -connect /run/preforkd-hello.sock </dev/null
}
answers() { ask | grep -q 'preforkd'; }

step "The package"
package=$(packaging/deb/build.sh --output "$scratch/preforkd_1.deb")
# The same once more, under a higher version.
dpkg-deb --raw-extract "$package" "$scratch/next"
sed -i 's/^Version: .*/&+next/' "$scratch/next/DEBIAN/control"
dpkg-deb --root-owner-group --build "$scratch/next" "$scratch/preforkd_2.deb" >/dev/null

step "A Debian of its own"
root=$scratch/root
host_build "$root" systemd systemd-sysv sysvinit-utils dbus logrotate libfcgi-bin init-system-helpers
find "$root/etc" "$root/usr" -xdev | sort >"$scratch/before"
cp "$scratch"/preforkd_?.deb "$root/srv/"

step "Installed under systemd"
pid=$(host_boot "$root")
run dpkg --install /srv/preforkd_1.deb >"$scratch/dpkg.log" 2>&1 || { cat "$scratch/dpkg.log" >&2; fail "dpkg --install"; }
until_true 10 run systemctl is-active preforkd || fail "the service is not active"
run systemctl is-enabled --quiet preforkd || fail "it is not enabled"
answers || fail "the first pool does not answer"
for guide in configuration status; do
  run test -s "/usr/share/doc/preforkd/$guide.md" || fail "no $guide.md"
done
first=$(main_pid)
[[ $(run cat "/proc/$first/cmdline" | tr '\0' ' ') == "preforkd: master process (/etc/preforkd/preforkd.conf)"* ]] || fail "its title"

step "Its sandbox"
figure=$(run systemd-analyze security --no-pager preforkd.service | sed -n 's/.*Overall exposure level for preforkd.service: \([0-9.]*\).*/\1/p')
grep -qF "systemd-analyze security: $figure (" packaging/systemd/preforkd.service ||
  fail "the head of the unit says another figure than $figure"

step "Reloaded"
run systemctl reload preforkd || fail "reload"
logged "generation 2 has taken over" || fail "a reload that is over has not been one"
[[ $(main_pid) == "$first" ]] || fail "another master"
run preforkd reload hello >"$scratch/reload" || fail "preforkd reload"
grep -qx '\[pool hello\] generation 3 has taken over' "$scratch/reload" || fail "$(<"$scratch/reload")"
echo "nonsense = 1" >>"$root/etc/preforkd/preforkd.conf"
! run systemctl reload preforkd 2>/dev/null || fail "a mistake was not noticed"
sed -i '$d' "$root/etc/preforkd/preforkd.conf"
# What only the new workers can find out is noticed as well.
printf '[broken]\nlisten = /run/preforkd/broken.sock\nuser = www-data\npm = static\npm.max_children = 1\npython = /bin/false\nwsgi = broken\n' \
  >"$root/etc/preforkd/conf.d/broken.conf"
! run systemctl reload preforkd 2>/dev/null || fail "an application that cannot start was not noticed"
logged "[pool broken] generation 1 cannot start: " || fail "no reason for it"
rm "$root/etc/preforkd/conf.d/broken.conf"
# The library that makes a program a mold is where the daemon looks for it, and can be loaded there.
printf '[forked]\nlisten = /run/preforkd/forked.sock\nuser = www-data\npm = static\npm.max_children = 1\nexec = "/usr/bin/perl -e %s"\nexec.mold = yes\n' \
  "'accept(C, STDIN) while 1'" >"$root/etc/preforkd/conf.d/forked.conf"
run systemctl reload preforkd || fail "reload with a program"
logged "[pool forked] mold " || fail "the program has no mold"
rm "$root/etc/preforkd/conf.d/forked.conf"
run systemctl is-active --quiet preforkd || fail "not active after reloads that failed"
answers || fail "the pool does not answer after reloads that failed"

step "Upgraded under load"
: >"$scratch/asked"
while [[ -e $scratch/asked ]]; do
  if answers; then echo served; else echo lost; fi
done >"$scratch/load" &
load=$!
run dpkg --install /srv/preforkd_2.deb >"$scratch/dpkg.log" 2>&1 || { cat "$scratch/dpkg.log" >&2; fail "the upgrade"; }
until_true 10 logged "reloading: execvp(" || fail "the new program did not take over"
until_true 10 logged "using inherited socket" || fail "the new program did not come up"
sleep 0.5
rm "$scratch/asked"
wait "$load"
! grep -q lost "$scratch/load" || fail "$(grep -c lost "$scratch/load") of $(wc -l <"$scratch/load") requests lost"
grep -q served "$scratch/load" || fail "nobody asked"
[[ $(main_pid) == "$first" ]] || fail "another master after the upgrade"
until_true 5 run systemctl is-active preforkd || fail "not active after the upgrade"

step "Logs rotated"
run logrotate --force /etc/logrotate.d/preforkd || fail "logrotate"

step "Stopped, removed, purged"
run systemctl stop preforkd
logged "exiting, bye-bye!" || fail "it did not finish"
run systemctl start preforkd
answers || fail "it does not answer after a restart"
run dpkg --remove preforkd >/dev/null 2>&1 || fail "dpkg --remove"
run dpkg --install /srv/preforkd_1.deb >/dev/null 2>&1 || fail "installing it again"
answers || fail "it does not answer when it was removed and installed again"
run dpkg --purge preforkd >/dev/null 2>&1 || fail "dpkg --purge"
! run sh -c 'cat /proc/[0-9]*/comm' 2>/dev/null | grep -qx preforkd || fail "a process is left"
host_stop "$pid"
pid=
{
  find "$root" -xdev -name '*preforkd*' ! -path "$root/srv/*"
  find "$root/etc" "$root/usr" -xdev | sort | comm -13 "$scratch/before" - | grep -vE '/etc/(\.updated|\.pwd\.lock|machine-id|resolv.conf|rc.\.d/\.depend.*)$'
} >"$scratch/left" || true
[[ ! -s $scratch/left ]] || fail "left behind: $(<"$scratch/left")"

step "With the init script alone"
cat >"$root/srv/init-test" <<'INIT'
set -eu
dpkg --install /srv/preforkd_1.deb >/dev/null 2>&1
service=/etc/init.d/preforkd
asked() { REQUEST_METHOD=GET SCRIPT_NAME=/ REQUEST_URI=/ cgi-fcgi -bind -connect /run/preforkd-hello.sock </dev/null | grep -q preforkd; }
"$service" start && "$service" status >/dev/null && asked
"$service" start
"$service" configtest
"$service" reload && asked
pid=$(cat /run/preforkd/preforkd.pid)
echo "nonsense = 1" >>/etc/preforkd/preforkd.conf
! "$service" configtest 2>/dev/null
! "$service" restart 2>/dev/null
! "$service" reload 2>/dev/null
[ "$(cat /run/preforkd/preforkd.pid)" = "$pid" ] && asked
sed -i '$d' /etc/preforkd/preforkd.conf
"$service" restart && asked
[ "$(cat /run/preforkd/preforkd.pid)" != "$pid" ]
"$service" stop
if "$service" status >/dev/null; then exit 1; else [ $? -eq 3 ]; fi
"$service" stop
dpkg --purge preforkd >/dev/null 2>&1
[ ! -e /run/preforkd ] && [ ! -e /etc/preforkd ] && [ ! -e /var/log/preforkd ]
echo all done
INIT
host_enter "$root" sh /srv/init-test >"$scratch/init.log" 2>&1 || { cat "$scratch/init.log" >&2; fail "the init script"; }
tail -n 1 "$scratch/init.log" | grep -qx "all done" || { cat "$scratch/init.log" >&2; fail "the init script"; }
echo "installed, reloaded, upgraded, removed: all well"
