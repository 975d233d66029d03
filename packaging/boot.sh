#!/bin/sh
# Boots this system's systemd on a copy of it that forgets all changes, in namespaces of its own, installs a package there as
# anybody would, and uses it: start, reload, upgrade under a stream, a crash, stop. Needs root; touches nothing outside.
set -eu
script=$(readlink -f "$0")
package=$(readlink -f "$1")
[ -x /usr/lib/systemd/systemd ] && command -v curl unshare ip dpkg >/dev/null || {
	echo "test-deb: systemd, curl, unshare, ip or dpkg is missing: the unit was not run" >&2
	exit 0
}

# Inside: the root is a layer above this system's, and process 1 is a systemd that starts one job.
if [ "${2:-}" = inside ]; then
	shared=$3
	mount -t tmpfs none "$shared/layers"
	mkdir "$shared/layers/upper" "$shared/layers/work" "$shared/layers/root"
	root=$shared/layers/root
	mount -t overlay overlay -o "lowerdir=/,upperdir=$shared/layers/upper,workdir=$shared/layers/work" "$root"
	mount -t proc proc "$root/proc"
	mount -t sysfs sysfs "$root/sys"
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
	mount -t tmpfs none "$root/run"
	mount -t tmpfs none "$root/tmp"
	mount -t tmpfs none "$root/dev"
	for device in null zero full random urandom tty; do
		: >"$root/dev/$device"
		mount --bind "/dev/$device" "$root/dev/$device"
	done
	: >"$root/dev/console"
	mount --bind "$shared/console" "$root/dev/console"
	mkdir "$root/dev/shm" "$root/dev/mqueue" "$root/dev/pts"
	mount -t devpts -o newinstance,ptmxmode=0666,mode=620 none "$root/dev/pts"
	ln -s pts/ptmx "$root/dev/ptmx"
	mount --bind "$shared" "$root/srv"
	# Some systems that are containers let no package start anything.
	rm -rf "$root"/etc/systemd/system/*.wants "$root/usr/sbin/policy-rc.d"
	: >"$root/etc/machine-id"
	: >"$root/etc/fstab"
	cp "$script" "$root/etc/job.sh"
	cat >"$root/etc/systemd/system/job.service" <<-END
		[Unit]
		After=basic.target
		[Service]
		Type=oneshot
		ExecStart=/bin/sh /etc/job.sh /srv/package.deb job
		StandardOutput=file:/srv/output
		StandardError=file:/srv/output
	END
	cat >"$root/etc/systemd/system/job.target" <<-END
		[Unit]
		Requires=basic.target
		Wants=job.service
		After=basic.target
	END
	# There is no journal.
	mkdir "$root/etc/systemd/system/encke.service.d"
	printf '[Service]\nStandardError=append:/srv/encke.log\n' >"$root/etc/systemd/system/encke.service.d/log.conf"
	ip link set lo up
	# Not only chroot: systemd makes roots of its own for sandboxed services, below this one.
	mkdir "$root/before"
	cd "$root"
	pivot_root . before
	umount --lazy /before
	container=other exec /usr/lib/systemd/systemd --unit=job.target --log-target=console >>/srv/console 2>&1
fi

# There: what somebody does who installs it.
if [ "${2:-}" = job ]; then
	trap 'systemctl --no-block exit' EXIT
	set -x
	url=http://127.0.0.1:8080
	pid() { systemctl show --property=MainPID --value encke; }
	healthy() { curl --silent --fail --retry 50 --retry-delay 0 --retry-all-errors "$url/healthz"; }
	DEBIAN_FRONTEND=noninteractive dpkg -i --force-depends /srv/package.deb
	systemctl start encke || { systemctl status --no-pager --full encke; false; }
	systemctl is-active encke
	healthy
	# What limits memory is known, however little of /proc is shown.
	! grep -q ' 0 MiB of memory' /srv/encke.log
	[ "$(ps -o user= -p "$(pid)")" = encke ]
	first=$(pid)
	curl --silent --no-buffer "$url/sub/test?as=stream" >/tmp/stream &
	listener=$!
	until [ -s /tmp/stream ]; do sleep 0.1; done
	encke pub test one
	systemctl reload encke
	[ "$(pid)" = "$first" ]
	# The next version: what runs hands over to it.
	dpkg-deb -R /srv/package.deb /tmp/next
	sed -i 's/^Version: .*/&.1/' /tmp/next/DEBIAN/control
	dpkg-deb -b /tmp/next /tmp/next.deb
	dpkg -i --force-depends /tmp/next.deb
	until [ "$(pid)" != "$first" ]; do sleep 0.1; done
	systemctl is-active encke
	encke pub test two
	until grep -q two /tmp/stream; do sleep 0.1; done
	grep -q one /tmp/stream
	kill -0 $listener
	# Who dies is started again.
	second=$(pid)
	kill -KILL "$second"
	until [ "$(pid)" != "$second" ] && [ "$(pid)" != 0 ] && systemctl is-active --quiet encke; do sleep 0.1; done
	healthy
	systemctl stop encke
	[ "$(systemctl show --property=Result --value encke)" = success ]
	[ "$(systemctl is-active encke || true)" = inactive ]
	# Who is removed does not go on.
	systemctl start encke || { systemctl status --no-pager --full encke; false; }
	dpkg -r encke
	! pgrep -x encke
	: >/srv/done
	exit 0
fi

shared=$(mktemp -d)
trap 'rm -rf "$shared"' EXIT
mkdir "$shared/layers"
: >"$shared/console"
cp "$package" "$shared/package.deb"
timeout 60 unshare --mount --pid --fork --uts --ipc --net --cgroup --kill-child \
	sh "$script" "$package" inside "$shared" || true
[ -e "$shared/done" ] || {
	tail -30 "$shared/console" >&2
	cat "$shared/output" "$shared/encke.log" >&2 || true
	echo "test-deb: the package does not do under systemd what it should" >&2
	exit 1
}
echo "test-deb: ok under systemd"
