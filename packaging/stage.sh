# shellcheck shell=bash disable=SC2154 # cross/settings.sh sets $file and $arch.
# What all packages share. packaging/*/build source it after cross/settings.sh.

umask 022

# The bytes of a package depend only on its files and on this date.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null)} ||
  die 'no date: outside a git checkout, set SOURCE_DATE_EPOCH'
export SOURCE_DATE_EPOCH

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
stage=$scratch/stage doc=$scratch/stage/usr/share/doc/pyknock

# fill FILE: prints a file. Its lines @KEYS@ and @UPGRADE@ become the scripts of these names.
fill() {
  local line
  while IFS= read -r line; do
    case $line in
    @KEYS@) tail -n +2 packaging/keys.sh ;;
    @UPGRADE@) tail -n +2 packaging/upgrade.sh ;;
    *) printf '%s\n' "$line" ;;
    esac
  done <"$1"
}

# stage VARIABLE=VALUE...: installs the files of a package for $arch into $stage, with these variables of
# `make install`.
stage() {
  rm -rf "$stage"
  [[ -e $file ]] || die "no $file: run cross/build $arch first"
  make --silent install "DESTDIR=$stage" "PROGRAM=$file" "$@"
  install -D -m 644 -t "$stage/usr/lib/systemd/system" packaging/systemd/pyknock.{service,socket}
  install -D -m 644 packaging/systemd/pyknock.sysusers "$stage/usr/lib/sysusers.d/pyknock.conf"
  install -D -m 644 packaging/systemd/pyknock.sysctl "$stage/usr/lib/sysctl.d/10-pyknock.conf"
  install -D -m 644 -t "$stage/etc/pyknock" packaging/systemd/server.conf
  install -D -m 644 -t "$doc/examples" packaging/systemd/commands.conf
  install -m 644 -t "$doc" README.md packaging/debian/copyright
  find "$stage/usr/share/man" -type f -exec gzip -9n {} +
}
