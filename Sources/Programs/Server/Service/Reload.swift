import KnockBase
import KnockServer

/// A key and commands that were read for HUP.
struct Reloaded: ~Copyable {
  /// The key of the user without a name; nil if there is no file for it, or no longer.
  let key: Key?
  let commands: Commands
  fileprivate let settings: ServerSettings
  fileprivate let operands: Operands
  /// Whether the configuration file has other changes, which only a restart applies.
  let needsRestart: Bool

  consuming func takeCommands() -> Commands { commands }

  func logWarnings() {
    if let source = settings.keyFileSource { key?.logWarnings(about: source) }
    settings.logCommandWarnings(operands)
    if needsRestart {
      log.warning(
        "warning: other changes in the configuration file take effect when the server restarts")
    }
  }
}

/// Why the server keeps its key and commands.
enum ReloadError: Error {
  case configuration(ConfigurationError<ServerOption>)
  case key(KeyFileError)
  case misuse(Misuse)
  case user(UserFault)
  case command(Commands.Failure)
  /// What was read cannot be used together.
  case unsuitable(Literal)
}

extension ReloadError: MessageConvertible {
  @inline(never)
  var message: Message {
    switch self {
    case .configuration(let error): error.message
    case .key(let error): error.message
    case .misuse(let misuse): misuse.message
    case .user(.otherServer(let name)):
      "the key of -k: \(UserFault.otherServer(than: name)); to change the keys of all, restart"
    case .user(let error): "the key of -k: \(error)"
    case .command(let error): error.message
    case .unsuitable(let reason): "\(reason)"
    }
  }
}

/// Reads the key file, and the commands in the configuration file, again for HUP.
struct Reloader: ~Copyable {
  /// The room for a file, a key, the commands, and their longest expansion (bytes).
  private static let roomSize = 1 << 21
  /// How long a key file that is a pipe may keep the server from its work.
  private static let patience = Microseconds.second

  private let settings: ServerSettings
  private let operands: Operands
  /// Two, used by turns: one for what is in use, one for what may replace it.
  private let rooms: Storage<UInt8>
  private var room = 0
  /// Whether the key of the user without a name came from a file, so that it can be gone.
  private(set) var hasKeyFile: Bool

  /// Nil if there is nothing to read again: the key was in no file, and there is no directory of keys.
  ///
  /// - Parameters:
  ///   - settings: those of the start.
  ///   - operands: those of the command line, without the key.
  /// - Throws: ENOMEM.
  static func make(
    _ settings: ServerSettings, _ operands: Operands
  ) throws(SystemError) -> Reloader? {
    guard settings.keysDirectory != nil || settings.rereadsKey else { return nil }
    guard let rooms = Storage<UInt8>.mapped(2 * roomSize) else {
      throw .outOfMemory
    }
    return Reloader(settings: settings, operands: operands, rooms: rooms)
  }

  private init(settings: ServerSettings, operands: Operands, rooms: consuming Storage<UInt8>) {
    self.settings = settings
    self.operands = operands
    self.rooms = rooms
    hasKeyFile = settings.rereadsKey
  }

  /// What the user without a name may do, by the options of the start.
  func policy(_ names: borrowing SetNames, opensByCommand: Bool) -> Policy {
    settings.policy(names, opensByCommand: opensByCommand)
  }

  /// Reads both. The result is valid until the next call, or after `keep` until the one after that.
  @inline(never)
  func read() throws(ReloadError) -> Reloaded {
    let start = room * Self.roomSize
    rooms.useAsMemory(start..<start + Self.roomSize)
    defer { Storage<UInt8>.useSystemMemory() }
    let new: ServerSettings
    do throws(ConfigurationError<ServerOption>) {
      new = try settings.reread()
    } catch { throw .configuration(error) }
    return Reloaded(
      key: try key(new), commands: try commands(new), settings: new, operands: operands,
      needsRestart: settings.needsRestart(for: new))
  }

  /// With a directory of keys, it may be gone.
  @inline(never)
  private func key(_ settings: ServerSettings) throws(ReloadError) -> Key? {
    guard settings.rereadsKey, let path = settings.keyFile, let source = settings.keyFileSource
    else {
      if settings.keysDirectory != nil { return nil }
      throw .unsuitable("the configuration file has no key-file any more")
    }
    do throws(KeyError) {
      return try Key(from: source, within: Self.patience)
    } catch {
      if case .notFound = error, settings.keysDirectory != nil { return nil }
      throw .key(
        KeyFileError(path: path, isConfigured: settings.configuresKeyFile, error: error))
    }
  }

  @inline(never)
  private func commands(_ settings: ServerSettings) throws(ReloadError) -> Commands {
    let commands = try makeCommands(settings)
    do throws(Commands.Failure) {
      try commands.check()
      return commands
    } catch { throw .command(error) }
  }

  private func makeCommands(_ settings: ServerSettings) throws(ReloadError) -> Commands {
    do throws(Misuse) {
      return try Commands(settings, operands)
    } catch { throw .misuse(error) }
  }

  /// Keeps what was read last.
  mutating func keep(hasKeyFile: Bool) {
    room = 1 - room
    self.hasKeyFile = hasKeyFile
  }
}
