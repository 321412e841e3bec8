# Completion of pyknock for bash. shellcheck shell=bash

_pyknock() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local applet=${1##*/} start=1
  applet=${applet#pyknock}
  applet=${applet#-}
  if [[ ! $applet ]]; then
    if ((COMP_CWORD == 1)); then
      mapfile -t COMPREPLY < <(compgen -W 'server client keygen help version' -- "$current")
      return
    fi
    applet=${COMP_WORDS[1]} start=2
  fi

  local options common='-h --help -V --version'
  case $applet in
  server)
    options='-f --config -b --bind-address -p --port -t --time-drift -k --key-file
      --allow-observed-source --nft --ipset --ttl --grant-prefix4 --grant-prefix6 --open-command
      --close-command --no-shell --jobs --command-timeout --close-after --close-on-exit --state
      --replay-capacity --grant-capacity --metrics --syslog --log-format --list --json --user --chroot --no-sandbox -n --check --example
      -q --quiet -v --verbose'
    ;;
  client)
    options='-c --config -p --port -S --sign-address --stun -s --source-address -k --key-file
      -4 --ipv4 -6 --ipv6 --repeat --interval --wait-port --wait --close -n --check
      -v --verbose'
    ;;
  keygen) options='-o --output' ;;
  help)
    mapfile -t COMPREPLY < <(compgen -W 'server client keygen' -- "$current")
    return
    ;;
  *) return ;;
  esac

  case $previous in
  -f | -k | --key-file | -o | --output | --metrics)
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
    return
    ;;
  --state | --chroot)
    mapfile -t COMPREPLY < <(compgen -d -- "$current")
    return
    ;;
  --user)
    mapfile -t COMPREPLY < <(compgen -u -- "$current")
    return
    ;;
  --example)
    mapfile -t COMPREPLY < <(compgen -W 'nft ipset' -- "$current")
    return
    ;;
  -S | --sign-address)
    mapfile -t COMPREPLY < <(compgen -W 'auto observed' -- "$current")
    return
    ;;
  --log-format)
    mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$current")
    return
    ;;
  --config)
    if [[ $applet = server ]]; then
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      return
    fi
    ;;&
  -c | --config)
    mapfile -t COMPREPLY < <(compgen -W "$(pyknock client list 2>/dev/null)" -- "$current")
    return
    ;;
  esac
  if [[ $current = -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options $common" -- "$current")
    return
  fi
  [[ $applet = client ]] || return
  # Behind a verb, a name.
  local word
  for word in "${COMP_WORDS[@]:start:COMP_CWORD-start}"; do
    case $word in open | close | connect)
      mapfile -t COMPREPLY < <(compgen -A hostname -W "$(pyknock client list 2>/dev/null)" -- "$current")
      return
      ;;
    esac
  done
  mapfile -t COMPREPLY < <(compgen -W 'open close connect list' -- "$current")
}

complete -F _pyknock pyknock pyknock-server pyknock-client pyknock-keygen
