import CSodium
import KnockBase
import KnockServer

struct KeygenSettings: AppletSettings {
  enum Option: UInt8, OptionTable {
    case output, keys, help, version

    var spec: OptionSpec {
      switch self {
      case .output:
        OptionSpec(
          "o", "output", value: "FILE", "write it to a new FILE, mode 600 (- for stdout)")
      case .keys: OptionSpec(nil, "keys", value: "DIR", "make the user NAME: a new file DIR/NAME")
      case .help: .help
      case .version: .version
      }
    }

    var heading: Literal? { self == .output ? "Options" : nil }
  }

  /// Nil for the standard output.
  private(set) var output: Argument?
  /// The directory of a server's users.
  private(set) var users: Argument?
  var keyFile: Argument? { nil }
  var showsArguments: Bool { true }

  mutating func apply(_ option: Option, _ value: Argument?) throws(Misuse) {
    if option == .output { output = value } else { users = value }
  }

  func validate() throws(Misuse) {
    guard output == nil || users == nil else {
      throw .unsuitable(Option.keys.spec.name, ": only one of -o and --keys can be given")
    }
  }
}

/// Makes a key: 32 random bytes as base64url (RFC 4648, section 5) without padding.
enum KeygenApplet: Applet {
  static var program: Literal { "pyknock keygen" }
  static var usage: Literal { "usage: pyknock keygen [-o FILE | --keys DIR NAME]" }
  static var description: Literal {
    """
    Makes a key of 32 random bytes and prints it: a line of 43 characters. Server
    and client need the same key.

    """
  }
  static var examples: Literal {
    """
    Examples:
      pyknock keygen -o knock.key
      pyknock keygen --keys /etc/pyknock/keys alice

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
    if let directory = settings.users, let name = operands[0] {
      return makeUser(name, in: directory)
    }
    guard let path = settings.output, !(path == "-") else {
      logIfOthersSeeTheKey()
      return printToStandardOutput { writeKey(to: &$0) }
    }
    do throws(SystemError) {
      let file = try Descriptor(making: path)
      do throws(SystemError) {
        try writeKey(to: file)
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

  private static func makeUser(_ name: Argument, in directory: Argument) -> ExitCode {
    if let accepted = name.withBytes({ accepted(insteadOf: $0) }) {
      return fail(.badOperand("NAME", name, accepted: accepted))
    }
    do throws(SystemError) {
      try makeFile(name, in: directory)
      return .success
    } catch {
      log.error("cannot make \(quoted: name) in \(quoted: directory): \(error)")
      return .failure
    }
  }

  /// Nil if a user can have this name.
  private static func accepted(insteadOf name: Span<UInt8>) -> Literal? {
    if UserName(name) == nil { return UserName.rule }
    return UserName.isSkipped(name) ? "a user: the server skips such a file as a backup" : nil
  }

  /// Makes the file of a user. It gets its name once it is complete.
  private static func makeFile(_ name: Argument, in path: Argument) throws(SystemError) {
    // The server skips this name. A run that was killed may have left such a file, and the lock tells that no other
    // run uses it.
    let temporary: Literal = ".keygen"
    var directory = Descriptor.none
    let file = try Descriptor(making: temporary, in: path, &directory)
    defer { directory.remove(temporary) }
    try writeKey(to: file)
    try directory.link(temporary, as: name)
  }

  /// Waits until the key is on the disk.
  private static func writeKey(to file: borrowing Descriptor) throws(SystemError) {
    var text = TextOutput(descriptor: file.number)
    writeKey(to: &text)
    try text.finish()
    try file.sync()
  }

  /// Warns if others can read the key on the standard output.
  private static func logIfOthersSeeTheKey() {
    do throws(SystemError) {
      let mode = try FileMode(of: 1)
      if mode.isTerminal {
        log.warning("warning: the key shows on the terminal; -o FILE keeps it out of sight")
      } else if mode.isRegularFile, mode.permissions & 0o007 != 0 {
        log.warning("warning: others have access to the file that the key goes to; use -o FILE")
      }
    } catch {}
  }

  /// Writes a key and a line feed. A key never begins with `-`: as the PSK operand it would look like an
  /// option, here and in the original.
  static func writeKey(to sink: inout some TextSink & ~Copyable) {
    var key = InlineArray<44, UInt8>(repeating: 0)
    var random = InlineArray<32, UInt8>(repeating: 0)
    var keyBytes = key.mutableSpan
    var randomBytes = random.mutableSpan
    unsafe randomBytes.withUnsafeMutableBufferPointer { random in
      unsafe keyBytes.withUnsafeMutableBytes { key in
        guard let randomStart = random.baseAddress,
          let keyStart = unsafe key.baseAddress?.assumingMemoryBound(to: CChar.self)
        else { return }
        repeat {
          unsafe randombytes_buf(randomStart, random.count)
          _ = unsafe sodium_bin2base64(
            keyStart, key.count, randomStart, random.count,
            sodium_base64_VARIANT_URLSAFE_NO_PADDING)
        } while unsafe key[0] == UInt8(ascii: "-")
        unsafe sodium_memzero(randomStart, random.count)
      }
    }
    sink.append(key.span.extracting(first: 43))
    sink.append("\n")
    var spentBytes = key.mutableSpan
    unsafe spentBytes.withUnsafeMutableBytes { unsafe sodium_memzero($0.baseAddress, $0.count) }
  }
}
