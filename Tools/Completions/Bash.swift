#if DEBUG
  func bash(_ applets: [Applet]) -> String {
    let names = applets.map(\.name).joined(separator: " ")
    let options = applets.map { applet in
      """
        \(applet.name))
          options='\(applet.options.flatMap(\.names).wrapped(indent: 6))'
          ;;

      """
    }
    // The options of all applets whose values are completed in the same way.
    var values: [(value: Option.Value, patterns: [String])] = []
    for applet in applets {
      for option in applet.options where option.value != .none {
        let patterns = option.names.map { "\(applet.name):\($0)" }
        if let index = values.firstIndex(where: { $0.value == option.value }) {
          values[index].patterns += patterns
        } else {
          values.append((option.value, patterns))
        }
      }
    }
    let cases = values.map { value, patterns in
      """
        \(patterns.wrapped(indent: 4, separator: " | ", lineEnd: " | \\")))
          \(command(for: value))
          return
          ;;

      """
    }
    return """
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
            _pyknock_offer -W '\(names) help version'
            return
          fi
          applet=${COMP_WORDS[1]} start=2
        fi

        local options
        case $applet in
      \(options.joined())  help)
          _pyknock_offer -W '\(names)'
          return
          ;;
        *) return ;;
        esac

        case $applet:${COMP_WORDS[COMP_CWORD - 1]} in
      \(cases.joined())  esac
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

      complete -F _pyknock pyknock \(applets.map { "pyknock-\($0.name)" }.joined(separator: " "))

      """
  }

  private func command(for value: Option.Value) -> String {
    switch value {
    case .none, .text: "COMPREPLY=()"
    case .file: "_pyknock_offer -f"
    case .directory: "_pyknock_offer -d"
    case .user: "_pyknock_offer -u"
    case .host: "_pyknock_offer -A hostname"
    case .name: "_pyknock_offer -W \"$(_pyknock_names)\""
    case .words(let words): "_pyknock_offer -W '\(words.joined(separator: " "))'"
    }
  }
#endif
