import KnockBase

/// client.conf, which says what is known about hosts: `$XDG_CONFIG_HOME/pyknock/client.conf`, or the one in
/// `~/.config`, and then `/etc/pyknock/client.conf`.
///
/// Each line is a `ConfigLine`. The lines after `Host NAME...` count for these names; `*` and the lines before the
/// first `Host` count for all. The first value for a name counts. What is read stays in memory, since the settings
/// point to it.
enum ClientConfiguration {
  private static let pathLimit = 4096

  /// Adds to the settings what the files say about a name.
  static func apply(
    _ name: Argument, to settings: inout ClientSettings
  ) throws(ClientError) {
    try visitFiles { path throws(ClientError) in
      var isForName = true
      try read(path) { keyword, value in
        if keyword == .host {
          isForName = value.withBytes { hosts in name.withBytes { hosts.holdsWord($0) } }
        } else if isForName {
          settings.add(keyword, keyword == .keyFile ? expandHome(value) : value)
        }
      }
    }
  }

  /// Prints the names in the files.
  static func list(to output: inout TextOutput) throws(ClientError) {
    try visitFiles { path throws(ClientError) in
      try read(path) { keyword, value in
        guard keyword == .host else { return }
        value.withBytes { hosts in
          hosts.visitWords { word in
            guard !word.equals("*") else { return }
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
    guard let memory = Storage<UInt8>.mapped(pathLimit) else { throw .system(.outOfMemory) }
    var path = StorageText(memory)
    if let folder = Environment.variable("XDG_CONFIG_HOME") {
      folder.withBytes { path.append($0) }
    } else if let home = Environment.variable("HOME") {
      home.withBytes { path.append($0) }
      path.append("/.config")
    }
    path.append("/pyknock/client.conf\0")
    if let start = unsafe path.start { try body(unsafe Argument(start)) }
    try body(Argument("/etc/pyknock/client.conf"))
  }

  /// Reads a file, if it exists.
  private static func read(
    _ path: Argument, _ visit: (ClientKeyword, Argument) -> Void
  ) throws(ClientError) {
    do throws(ConfigurationError<ClientKeyword>) {
      try ConfigurationFile<ClientKeyword>.read(path, isGiven: false) {
        keyword, value throws(Misuse) in
        if let accepted = keyword.refusal(of: value) {
          throw .badOperand(keyword.name, value, accepted: accepted)
        }
        visit(keyword, value)
      }
    } catch { throw .configuration(error) }
  }

  /// Replaces `~/` at the start by the home directory.
  private static func expandHome(_ value: Argument) -> Argument {
    guard value.withBytes({ $0.hasPrefix("~/") }), let home = Environment.variable("HOME"),
      let memory = Storage<UInt8>.mapped(home.count + value.count)
    else { return value }
    var path = StorageText(memory)
    home.withBytes { path.append($0) }
    value.withBytes { path.append($0.extracting(1...)) }
    guard let start = unsafe path.start else { return value }
    return unsafe Argument(start)
  }
}
