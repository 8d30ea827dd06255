#!/bin/sh
# on_host.sh COMMAND [FROM TO]     one host's part of a Debian upgrade; FROM and TO are codenames. As root.
#
#   state              what runs here, a line `key=value` each
#   look FROM TO       what the upgrade would fetch, take and remove, as apt says it; changes nothing but a folder of its own
#   download FROM TO   fetch all of it, so that the upgrade itself waits for no network
#   start FROM TO HOW  begin the upgrade as a unit of systemd, which outlives whoever asked for it
#   work FROM TO HOW   what that unit does; it may be run again wherever it was interrupted
#   reboot             in a moment, so that this command can still answer; the application waits for its deployment
#   tidy               what settles an upgrade: remove what the former release left and nobody needs
#
# HOW: `durable`, or `shared-disk`, where dpkg does not wait for each file to lie on the disk: machines of a lab share one, and
# the others' commits would wait with it. They share processors too, so that the work takes what the others leave.
#
# `siasops/upgrade/hosts.py` sends it to sh's standard input. It is read whole before its last line runs, so that a command
# that reads standard input cannot eat the rest.
set -eu
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive APT_LISTCHANGES_FRONTEND=none UCF_FORCE_CONFFOLD=1
export NEEDRESTART_SUSPEND=1 NEEDRESTART_MODE=l
home=/var/lib/sias-debian
unit=sias-debian-upgrade
policy=/usr/sbin/policy-rc.d
io=
# What is done while the host serves takes what its users leave.
idle="nice -n 19 ionice -c 3"

# The same mirrors with the other codename. What roles took from another release is theirs to name again afterwards.
rewrite() { # FROM TO FILE
  sed -i -E ":again; s/(^|[^a-z])$1([^a-z]|\$)/\\1$2\\2/; t again" "$3"
}

ours() { # every source of this host but the roles'
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    case $file in */sias-*) ;; *) [ ! -f "$file" ] || echo "$file" ;; esac
  done
}

elsewhere() { # options with which apt sees the other release, and this host's own lists and caches stay as they are
  rm -rf "$home/sources"
  mkdir -p "$home/sources/parts" "$home/lists/partial"
  : >"$home/sources/sources.list"
  for file in $(ours); do
    copy=$home/sources/parts/${file##*/}
    [ "$file" != /etc/apt/sources.list ] || copy=$home/sources/sources.list
    cp "$file" "$copy"
    rewrite "$1" "$2" "$copy"
  done
  echo "-o Dir::Etc::SourceList=$home/sources/sources.list -o Dir::Etc::SourceParts=$home/sources/parts" \
    "-o Dir::Etc::PreferencesParts=/dev/null -o Dir::State::Lists=$home/lists" \
    "-o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache="
}

state() {
  . /etc/os-release
  echo "debian=$VERSION_ID"
  # Containers share the kernel's boot with their machine: their first process tells when they were started.
  echo "boot=$(cat /proc/sys/kernel/random/boot_id):$(sed 's/.*) //' /proc/1/stat | cut -d ' ' -f 20)"
  echo "audit=$(dpkg --audit | head -n 3 | tr '\n' ' ')"
  echo "held=$(apt-mark showhold | tr '\n' ' ')"
  echo "free=$(df -Pk / | awk 'END { print $4 }')"
  echo "free_boot=$(df -Pk /boot | awk 'END { print $4 }')"
  echo "kernel=$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' 'linux-image-*' 2>/dev/null | grep -c '^ii' || :)"
  apt-get indextargets --format '$(SOURCESENTRY)|$(RELEASE)|$(ORIGIN)' 'Created-By: Packages' |
    sed -n '/^[^|]*[/]sias-/d; s/^[^|]*|/source=/p'
  echo "unit=$(systemctl is-active "$unit" 2>/dev/null || :)"
  echo "result=$(cat "$home/result" 2>/dev/null || :)"
  echo "said=$(tail -n 1 "$home/log" 2>/dev/null | tr -d '\r' | cut -c 1-160 || :)"
}

look() {
  options=$(elsewhere "$1" "$2")
  # shellcheck disable=SC2086 # options are words
  $idle apt-get $options -qq update >&2
  # It answers "Abort." and 1 when it would do something.
  # shellcheck disable=SC2086
  $idle apt-get $options --assume-no --no-install-recommends full-upgrade || :
}

download() {
  options=$(elsewhere "$1" "$2")
  # shellcheck disable=SC2086
  $idle apt-get $options -qq update
  # shellcheck disable=SC2086
  $idle apt-get $options -qq -y --download-only --no-install-recommends full-upgrade
}

start() {
  if systemctl is-active --quiet "$unit"; then
    return
  fi
  systemctl reset-failed "$unit" 2>/dev/null || :
  echo begun >"$home/result"
  nice=0
  [ "$3" != shared-disk ] || nice=19
  systemd-run --quiet --unit="$unit" --description="Debian upgrade to $2" --property=Type=exec \
    --property=OOMScoreAdjust=-900 --property="Nice=$nice" /bin/sh "$home/on_host.sh" work "$1" "$2" "$3"
}

# Nothing that serves is started before the host has been rebooted into its new release.
hold_services() {
  if [ -e "$policy" ] && ! grep -q sias-debian-upgrade "$policy"; then
    mv "$policy" "$home/policy-rc.d"
  fi
  cat >"$policy" <<'POLICY'
#!/bin/sh
# sias-debian-upgrade: only what this host is reached and run by.
while [ $# -gt 0 ]; do
  case $1 in --*) shift ;; *) break ;; esac
done
case ${1:-} in ssh | ssh.* | sshd | dbus | dbus.* | systemd*) exit 0 ;; esac
exit 101
POLICY
  chmod 755 "$policy"
}

