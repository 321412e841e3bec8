#!/bin/sh
# Knocks on a pyknock server with version 2 of the datagram (doc/PROTOCOL.md). SHELL.md beside this file says what it
# needs.
#
# Variables cannot hold NUL, so bytes are a list: decimal numbers, each with a blank before it. The key and all that is
# made of it stay in this shell, because anyone on the machine can see the arguments of programs.
set -u +ax # Neither export nor trace each variable, even if SHELLOPTS of bash says so.
# What is exported already would reach the programs below with its new value.
unset command option host port key_file address source text result rest digit before value size byte count S K check
unset escapes inner outer quad part hex head id_mask program random now time plain T id datagram target error
unset saved status
export LC_ALL=C
# shellcheck disable=SC3045 # Where a shell does not know -c, nothing is lost.
ulimit -c 0 2>/dev/null # A core dump would have the key.
usage='usage: knock.sh open|close HOST -k FILE [-p PORT] [-S ADDR]

  -k, --key-file FILE      read the key from the first line of FILE; - is the
                           standard input
  -p, --port PORT          knock on this UDP port; the default is 60120
  -S, --sign-address ADDR  open or close for ADDR; the default is observed: the
                           address that the server sees, if it allows that
  -h, --help               print this help'
newline='
'
zeros8=' 0 0 0 0 0 0 0 0'
alphabet=ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_

