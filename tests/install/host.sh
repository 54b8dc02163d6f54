# shellcheck shell=bash
# A Debian of its own in a folder, with its own systemd or none: for installing packages as root would. To be sourced.
# Everything runs in namespaces that end with their first process, so that nothing is left mounted or running.

# host_build ROOT PACKAGE…: makes the file system, which must not exist, from the machine's own sources of packages.
host_build() {
  local root=$1 sources=/etc/apt/sources.list.d/debian.sources
  shift
  [[ ! -e $root ]] || { echo "$root exists already" >&2; return 1; }
  [[ -f $sources ]] || sources=/etc/apt/sources.list
  mmdebstrap --quiet --variant=apt --include="$(IFS=, && echo "$*")" \
    "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$root" "$sources"
}

# host_enter ROOT COMMAND…: runs a command as the first process of new namespaces in ROOT.
host_enter() {
  # shellcheck disable=SC2016
  unshare --fork --kill-child --pid --mount --uts --ipc --cgroup -- bash -euc '
    root=$1
    shift
    [[ $root == /?* && -x $root/bin/sh ]]
    mount --make-rprivate /
    mount --bind "$root" "$root"
    cd "$root"
    mount -t proc proc proc
    mount -t tmpfs tmpfs run
    mount -t tmpfs tmpfs tmp
    mount --rbind /dev dev
    mount -t sysfs -o ro sysfs sys
    mount -t tmpfs tmpfs sys/fs/cgroup
    mount -t cgroup2 none sys/fs/cgroup
    mkdir -p mnt
    pivot_root . mnt
    umount -l /mnt
    exec "$@"
  ' host "$@"
}

# host_boot ROOT: starts its systemd in the background, waits until it is up and prints its pid.
host_boot() {
  local shell pid child
  host_enter "$1" env container=test /lib/systemd/systemd --system --unit=multi-user.target \
    </dev/null >"$1.console" 2>&1 &
  shell=$!
  for _ in {1..300}; do
    # From the shell in the background down to the first process of the namespaces, which has become systemd.
    pid=$shell
    while [[ $(<"/proc/$pid/comm") != systemd ]] && child=$(pgrep --parent "$pid"); do pid=$child; done
    if [[ $(<"/proc/$pid/comm") == systemd ]] && host_run "$pid" systemctl is-system-running --quiet --wait; then
      echo "$pid"
      return
    fi
    sleep 0.1
  done 2>/dev/null
  # With unshare go all of its namespaces.
  pkill --parent "$shell" || true
  echo "its systemd did not come up:" >&2
  tail -n 20 "$1.console" >&2
  return 1
}

# host_run PID COMMAND…: runs a command beside the first process PID of a host.
host_run() {
  local pid=$1
  shift
  nsenter --target "$pid" --mount --pid --uts --ipc --cgroup --root --wd=/ -- "$@" </dev/null
}

# host_stop PID: ends a host, if it is one.
host_stop() {
  [[ $(readlink "/proc/$1/ns/pid") != "$(readlink /proc/self/ns/pid)" ]] || { echo "$1 is no host" >&2; return 1; }
  kill -KILL "$1"
}
