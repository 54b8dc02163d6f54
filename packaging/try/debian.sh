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

# Maintainer scripts ask this program whether they may start a service. An administrator's own stays.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\n# Made by %s, which removes it when it is done.\nexit 101\n' "${BASH_SOURCE[0]##*/}" >"$policy"
  chmod 755 "$policy"
fi

services() { find /etc/init.d -maxdepth 1 -type f -printf '%f\n' | sort; }

services_before=$(services)
export DEBIAN_FRONTEND=noninteractive
apt-get -q -o DPkg::Lock::Timeout=300 update
apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${missing[@]}"
comm -13 <(echo "$services_before") <(services) | while read -r service; do
  update-rc.d "$service" disable
done
