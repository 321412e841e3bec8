import KnockBase

/// client.conf, which says what is known about hosts: `$XDG_CONFIG_HOME/pyknock/client.conf`, or the one in
/// `~/.config`, and then `/etc/pyknock/client.conf`.
///
/// Each line is a `ConfigLine`. The lines after `Host PATTERN...` count for the names that match, the lines before the
/// first `Host` for all. The first value for a name counts. What is read stays in memory, since the settings point to
/// it.
enum ClientConfiguration {
  /// Adds to the settings what the files say about a name.
  static func apply(
    _ name: Argument, to settings: inout ClientSettings
  ) throws(ClientError) {
    try visitFiles { path throws(ClientError) in
      var isForName = true
      try read(path) { keyword, value throws(Misuse) in
        if keyword == .host {
          isForName = value.withBytes { hosts in name.withBytes { $0.matches(patterns: hosts) } }
        } else if isForName {
          settings.add(keyword, keyword == .keyFile ? try expandHome(value) : value)
        }
      }
    }
  }

  /// Prints the names in the files, without patterns.
  static func list(to output: inout TextOutput) throws(ClientError) {
    try visitFiles { path throws(ClientError) in
      try read(path) { keyword, value in
        guard keyword == .host else { return }
        value.withBytes { hosts in
          hosts.visitWords { word in
            guard !word.isPattern else { return }
            output.append(word)
            output.append("\n")
          }
        }
      }
    }
  }

  /// Calls `body` with the path of each file.
  @inline(never)
  private static func visitFiles(
    _ body: (Argument) throws(ClientError) -> Void
  ) throws(ClientError) {
    if let folder = folder("XDG_CONFIG_HOME") {
      try body(try path(in: folder, "/pyknock/client.conf"))
    } else if let home = folder("HOME") {
      try body(try path(in: home, "/.config/pyknock/client.conf"))
    }
    try body(Argument("/etc/pyknock/client.conf"))
  }

  /// The folder that a variable names. A relative one does not count. Source: XDG Base Directory Specification.
  private static func folder(_ variable: Literal) -> Argument? {
    guard let folder = Environment.variable(variable), folder.withBytes({ $0.hasPrefix("/") })
    else { return nil }
    return folder
  }

  private static func path(
    in folder: Argument, _ rest: Literal
  ) throws(ClientError) -> Argument {
    guard let memory = Storage<UInt8>.mapped(folder.count + rest.count + 1) else {
      throw .system(.outOfMemory)
    }
    var path = StorageText(memory)
    folder.withBytes { path.append($0) }
    path.append(rest)
    guard let start = unsafe path.start else { throw .system(.outOfMemory) }
    return unsafe Argument(start)
  }

  /// Reads a file, if it exists.
  private static func read(
    _ path: Argument, _ visit: (ClientKeyword, Argument) throws(Misuse) -> Void
  ) throws(ClientError) {
    do throws(ConfigurationError<ClientKeyword>) {
      try ConfigurationFile<ClientKeyword>.read(path, isGiven: false) {
        keyword, value throws(Misuse) in
        if let accepted = keyword.refusal(of: value) {
          throw .badOperand(keyword.name, value, accepted: accepted)
        }
        try visit(keyword, value)
      }
    } catch { throw .configuration(error) }
  }

  /// Replaces `~/` at the start by the home directory.
  private static func expandHome(_ value: Argument) throws(Misuse) -> Argument {
    guard value.withBytes({ $0.hasPrefix("~/") }) else { return value }
    guard let home = folder("HOME") else {
      throw .badOperand(
        ClientKeyword.keyFile.name, value, accepted: "known: HOME is not set to a directory")
    }
    guard let memory = Storage<UInt8>.mapped(home.count + value.count) else { return value }
    var path = StorageText(memory)
    home.withBytes { path.append($0) }
    value.withBytes { path.append($0.extracting(1...)) }
    guard let start = unsafe path.start else { return value }
    return unsafe Argument(start)
  }
}