die() { # CODE MESSAGE
  printf 'knock.sh: %s\n' "$2" >&2
  exit "$1"
}
misuse() { # MESSAGE
  die 2 "$1$newline${usage%%"$newline"*}"
}
shown() { # TEXT: quotes it for a message, unless it may be a key or disturb a terminal.
  case $1 in
  *[Pp][Kk]2* | *[!\ -~]*) set -- ;;
  */*) ;; # No key has a slash.
  *) [ ${#1} -lt 64 ] || set -- ;;
  esac
  if [ $# = 1 ]; then printf "'%s'" "$1"; else printf '(not shown)'; fi
}

emit() { # LIST: prints the bytes.
  escapes=
  for byte in $1; do escapes="$escapes\\0$((byte >> 6))$((byte >> 3 & 7))$((byte & 7))"; done
  printf %b "$escapes"
}
bytes() { # HEX: sets $result.
  rest=${1%% *} # Without the name that sha256sum prints.
  [ -n "$rest" ] || die 1 'sha256sum has failed'
  result=
  while [ ${#rest} -ge 2 ]; do
    result="$result $((0x${rest%"${rest#??}"}))"
    rest=${rest#??}
  done
}
hmac() { # KEY LABEL LIST: sets $result. KEY is a list of 32 bytes.
  inner='' outer=''
  for byte in $1 $zeros8 $zeros8 $zeros8 $zeros8; do
    inner="$inner $((byte ^ 0x36))"
    outer="$outer $((byte ^ 0x5c))"
  done
  bytes "$({ emit "$inner" && printf %s "$2" && emit "$3"; } | sha256sum)"
  bytes "$(emit "$outer$result" | sha256sum)"
}
xor() { # LIST LIST: sets $result, which is as long as the first.
  result=
  rest=$2
  for byte in $1; do
    rest=${rest#* }
    result="$result $((byte ^ ${rest%% *}))"
  done
}

parse_quad() { # A.B.C.D: sets $quad to 8 hexadecimal digits.
  quad=
  rest=$1.
  for _ in 1 2 3 4; do
    part=${rest%%.*}
    rest=${rest#*.}
    case $part in '' | *[!0-9]* | 0?* | ????*) return 1 ;; esac
    [ "$part" -le 255 ] || return 1
    quad=$quad$(printf %02x "$part")
  done
  [ -z "$rest" ]
}
parse_groups() { # [GROUP[:GROUP]...]: sets $hex. A.B.C.D may stand for the last two groups.
  hex=
  set -- "${1:+$1:}"
  while [ -n "$1" ]; do
    part=${1%%:*}
    set -- "${1#*:}"
    case $part in
    *.*)
      parse_quad "$part" || return 1
      hex=$hex$quad
      ;;
    '' | *[!0-9A-Fa-f]* | ?????*) return 1 ;;
    *) hex=$hex$(printf %04x "0x$part") ;;
    esac
  done
}
parse_address() { # ADDR: sets $hex to 32 hexadecimal digits.
  case $1 in
  *.*:*) return 1 ;;
  *::*)
    parse_groups "${1%%::*}" || return 1
    head=$hex
    parse_groups "${1#*::}" && [ $((${#head} + ${#hex})) -lt 32 ] || return 1
    while [ $((${#head} + ${#hex})) -lt 32 ]; do head=${head}0; done
    hex=$head$hex
    ;;
  *:*) parse_groups "$1" ;;
  *) parse_quad "$1" && hex=00000000000000000000ffff$quad ;;
  esac && [ ${#hex} = 32 ]
}

read_key() { # Sets $text to the first line of the key file.
  # A word without a slash may be the key itself.
  case $key_file in - | */*) source=$(shown "$key_file") ;; *) source='(not shown, it may be the key itself)' ;; esac
  source="key file $source:"
  text=
  if [ "$key_file" = - ]; then
    if [ -t 0 ]; then
      saved=$(stty -g 2>/dev/null) || die 1 "$source stty is missing, so the key would be shown; give -k FILE"
      trap 'stty "$saved"' EXIT
      trap 'exit 1' HUP INT QUIT TERM
      trap '' TSTP # After a stop with Control-Z, the shell would have the terminal show what is typed.
      stty -echo || die 1 "$source the key would be shown; give -k FILE"
      printf 'key (not shown): \n' >&2
    fi
    IFS= read -r text
    [ -z "${saved-}" ] || stty "$saved"
    trap - EXIT HUP INT QUIT TERM TSTP
  else
    if [ -d "$key_file" ] || [ ! -r "$key_file" ]; then die 1 "$source there is no such file, or it cannot be read"; fi
    case $(ls -dlL -- "$key_file") in
    '') die 1 "$source ls does not tell who may write it" ;;
    -????w* | -???????w*) die 1 "$source others may write it; chmod 600 prevents that" ;;
    -??????r*) printf 'knock.sh: %s\n' "warning: $source others may read it; chmod 600 prevents that" >&2 ;;
    esac
    IFS= read -r text <"$key_file"
  fi
  text=${text%"$(printf '\r')"}
}
check_text() { # Ends if $text does not have the form of a key.
  case $text in
  '') die 1 "$source the key is empty" ;;
  "$(printf '\357\273\277')"*) die 1 "$source it begins with a byte-order mark; save it as UTF-8 without one" ;;
  [[:blank:]]* | *[[:blank:]]) die 1 "$source there is a blank before or after the key; remove it" ;;
  [\"\']* | *[\"\']) die 1 "$source there is a quote before or after the key; remove it" ;;
  pk2.*) ;;
  [Pp][Kk]2.*) die 1 "$source the key begins with pk2. in small letters; its letters must stay as they were" ;;
  *) die 1 "$source not a key of version 2, which begins with pk2." ;;
  esac
  [ ${#text} = 74 ] || die 1 "$source the key has ${#text} characters, not 74"
  case ${text#pk2.} in
  *[!A-Za-z0-9_-]*) die 1 "$source after pk2. the key has a character that is none of A-Z a-z 0-9 - _" ;;
  esac
}
parse_key() { # Sets $S and $K from $text.
  check_text
  rest=${text#pk2.}
  S='' K='' check='' value=0 size=0 count=0
  while [ -n "$rest" ]; do
    digit=${rest%"${rest#?}"}
    rest=${rest#?}
    before=${alphabet%%"$digit"*}
    value=$(((value << 6 | ${#before}) & 0xfff))
    size=$((size + 6))
    [ "$size" -ge 8 ] || continue
    size=$((size - 8))
    byte=$((value >> size & 255))
    count=$((count + 1))
    if [ "$count" -le 16 ]; then
      S="$S $byte"
    elif [ "$count" -le 48 ]; then
      K="$K $byte"
    else
      check="$check $byte"
    fi
  done
  [ $((value & 15)) = 0 ] || die 1 "$source the last character of the key is wrong"
  hmac "$K" 'pyknock 2 key' "$S"
  case $result in
  "$check "*) ;;
  *) die 1 "$source the key is mistyped: its checksum is wrong" ;;
  esac
}

seal() { # LIST: sets $datagram to the request with these 32 bytes.
  hmac "$K" 'pyknock 2 tag' "$S"
  hmac "$result" '' "$1"
  T=$result
  hmac "$S$zeros8$zeros8" 'pyknock 2 id mask' ''
  hmac "$result" '' "$T"
  id_mask=$result
  hmac "$K" 'pyknock 2 id' "$S"
  xor "$zeros8" "$result" # The first 8 bytes.
  xor "$result" "$id_mask"
  id=$result
  hmac "$K" 'pyknock 2 mask' "$S"
  hmac "$result" '' "$T"
  xor "$1" "$result"
  datagram=$T$id$result
}
emit_datagram() { # In one write, as one datagram. A printf may write each line by itself.
  emit "$datagram" | dd ibs=1 obs=72 2>/dev/null
}
send() {
  if [ -n "${BASH_VERSION-}" ]; then
    # shellcheck disable=SC3025 # This is bash.
    emit_datagram >"/dev/udp/$host/$port"
  elif command -v socat >/dev/null; then
    case $host in *:*) target=[$host] ;; *) target=$host ;; esac
    emit_datagram | socat -u - "UDP:$target:$port"
  else
    emit_datagram | nc -u -w 1 "$host" "$port" &
    program=$!
    # While the other side goes on sending, -w does not end nc.
    (sleep 10 && kill "$program") >/dev/null 2>&1 &
    wait "$program"
    status=$?
    kill $! 2>/dev/null
    return "$status"
  fi
}

command='' host='' port=60120 key_file='' address=observed
while [ $# -gt 0 ]; do
  case $1 in # A value may stand in the word of its option.
  -[kpS]?*) value=${1#??} && option=${1%"$value"} && shift && set -- "$option" "$value" "$@" ;;
  --*=*) value=${1#*=} && option=${1%%=*} && shift && set -- "$option" "$value" "$@" ;;
  esac
  case $1 in
  -k | --key-file | -p | --port | -S | --sign-address)
    [ $# -ge 2 ] || misuse "$1 needs a value"
    case $1 in -k | --key-file) key_file=$2 ;; -p | --port) port=$2 ;; *) address=$2 ;; esac
    shift
    ;;
  -h | --help)
    printf '%s\n' "$usage"
    exit
    ;;
  -*) misuse "unknown option $(shown "$1")" ;;
  *)
    [ -z "$host" ] || misuse 'one operand too many (not shown, it may be a key)'
    if [ -z "$command" ]; then command=$1; else host=$1; fi
    ;;
  esac
  shift
