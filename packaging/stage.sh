# shellcheck shell=bash
# For packaging/*/build, which source it after cross/settings.sh: what all packages install.

umask 022
# A make that calls this passes its variables on, and ours has an ARCH of its own.
unset MAKEFLAGS MFLAGS ARCH

# The same files and the same date give the same bytes.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null)} ||
  die 'no date: outside a git checkout, set SOURCE_DATE_EPOCH'
export SOURCE_DATE_EPOCH

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
stage=$scratch/stage doc=$scratch/stage/usr/share/doc/pyknock

# Puts all that a package for $arch installs into $stage.
stage() {
  rm -rf "$stage"
  make --silent install "DESTDIR=$stage" PREFIX=/usr "ARCH=$arch"
  install -D -m 644 -t "$stage/usr/lib/systemd/system" packaging/systemd/pyknock.{service,socket}
  install -D -m 644 packaging/systemd/pyknock.sysusers "$stage/usr/lib/sysusers.d/pyknock.conf"
  install -D -m 644 -t "$stage/etc/pyknock" packaging/systemd/server.conf
  install -D -m 644 -t "$doc/examples" packaging/systemd/commands.conf
  install -m 644 -t "$doc" README.md packaging/debian/copyright

  # A link to a page becomes one to the compressed page.
  local page
  find "$stage/usr/share/man" -type f -exec gzip -9n {} +
  find "$stage/usr/share/man" -type l | while read -r page; do
    ln -s "$(readlink "$page").gz" "$page.gz"
    rm "$page"
  done
}
