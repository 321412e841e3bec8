import KnockBase
import KnockProtocol
import KnockServer

struct KeygenSettings: AppletSettings {
  enum Option: UInt8, OptionTable {
    case version2, output, keys, host, line, help, version

    var spec: OptionSpec {
      switch self {
      case .version2: OptionSpec(nil, "version2", "make a key of version 2, for a new server")
      case .output:
        OptionSpec(
          "o", "output", value: "FILE", "write it to a new FILE, mode 600 (- for stdout)")
      case .keys:
        OptionSpec(nil, "keys", value: "DIR", "make the user NAME: a new file DIR/NAME")
      case .host:
        OptionSpec(nil, "host", value: "HOST[:PORT]", "print a section for NAME's client.conf")
      case .line: OptionSpec(nil, "line", "print a line for 'client import' instead")
      case .help: .help
      case .version: .version
      }
    }

    var heading: Literal? { self == .version2 ? "Options" : nil }
  }

  private(set) var isVersion2 = false
  /// Nil for the standard output.
  private(set) var output: Argument?
  /// The directory of a server's users.
  private(set) var users: Argument?
  /// Where the client finds the server.
  private(set) var host: Argument?
  private(set) var printsLine = false
  var keyFile: Argument? { nil }
  var showsArguments: Bool { true }

  mutating func apply(_ option: Option, _ value: Argument?) throws(Misuse) {
    switch option {
    case .version2: isVersion2 = true
    case .output: output = value
    case .keys: users = value
    case .host: host = value
    case .line: printsLine = true
    case .help, .version: break
    }
  }

  func validate() throws(Misuse) {
    guard output == nil || users == nil else {
      throw .unsuitable(Option.keys.spec.name, ": only one of -o and --keys can be given")
    }
    guard host == nil || users != nil else {
      throw .unsuitable(Option.host.spec.name, " needs --keys")
    }
    guard !printsLine || host != nil else {
      throw .unsuitable(Option.line.spec.name, " needs --host")
    }
    if let host, host.withBytes({ Endpoint(ofServer: $0) }) == nil {
      throw .badValue(Option.host.spec.name, host, accepted: Endpoint.accepted)
    }
  }
}

/// Makes a key, as a line of its own or as the file of a user.
enum KeygenApplet: Applet {
  static var program: Literal { "pyknock keygen" }
  static var usage: Literal {
    """
    usage: pyknock keygen [--version2] [-o FILE]
           pyknock keygen --keys DIR [--host HOST[:PORT] [--line]] NAME
    """
  }
  static var description: Literal {
    """
    Makes a random key and prints it. Server and client need the same key. With
    --keys, makes a key of version 2 for the user NAME of a server.

    """
  }
  static var examples: Literal {
    """
    Examples:
      pyknock keygen -o knock.key
      pyknock keygen --keys /etc/pyknock/keys --host server.example.org alice

    See pyknock-keygen(1).

    """
  }
  static func operandMisuse(_ settings: Settings, _ operands: Operands, withKey: Bool) -> Misuse {
    .operands("write -o FILE, or --keys DIR and one NAME", given: operands.count)
  }
  static func operandCount(_ settings: Settings, _ operands: Operands, given: Int) -> Int {
    settings.users == nil ? 0 : 1
  }
  static func keyOperand(_ settings: Settings, _ operands: Operands) -> Int? { nil }

  static func run(
    _ settings: KeygenSettings, _ operands: Operands, keySource: KeySource?
  ) -> ExitCode {
    guard let memory = Storage<UInt8>.mapped(4096 + Descriptor.serverMemory) else {
      log.error("\(SystemError.outOfMemory)")
      return .failure
    }
    let exitCode = make(settings, operands[0], memory)
    Key.wipe(memory)
    return exitCode
  }