let_services() {
  rm -f "$policy"
  [ ! -e "$home/policy-rc.d" ] || mv "$home/policy-rc.d" "$policy"
}

apt() {
  # shellcheck disable=SC2086 # options are words
  apt-get $io -y --no-install-recommends -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold \
    -o Dpkg::Options::=--force-confdef -o DPkg::Lock::Timeout=300 "$@"
}

work() {
  exec >>"$home/log" 2>&1 </dev/null
  trap 'echo failed >"$home/result"' EXIT
  [ "$3" != shared-disk ] || io="-o Dpkg::Options::=--force-unsafe-io"
  date -Is
  hold_services
  dpkg --configure -a --force-confold --force-confdef
  rm -f /etc/apt/sources.list.d/sias-* /etc/apt/preferences.d/sias-*
  for file in $(ours); do rewrite "$1" "$2" "$file"; done
  apt update
  apt --fix-broken install
  # Debian's release notes: what needs nothing new comes first.
  apt --without-new-pkgs upgrade
  apt full-upgrade
  [ -z "$(dpkg --audit)" ]
  grep -q "^VERSION_CODENAME=$2\$" /etc/os-release
  configured
  let_services
  trap - EXIT
  echo "done" >"$home/result"
}

# The new programs must accept the configuration that they will be started with, before the host is rebooted into it.
configured() {
  if [ -e /etc/haproxy/haproxy.cfg ]; then
    haproxy -c -q -f /etc/haproxy/haproxy.cfg
  fi
  if [ -e /etc/keepalived/keepalived.conf ]; then
    # keepalived 2.2.7 ends the test of a VRRP instance by SIGTERM (143), right or wrong: then what it said decides.
    rm -f "$home/keepalived"
    code=0
    keepalived --config-test="$home/keepalived" --use-file /etc/keepalived/keepalived.conf >/dev/null 2>&1 || code=$?
    cat "$home/keepalived" 2>/dev/null || :
    [ "$code" = 0 ] || { [ "$code" = 143 ] && [ ! -s "$home/keepalived" ]; }
  fi
}

tidy() {
  apt autoremove --purge </dev/null
  apt-get clean
  rm -rf "$home/sources" "$home/lists"
}

main() {
  command=$1
  shift
  mkdir -p "$home"
  case $command in
    state | look | download | start | work | tidy) "$command" "$@" ;;
    reboot)
      # The deployment starts the application, on the new Python; the boot would do so on the former one, for nobody.
      systemctl --quiet disable sias-web.service sias-worker.service 2>/dev/null || :
      systemd-run --quiet --on-active=1 systemctl reboot
      ;;
    *) echo "on_host.sh: no such command: $command" >&2 && return 2 ;;
  esac
}

main "$@"
