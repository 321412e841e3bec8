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
          return settings.add(keyword, keyword == .keyFile ? try expandHome(value) : value)
        }
        return false
      }
    }
  }

  /// Prints the names in the files, without patterns.
  static func list(to output: inout TextOutput) throws(ClientError) {
    try visitFiles { path throws(ClientError) in
      try read(path) { keyword, value in
        guard keyword == .host else { return false }
        value.withBytes { hosts in
          hosts.visitWords { word in
            guard !word.isPattern else { return }
            output.append(word)
            output.append("\n")
          }
        }
        return false
      }
    }
  }

  /// Calls `body` with the path of each file.
  @inline(never)
  private static func visitFiles(
    _ body: (Argument) throws(ClientError) -> Void
  ) throws(ClientError) {
    let file: Argument?
    do throws(SystemError) {
      file = try userFolder().map { folder throws(SystemError) in try path(in: folder, fileName) }
    } catch { throw .system(error) }
    if let file { try body(file) }
    try body(systemFile)
  }

  static var fileName: Argument { Argument("/client.conf") }
  private static var systemFile: Argument { Argument("/etc/pyknock/client.conf") }

  /// The folder of the user's file; nil if it is not known.
  @inline(never)
  static func userFolder() throws(SystemError) -> Argument? {
    if let folder = folder("XDG_CONFIG_HOME") { return try path(in: folder, Argument("/pyknock")) }
    guard let home = folder("HOME") else { return nil }
    return try path(in: home, Argument("/.config/pyknock"))
  }

  /// The folder that a variable names. A relative one does not count. Source: XDG Base Directory Specification.
  private static func folder(_ variable: Literal) -> Argument? {
    guard let folder = Environment.variable(variable), folder.withBytes({ $0.hasPrefix("/") })
    else { return nil }
    return folder
  }

  @inline(never)
  static func path(
    in folder: Argument, _ rest: Argument
  ) throws(SystemError) -> Argument {
    guard let memory = Storage<UInt8>.mapped(folder.count + rest.count + 1) else {
      throw .outOfMemory
    }
    var path = StorageText(memory)
    folder.withBytes { path.append($0) }
    rest.withBytes { path.append($0) }
    guard let start = unsafe path.start else { throw .outOfMemory }
    return unsafe Argument(start)
  }

  /// Reads a file, if it exists. Wipes each key in memory, unless `visit` takes it.
  ///
  /// - Parameter visit: returns whether it takes the value.
  @inline(never)
  static func read(
    _ path: Argument, _ visit: (ClientKeyword, Argument) throws(Misuse) -> Bool
  ) throws(ClientError) {
    guard let memory = Storage<UInt8>.mapped(Key.maximumSize + 1) else {
      throw .system(.outOfMemory)
    }
    do throws(ConfigurationError<ClientKeyword>) {
      try ConfigurationFile<ClientKeyword>.read(path, isGiven: false) {
        keyword, value throws(Misuse) in
        if let accepted = keyword.refusal(of: value) {
          throw .badSetting(keyword.name, accepted: accepted)
        }
        if keyword == .key { try checkKey(value, in: path, memory) }
        if try !visit(keyword, value), keyword == .key { Key.wipe(value) }
      }
    } catch { throw .configuration(error.withoutWord) }
  }

  /// Checks a key, and that nobody else can read it in this file.
  @inline(never)
  private static func checkKey(
    _ value: Argument, in path: Argument, _ memory: borrowing Storage<UInt8>
  ) throws(Misuse) {
    let name = ClientKeyword.key.name
    if path.isSameFile(as: systemFile) {
      throw .unsuitableOperand(
        name, "not in /etc/pyknock/client.conf; use KeyFile, or the client.conf of each user")
    }
    guard path.isForOwnerOnly else {
      throw .unsuitableOperand(
        name, "others than the owner may read the file; chmod 600 prevents that")
    }
    defer { Key.wipe(memory) }
    do throws(KeyError) {
      try value.withBytes { text throws(KeyError) in
        let key = try Key(expanding: text, in: memory)
        _ = consume key
      }
    } catch { throw .keySetting(name, error) }
  }

  /// Replaces `~/` at the start by the home directory.
  @inline(never)
  private static func expandHome(_ value: Argument) throws(Misuse) -> Argument {
    guard value.withBytes({ $0.hasPrefix("~/") }) else { return value }
    guard let home = folder("HOME") else {
      throw .badSetting(
        ClientKeyword.keyFile.name, accepted: "known: HOME is not set to a directory")
    }
    do throws(SystemError) {
      return try path(in: home, unsafe Argument(value.pointer + 1))
    } catch { return value }
  }
}