  @inline(never)
  private static func make(
    _ settings: KeygenSettings, _ name: Argument?, _ memory: borrowing Storage<UInt8>
  ) -> ExitCode {
    if let directory = settings.users, let name {
      return makeUser(name, in: directory, settings, memory)
    }
    var text = StorageText(memory.alias())
    if settings.isVersion2 { text.appendNewKey(for: nil) } else { text.appendNewKey() }
    text.append("\n")
    guard let path = settings.output, !(path == "-") else {
      logIfOthersSeeTheKey(isForPerson: false)
      do throws(SystemError) {
        try text.write(to: 1)
        return .success
      } catch {
        log.error("standard output: \(error)")
        return .failure
      }
    }
    do throws(SystemError) {
      let file = try Descriptor(making: path)
      do throws(SystemError) {
        try text.write(to: file.number)
        try file.sync()
      } catch {
        path.removeFile()
        throw error
      }
      return .success
    } catch {
      log.error("cannot make \(quoted: path): \(error)")
      return .failure
    }
  }

  /// - Parameter memory: for the key, and what is printed.
  private static func makeUser(
    _ name: Argument, in directory: Argument, _ settings: KeygenSettings,
    _ memory: borrowing Storage<UInt8>
  ) -> ExitCode {
    if let accepted = name.withBytes({ accepted(insteadOf: $0) }) {
      return fail(.badOperand("NAME", name, accepted: accepted))
    }
    var holders = KeyHolders()
    do throws(KeygenError) {
      try makeFile(name, in: directory, settings, memory, &holders)
      return .success
    } catch {
      log.error(
        "cannot make \(quoted: name) in \(quoted: directory): \(holders.message(of: error))")
      return .failure
    }
  }

  /// Nil if a user can have this name.
  private static func accepted(insteadOf name: Span<UInt8>) -> Literal? {
    if UserName(name) == nil { return UserName.rule }
    return UserName.isSkipped(name) ? "a user: the server skips such a file as a backup" : nil
  }

  /// Makes the file of a user. It gets its name once it is complete, and what is for the client is printed.
  private static func makeFile(
    _ name: Argument, in path: Argument, _ settings: KeygenSettings,
    _ memory: borrowing Storage<UInt8>, _ holders: inout KeyHolders
  ) throws(KeygenError) {
    // The server skips this name. A run that was killed may have left such a file, and the lock tells that no other
    // run uses it.
    let temporary: Literal = ".keygen"
    var directory = Descriptor.none
    let file: Descriptor
    do throws(SystemError) {
      file = try Descriptor(making: temporary, in: path, &directory)
    } catch { throw .system(error) }
    defer { directory.remove(temporary) }
    let server = try directory.findServer(besides: name, in: memory.part(from: 4096), &holders)
    var text = StorageText(memory.part(0..<4096))
    text.appendNewKey(for: server)
    text.append("\n")
    do throws(SystemError) {
      try text.write(to: file.number)
      try file.sync()
    } catch { throw .system(error) }
    if let host = settings.host { try print(host, name, text, printsLine: settings.printsLine) }
    do throws(SystemError) {
      try directory.link(temporary, as: name)
    } catch { throw .system(error) }
  }

  /// Prints what the client of a user needs.
  ///
  /// - Parameter text: the key and a line feed.
  @inline(never)
  private static func print(
    _ host: Argument, _ user: Argument, _ text: borrowing StorageText, printsLine: Bool
  ) throws(KeygenError) {
    let keyEnd = text.count - 1
    var output = StorageText(text.bytes.part(from: text.count))
    host.withBytes { hostText in
      guard let server = Endpoint(ofServer: hostText) else { return }
      let host = hostText.extracting(server.host)
      let port = server.port ?? 60120
      user.withBytes { user in
        text.bytes.withElements(0..<keyEnd) { key in
          if printsLine {
            output.appendLine(user: user, host: host, port: port, key: key)
          } else {
            output.appendSection(name: host, user: user, host: host, port: port, key: key)
          }
        }
      }
    }
    logIfOthersSeeTheKey(isForPerson: true)
    do throws(SystemError) { try output.write(to: 1) } catch { throw .output(error) }
  }

  /// Warns if others can read the key on the standard output.
  ///
  /// - Parameter isForPerson: whether somebody copies it from the terminal.
  private static func logIfOthersSeeTheKey(isForPerson: Bool) {
    do throws(SystemError) {
      let mode = try FileMode(of: 1)
      if mode.isTerminal, !isForPerson {
        log.warning("warning: the key shows on the terminal; -o FILE keeps it out of sight")
      } else if mode.isRegularFile, mode.permissions & 0o007 != 0 {
        log.warning(
          "warning: others have access to the file that the key goes to; chmod 600 prevents that")
      }
    } catch {}
  }
}