done

case $command in
open | close) ;;
'') misuse 'open or close is missing' ;;
*) misuse "$(shown "$command") is neither open nor close" ;;
esac
case $host in \[*:*\]) host=${host#?} && host=${host%?} ;; esac
case $host in
'') misuse 'HOST is missing' ;;
-* | *[!A-Za-z0-9._:%-]*) misuse "HOST: $(shown "$host") is neither a name nor an address" ;;
*:*:*) ;;
*:*) misuse "HOST: $(shown "$host") is not a host alone: name the port with -p" ;;
esac
case $port in
'' | 0* | *[!0-9]* | ??????*) false ;;
*) [ "$port" -le 65535 ] ;;
esac || misuse "-p/--port: $(shown "$port") is not a port: 1 to 65535"
if [ "$address" = observed ]; then
  hex=00000000000000000000000000000000
else
  parse_address "$address" || die 5 "-S/--sign-address: $(shown "$address") is neither an address nor observed"
  case $hex in
  00000000000000000000ffff00000000 | 00000000000000000000000000000000) error='unspecified address' ;;
  00000000000000000000ffffffffffff) error='broadcast address' ;;
  00000000000000000000ffffe* | ff*) error='multicast address' ;;
  *) error= ;;
  esac
  [ -z "$error" ] || die 5 "signed address: no server opens for this: $error"
fi
[ -n "$key_file" ] || misuse 'no key: give -k FILE'

[ $((4294967295 + 1)) = 4294967296 ] || die 1 'this shell cannot calculate with 64 bits; try dash, bash or busybox sh'
case $(command -v printf) in
*/*) die 1 'this shell has no printf of its own, so ps would show the key; try dash, bash or busybox sh' ;;
esac
for program in sha256sum dd date ls; do command -v "$program" >/dev/null || die 1 "$program is missing"; done

read_key
parse_key
case $command in open) plain=' 1' ;; *) plain=' 2' ;; esac
plain="$plain 0 0 0 0 0 0 0" # Flags, door, a zero, and the seconds: those that the server gives.
random=$(dd if=/dev/urandom bs=16 count=1 2>/dev/null | sha256sum)
case $random in e3b0c44298fc1c14*) die 1 '/dev/urandom cannot be read' ;; esac # The hash of nothing.
now=$(date +%s)
case $now in '' | *[!0-9]*) die 1 'date does not tell the seconds since 1970' ;; esac
time=$((now * 1000000 + 0x${random%"${random#????????}"} % 1000000))
for _ in 1 2 3 4 5 6 7 8; do
  plain="$plain $((time & 255))"
  time=$((time >> 8))
done
bytes "$hex"
seal "$plain$result"
error=$(send 2>&1 >/dev/null)
status=$?
error=${error%%"$newline"*}
case $status in
0) ;;
143) die 1 "nc did not end for ten seconds; it may have sent the knock to $(shown "$host")" ;;
*) die 1 "nothing was sent to $(shown "$host"): ${error:-no reason given}" ;;
esac
