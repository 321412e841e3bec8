# shellcheck shell=sh
# The users. The group is that of the server: a new one if there was none before.
[ -d /etc/pyknock/keys ] || mkdir -m 750 /etc/pyknock/keys
case $(stat -c %G /etc/pyknock/keys) in
root | UNKNOWN) ! getent group pyknock >/dev/null || chgrp -R pyknock /etc/pyknock/keys ;;
esac
