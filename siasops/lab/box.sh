#!/bin/sh
# box.sh SUITE OUT.box: a bare Debian as a Vagrant box for LXC.
#
# A box is a tar of metadata.json, lxc-config and rootfs.tar.gz. Mirrors are those that this machine's own apt uses.
# The box is built beside OUT and renamed when it is whole: an interrupted build leaves nothing that could be taken
# for a box.
set -eu
suite=$1
out=$2

mirror() { # the first mirror that this machine's apt uses for a kind of archive: debian or debian-security
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | sed 's|/*$||' | grep -E "/$1\$" | head -n 1
}
main=$(mirror debian)
security=$(mirror debian-security)
: "${main:?this machine has no Debian mirror in its apt sources}"
: "${security:=${main}-security}"
key=$(ls /usr/share/rubygems-integration/all/gems/vagrant-*/keys/vagrant.pub | tail -n 1)

work=$(mktemp -d "${out%/*}/.box.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
chmod 755 "$work"

cat >"$work/sources" <<S
deb $main $suite main
deb $main $suite-updates main
deb $security $suite-security main
S

cat >"$work/customize" <<'C'
#!/bin/sh
set -eu
root=$1
chroot "$root" useradd -m -s /bin/bash vagrant
install -d -m 700 "$root/home/vagrant/.ssh"
install -m 600 "$KEY" "$root/home/vagrant/.ssh/authorized_keys" # Vagrant replaces it at first start
chroot "$root" chown -R vagrant:vagrant /home/vagrant/.ssh
echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/vagrant"
chmod 440 "$root/etc/sudoers.d/vagrant"
rm -f "$root"/etc/ssh/ssh_host_* # made at first start, never shipped in a box
mkdir -p "$root/etc/systemd/system/ssh.service.d"
printf '[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\nExecStartPre=/usr/sbin/sshd -t\n' \
  >"$root/etc/systemd/system/ssh.service.d/10-hostkeys.conf"
printf 'UseDNS no\n' >"$root/etc/ssh/sshd_config.d/10-lab.conf"
# The address comes from lxc: nothing in the guest may touch eth0.
chroot "$root" systemctl mask systemd-networkd.service systemd-networkd.socket systemd-networkd-wait-online.service >/dev/null 2>&1
: >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id" "$root/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >"$root/etc/hosts"
echo 'LANG=C.UTF-8' >"$root/etc/default/locale" # else initdb makes SQL_ASCII clusters
rm -f "$root/etc/resolv.conf"
: >"$root/etc/resolv.conf" # a dead name server would make sudo wait 12 s
rm -f "$root"/etc/apt/sources.list.d/*
printf '%s\n' "$SOURCES" >"$root/etc/apt/sources.list"
# A lab is rebuilt, not repaired: unpacking packages need not wait for the disk.
echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/10-lab"
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
C
chmod 755 "$work/customize"

KEY=$key SOURCES=$(cat "$work/sources") mmdebstrap --quiet --mode=root --variant=minbase --arch="$(dpkg --print-architecture)" \
  ${SIAS_APT_PROXY:+--aptopt="Acquire::http::Proxy \"$SIAS_APT_PROXY\""} \
  --include=systemd,systemd-sysv,dbus,libpam-systemd,openssh-server,sudo,python3,python3-apt,python3-venv,ca-certificates \
  --include=iproute2,iputils-ping,procps,less,netbase,libnss-myhostname,nftables,rsync,openssl,zstd \
  --skip=cleanup/apt/lists \
  --dpkgopt=force-unsafe-io \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --customize-hook="$work/customize" \
  "$suite" "$work/rootfs.tar" "$work/sources"
gzip -1 "$work/rootfs.tar"

cat >"$work/metadata.json" <<M
{"provider":"lxc","version":"1.0.0","template-opts":{"--strip-components":"1"}}
M
cat >"$work/lxc-config" <<L
lxc.include = /usr/share/lxc/config/common.conf
lxc.apparmor.profile = unconfined
L
tar -C "$work" -cf "$work/box" metadata.json lxc-config rootfs.tar.gz
mv "$work/box" "$out"
