# shellcheck shell=sh
# The packages run this once, in an upgrade from 1.0.0. There, pyknock.service had the key file and the
# state directory in its command line. Now server.conf has `state` and `keys`, and the old key is that of the user
# `shared`. Each step can be repeated.

set -e
etc=/etc/pyknock keys=/etc/pyknock/keys conf=/etc/pyknock/server.conf units=/etc/systemd/system

if grep -qs '^ExecStart=.' "$units"/pyknock.service "$units"/pyknock.service.d/*.conf; then
  # The administrator has another command line. The key stays where it is, and that line can still use it.
  if grep -qs CREDENTIALS_DIRECTORY "$units"/pyknock.service.d/*.conf &&
    ! grep -qs '^LoadCredential=key:' "$units"/pyknock.service "$units"/pyknock.service.d/*.conf; then
    printf '[Service]\nLoadCredential=key:%s/key\n' "$etc" >"$units/pyknock.service.d/50-key.conf"
  fi
  echo "pyknock: $units has an ExecStart of your own, so the key stays in $etc/key" >&2
else
  if [ -s "$etc/key" ] && [ ! -e "$keys/shared" ]; then
    # The server skips the first name.
    (umask 077 && sed -n 1p "$etc/key" >"$keys/.shared")
    chown --reference="$keys" "$keys/.shared"
    chmod 640 "$keys/.shared"
    sync "$keys/.shared"
    mv "$keys/.shared" "$keys/shared"
    sync "$keys"
    echo "pyknock: $etc/key is now the key of the user shared, in $keys" >&2
  fi
  # The command line overrode both settings. In an old file they had no effect.
  if [ -f "$conf" ] && ! grep -Eq '^[[:blank:]]*keys[[:blank:]=]' "$conf"; then
    real=$(readlink -f "$conf")
    cp -p "$real" "$real.new"
    {
      sed -E 's/^[[:blank:]]*(key-file|state)[[:blank:]=]/# &/' "$real"
      printf '\n# These were in the command line of pyknock.service before.\n'
      printf 'keys %s\nstate /var/lib/pyknock\n' "$keys"
    } >"$real.new"
    sync "$real.new"
    mv "$real.new" "$real"
  fi
  # For others who use the old name.
  if [ -f "$etc/key" ] && [ ! -L "$etc/key" ] && sed -n 1p "$etc/key" | cmp -s - "$keys/shared"; then
    ln -sf keys/shared "$etc/key.new"
    mv "$etc/key.new" "$etc/key"
  fi
fi
