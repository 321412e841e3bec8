#if DEBUG
  func zsh(_ applets: [Applet]) -> String {
    let programs = applets.map { "pyknock-\($0.name)" }.joined(separator: " ")
    let described = applets.map { "      '\($0.name):\($0.help)'\n" }.joined()
    let options = applets.map { applet in
      """
        \(applet.name))
          options+=(
      \(applet.options.map { "      \(specification(of: $0))\n" }.joined())\
      \(applet.name == "client" ? operands : "")    )
          ;;

      """
    }
    return """
      #compdef pyknock \(programs)

      # Completion of pyknock for zsh, written by `make completions`.

      local applet=${service#pyknock}
      applet=${applet#-}
      if [[ -z $applet ]]; then
        if (( CURRENT == 2 )); then
          local -a applets=(
      \(described)      'help:print the help of a command'
            'version:print the version'
          )
          _describe command applets
          return
        fi
        applet=$words[2]
        shift words
        (( CURRENT-- ))
      fi

      local -a options
      case $applet in
      \(options.joined())  help) options=('1:command:(\(applets.map(\.name).joined(separator: " ")))') ;;
        *) return 1 ;;
      esac
      _arguments -s $options

      """
  }

  private let names = "($(pyknock client list 2>/dev/null))"
  private let operands = """
          '1:verb:(open close check connect list import)'
          '2:host:\(names)'

    """

  /// A specification for `_arguments`: the options that it excludes, its names, the help and the value.
  private func specification(of option: Option) -> String {
    var text = "[\(option.help.escaped("\\[]:"))]"
    if option.value != .none {
      text += ":\(option.placeholder.escaped(":")):\(action(for: option.value))"
    }
    text = text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''")
    let list = option.names.joined(separator: ",")
    if option.names.count == 1 { return "'\(option.isRepeatable ? "*" : "")\(list)\(text)'" }
    let prefix = option.isRepeatable ? "*" : "(\(option.names.joined(separator: " ")))"
    return "'\(prefix)'{\(list)}'\(text)'"
  }

  private func action(for value: Option.Value) -> String {
    switch value {
    case .none, .text: ""
    case .file: "_files"
    case .directory: "_directories"
    case .user: "_users"
    case .host: "_hosts"
    case .name: names
    case .words(let words): "(\(words.joined(separator: " ")))"
    }
  }
#endif
