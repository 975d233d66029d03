#!/bin/sh
# Unpacks a package into a throw-away root and uses what is in it, as far as that goes without installing it.
set -eu
package=$1
root=$(mktemp -d)
server=
cleanup() {
	[ -z "$server" ] || kill "$server" 2>/dev/null || true
	rm -rf "$root"
}
trap cleanup EXIT
fail() {
	echo "test-deb: $*" >&2
	exit 1
}

dpkg -x "$package" "$root"
dpkg -e "$package" "$root/DEBIAN"
for file in usr/bin/encke etc/encke/encke.toml usr/lib/sysusers.d/encke.conf \
	usr/share/man/man1/encke.1.gz usr/share/man/man1/encke-serve.1.gz \
	usr/share/bash-completion/completions/encke usr/share/zsh/vendor-completions/_encke \
	usr/share/fish/vendor_completions.d/encke.fish; do
	[ -s "$root/$file" ] || fail "$file is missing"
done
unit=$(find "$root" -name encke.service)
[ -n "$unit" ] || fail "the unit is missing"
grep -q 'systemd-sysusers.* encke.conf' "$root/DEBIAN/postinst" || fail "nobody makes the user"
! grep -q 'systemd-sysusers.* sysusers.conf' "$root/DEBIAN/postinst" || fail "it asks for a file that is not there"
! grep -q 'deb-systemd-invoke.*restart' "$root/DEBIAN/postinst" || fail "an upgrade would disconnect everybody"
grep -q 'deb-systemd-invoke reload encke.service' "$root/DEBIAN/postinst" || fail "an upgrade would change nothing that runs"
grep -qx /etc/encke/encke.toml "$root/DEBIAN/conffiles" || fail "an upgrade would overwrite the settings"

# The unit, with the paths of the throw-away root.
sed "s,/usr/bin/,$root/usr/bin/," "$unit" >"$root/encke.service"
sed -i '/^Documentation=/d' "$root/encke.service"
if command -v systemd-analyze >/dev/null; then
	systemd-analyze verify "$root/encke.service" || fail "the unit is wrong"
	systemd-analyze security --offline=yes --threshold=30 "$root/encke.service" >/dev/null ||
		fail "the unit allows more than it should: systemd-analyze security --offline=yes $unit"
	systemd-sysusers --root="$root" "$root/usr/lib/sysusers.d/encke.conf" &&
		grep -q '^encke:' "$root/etc/passwd" || fail "the user is not made"
fi
if command -v man >/dev/null; then
	man -l "$root/usr/share/man/man1/encke-pub.1.gz" >/dev/null || fail "a manual page cannot be read"
fi
sh -n "$root/usr/share/bash-completion/completions/encke" 2>/dev/null ||
	bash -n "$root/usr/share/bash-completion/completions/encke" || fail "the completion is no shell script"

# The program, with the settings that come along, on another port.
encke=$root/usr/bin/encke
"$encke" --version
"$encke" config --check "$root/etc/encke/encke.toml"
"$encke" serve --config "$root/etc/encke/encke.toml" --listen 127.0.0.1:0 --pid-file "$root/pid" 2>"$root/log" &
server=$!
for _ in $(seq 100); do
	address=$(sed -n 's/.*\] listening on //p' "$root/log")
	[ -z "$address" ] || break
	sleep 0.1
done
[ -n "$address" ] || { cat "$root/log"; fail "it does not start"; }
"$encke" pub --url "http://$address" test/deb hello
[ "$("$encke" sub --url "http://$address" --after oldest --count 1 test/deb)" = hello ] || fail "the message does not come"
"$encke" reload --config "$root/etc/encke/encke.toml" --pid-file "$root/pid"
kill "$server"
wait "$server" || fail "it does not leave in order"
server=
echo "test-deb: ok"
