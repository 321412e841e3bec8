import KnockBase

/// A key and commands that were read for HUP.
struct Reloaded: ~Copyable {
  let key: Key
  let commands: Commands
  fileprivate let settings: ServerSettings
  fileprivate let operands: Operands
  /// Whether the configuration file has other changes, which only a restart applies.
  let needsRestart: Bool

  consuming func takeCommands() -> Commands { commands }

  func logWarnings() {
    if let source = settings.keyFileSource { key.logWarnings(about: source) }
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
  case noKeyFile
  case key(KeyFileError)
  case misuse(Misuse)
  case command(Commands.Failure)
  case needsPrivileges, nothingToRun, nothingToClose
  case receiver(SystemError)
}

extension ReloadError: MessageConvertible {
  var message: Message {
    switch self {
    case .configuration(let error): error.message
    case .noKeyFile: "the configuration file has no key-file any more"
    case .key(let error): error.message
    case .misuse(let misuse): misuse.message
    case .command(let error): error.message
    case .needsPrivileges:
      "commands need a restart: the server has dropped the privileges that they may need"
    case .nothingToRun: "there is no command any more, and no set"
    case .nothingToClose: "there is no close-command any more, and no set"
    case .receiver(let error): "receiver: \(error)"
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

  /// Nil if the key was in no file.
  ///
  /// - Parameters:
  ///   - settings: those of the start.
  ///   - operands: those of the command line, without the key.
  /// - Throws: ENOMEM.
  static func make(
    _ settings: ServerSettings, _ operands: Operands
  ) throws(SystemError) -> Reloader? {
    guard let path = settings.keyFile, !(path == "-") else { return nil }
    guard let rooms = Storage<UInt8>.mapped(2 * roomSize) else {
      throw .outOfMemory
    }
    return Reloader(settings: settings, operands: operands, rooms: rooms)
  }

  private init(settings: ServerSettings, operands: Operands, rooms: consuming Storage<UInt8>) {
    self.settings = settings
    self.operands = operands
    self.rooms = rooms
  }

  /// Reads both. The result is valid until the next call, or after `keep` until the one after that.
  func read() throws(ReloadError) -> Reloaded {
    let start = room * Self.roomSize
    rooms.useAsMemory(start..<start + Self.roomSize)
    defer { Storage<UInt8>.useSystemMemory() }
    let new: ServerSettings
    do throws(ConfigurationError<ServerOption>) {
      new = try settings.reread()
    } catch { throw .configuration(error) }
    guard let path = new.keyFile, let source = new.keyFileSource else { throw .noKeyFile }
    let commands = try commands(new)
    do throws(KeyError) {
      let key = try Key(from: source, within: Self.patience)
      return Reloaded(
        key: key, commands: commands, settings: new, operands: operands,
        needsRestart: settings.needsRestart(for: new))
    } catch {
      throw .key(
        KeyFileError(path: path, isConfigured: new.configuresKeyFile, error: error))
    }
  }

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
  mutating func keep() { room = 1 - room }
}
