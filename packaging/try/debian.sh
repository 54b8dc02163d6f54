#!/usr/bin/env bash
# debian.sh [COMMAND=]PACKAGE…: installs the Debian packages whose COMMAND (or which themselves) are missing, without
# starting a service of theirs, now or at boot. Needs root, or sudo, when there is something to install.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

present() {
  if [[ $1 == *=* ]]; then
    command -v "${1%%=*}" >/dev/null
  else
    [[ $(dpkg-query -W -f='${Status}' "$1" 2>/dev/null || true) == *' ok installed' ]]
  fi
}

missing=()
for wanted in "$@"; do
  present "$wanted" || missing+=("${wanted#*=}")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

command -v apt-get >/dev/null || { echo "missing, and this is not Debian: ${missing[*]}" >&2; exit 1; }
if [[ $EUID -ne 0 ]]; then
  command -v sudo >/dev/null || { echo "to install ${missing[*]}, run this as root" >&2; exit 1; }
  exec sudo -- "${BASH_SOURCE[0]}" "${missing[@]}"
fi

# One at a time: whoever is done first takes the policy away.
exec 8</var/lib/dpkg
flock 8

# Maintainer scripts ask this program whether they may start a service. An administrator's own stays; ours may be left
# from a run that was killed.
policy=/usr/sbin/policy-rc.d
mark='# Made by debian.sh, which removes it when it is done.'
if [[ ! -e $policy ]] || grep -qxF "$mark" "$policy"; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
  chmod 755 "$policy"
fi

export DEBIAN_FRONTEND=noninteractive LC_ALL=C

install() { apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${missing[@]}"; }

# apt-get waits for dpkg's lock alone, not for that of the package lists, which is held while another reads them.
update() {
  local errors tries
  for ((tries = 0; tries < 60; tries++)); do
    if errors=$(apt-get -q update 2>&1 >&3); then
      return
    fi
    [[ $errors == *'Could not get lock'* ]] || break
    sleep 5
  done 3>&1
  echo "$errors" >&2
  return 1
}

# Those that have a script there, as nginx, php-fpm and uwsgi do.
services() { find /etc/init.d -maxdepth 1 -type f -printf '%f\n' | sort; }

# The links that start a unit at boot; Caddy has nothing else.
units() { find /etc/systemd/system -path '*.wants/*.service' -type l 2>/dev/null | sort; }

services_before=$(services)
units_before=$(units)
install || { update && install; }
comm -13 <(echo "$services_before") <(services) | while read -r service; do
  update-rc.d "$service" disable
done
comm -13 <(echo "$units_before") <(units) | xargs -r rm
