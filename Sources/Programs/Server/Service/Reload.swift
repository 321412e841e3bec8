import CSystem
import KnockBase

/// A key and commands that were read for HUP.
struct Reloaded: ~Copyable {
  let key: KeyedMAC
  let commands: Commands

  consuming func takeCommands() -> Commands { commands }
}

/// Why the server keeps its key and commands.
enum ReloadError: Error {
  /// A file is wrong, and the log already says how.
  case file
  case noKeyFile
  case command(Commands.Failure)
  case needsPrivileges, nothingToRun, nothingToClose
  case receiver(SystemError)
}

extension ReloadError: MessageConvertible {
  var message: Message {
    switch self {
    case .file: ""
    case .noKeyFile: "the configuration file has no key-file any more"
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
  /// How long a key file that is a pipe may keep the server from its work (milliseconds).
  private static let patience: Int64 = 1000

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
      throw SystemError(number: ENOMEM)
    }
    return Reloader(settings: settings, operands: operands, rooms: rooms)
  }

  private init(settings: ServerSettings, operands: Operands, rooms: consuming Storage<UInt8>) {
    self.settings = settings
    self.operands = operands
    self.rooms = rooms
  }

  /// Reads both. The result is valid until the next call, or after `keep` until the one after that.
  func read(_ report: Report) throws(ReloadError) -> Reloaded {
    unsafe csys_allocate_in(
      rooms.baseAddress.map { unsafe $0 + room * Self.roomSize }, Self.roomSize)
    defer { csys_allocate_in(nil, 0) }
    guard let new = settings.reread(report) else { throw .file }
    guard let path = new.keyFile else { throw .noKeyFile }
    let commands: Commands
    do throws(Misuse) {
      commands = try Commands(new, operands)
    } catch {
      var line = Line(.error)
      error.describe(to: &line, mayQuote: true)
      report.write(line)
      throw .file
    }
    do throws(Commands.Failure) {
      try commands.check()
    } catch { throw .command(error) }
    do throws(KeyError) {
      let key = try Key.load(.file(path), within: Self.patience, report: report)
      return Reloaded(key: key, commands: commands)
    } catch {
      Key.write(error, of: path, to: report)
      throw .file
    }
  }

  /// Keeps what was read last.
  mutating func keep() { room = 1 - room }
}
