# shellcheck shell=bash
# Completion of pyknock for bash, written by `make completions`.

# Offers those words of `compgen ...` that begin with what was typed.
_pyknock_offer() { mapfile -t COMPREPLY < <(compgen "$@" -- "${COMP_WORDS[COMP_CWORD]}"); }

_pyknock_names() { pyknock client list 2>/dev/null; }

_pyknock() {
  local applet=${1##*/} start=1
  applet=${applet#pyknock}
  applet=${applet#-}
  if [[ ! $applet ]]; then
    if ((COMP_CWORD == 1)); then
      _pyknock_offer -W 'server client keygen status help version'
      return
    fi
    applet=${COMP_WORDS[1]} start=2
  fi

  local options
  case $applet in
  server)
    options='-f --config -k --key-file --keys -b --bind-address -p --port -t --time-drift
      --allow-observed-source --no-version1 --answer --nft --ipset --ttl --grant-prefix4
      --grant-prefix6 --open-command --close-command --no-shell --jobs --command-timeout
      --state --close-after --close-on-exit --replay-capacity --grant-capacity --syslog
      --log-format --metrics -q --quiet -v --verbose --user --chroot --no-sandbox --example
      --hide -n --check -h --help -V --version'
    ;;
  client)
    options='-c --config -k --key-file -p --port -4 --ipv4 -6 --ipv6 -S --sign-address --stun -s
      --source-address --ttl --answer --repeat --interval --wait-port --wait --close -n
      --check -v --verbose -h --help -V --version'
    ;;
  keygen)
    options='--version2 -o --output --keys --host --line -h --help -V --version'
    ;;
  status)
    options='-f --config --keys --state --nft --ipset --users --json -h --help -V --version'
    ;;
  help)
    _pyknock_offer -W 'server client keygen status'
    return
    ;;
  *) return ;;
  esac

  case $applet:${COMP_WORDS[COMP_CWORD - 1]} in
  server:-f | server:--config | server:-k | server:--key-file | server:--metrics | \
    client:-k | client:--key-file | keygen:-o | keygen:--output | status:-f | \
    status:--config)
    _pyknock_offer -f
    return
    ;;
  server:--keys | server:--state | server:--chroot | keygen:--keys | status:--keys | \
    status:--state)
    _pyknock_offer -d
    return
    ;;
  server:-b | server:--bind-address | server:-p | server:--port | server:-t | \
    server:--time-drift | server:--nft | server:--ipset | server:--ttl | \
    server:--grant-prefix4 | server:--grant-prefix6 | server:--open-command | \
    server:--close-command | server:--jobs | server:--command-timeout | server:--close-after | \
    server:--replay-capacity | server:--grant-capacity | server:--hide | client:-p | \
    client:--port | client:-s | client:--source-address | client:--ttl | client:--repeat | \
    client:--interval | client:--wait-port | client:--wait | status:--nft | status:--ipset)
    COMPREPLY=()
    return
    ;;
  server:--log-format)
    _pyknock_offer -W 'text json'
    return
    ;;
  server:--user)
    _pyknock_offer -u
    return
    ;;
  server:--example)
    _pyknock_offer -W 'nft ipset docker'
    return
    ;;
  client:-c | client:--config)
    _pyknock_offer -W "$(_pyknock_names)"
    return
    ;;
  client:-S | client:--sign-address)
    _pyknock_offer -W 'auto observed'
    return
    ;;
  client:--stun | keygen:--host)
    _pyknock_offer -A hostname
    return
    ;;
  esac
  if [[ ${COMP_WORDS[COMP_CWORD]} = -* ]]; then
    _pyknock_offer -W "$options"
    return
  fi
  [[ $applet = client ]] || return
  # A verb comes first, then a host.
  local word
  for word in "${COMP_WORDS[@]:start:COMP_CWORD-start}"; do
    case $word in open | close | check | connect)
      _pyknock_offer -A hostname -W "$(_pyknock_names)"
      return
      ;;
    esac
  done
  _pyknock_offer -W 'open close check connect list import'
}

complete -F _pyknock pyknock pyknock-server pyknock-client pyknock-keygen pyknock-status
