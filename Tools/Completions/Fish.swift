#if DEBUG
  func fish(_ applets: [Applet]) -> String {
    let names = applets.map(\.name).joined(separator: " ")
    let programs = applets.map { "pyknock-\($0.name)" }.joined(separator: " ")
    let options = applets.map { applet in
      applet.options.map { "    \(command(for: $0, of: applet))\n" }.joined()
    }
    return """
      # Completion of pyknock for fish, written by `make completions`.

      function __pyknock_is --description 'Whether the command line is of this applet' --argument-names applet
          set -l words (commandline -opc)
          string match -q "*pyknock-$applet" -- $words[1]; and return
          test (count $words) -gt 1; and test $words[2] = $applet
      end

      function __pyknock_needs --description 'Whether a verb is still missing'
          __pyknock_is client; and not string match -qr '^(open|close|check|connect|list|import)$' -- (commandline -opc)
      end

      set -l names '(pyknock client list 2>/dev/null)'
      for program in pyknock \(programs)
          complete -c $program -f

      \(options.joined(separator: "\n"))
          complete -c $program -n __pyknock_needs -a 'open close check connect list import'
          complete -c $program -n '__pyknock_is client; and not __pyknock_needs' -a $names
      end
      complete -c pyknock -n 'test (count (commandline -opc)) -eq 1' -a '\(names) help version'
      complete -c pyknock -n 'test (count (commandline -opc)) -eq 1' -s h -l help -d 'print this help'
      complete -c pyknock -n 'test (count (commandline -opc)) -eq 1' -s V -l version -d 'print the version'
      complete -c pyknock -n 'string match -q help -- (commandline -opc)[2]' -a '\(names)'

      """
  }

  private func command(for option: Option, of applet: Applet) -> String {
    let names = option.names.map {
      $0.hasPrefix("--") ? "-l \($0.dropFirst(2))" : "-s \($0.dropFirst())"
    }
    return "complete -c $program -n '__pyknock_is \(applet.name)' \(names.joined(separator: " "))"
      + "\(flags(for: option.value)) -d '\(option.help.escaped("\\'"))'"
  }

  private func flags(for value: Option.Value) -> String {
    switch value {
    case .none: ""
    case .text: " -x"
    case .file: " -rF"
    case .directory: " -x -a '(__fish_complete_directories)'"
    case .user: " -x -a '(__fish_complete_users)'"
    case .host: " -x -a '(__fish_print_hostnames)'"
    case .name: " -x -a $names"
    case .words(let words): " -x -a '\(words.joined(separator: " "))'"
    }
  }
#endif
