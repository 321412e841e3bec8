import CSystem
import KnockBase

/// What was read anew.
struct Reloaded: ~Copyable {
  let key: KeyedMAC
  let commands: Commands

  consuming func takeCommands() -> Commands { commands }
}

/// Reads anew, for HUP, the key file and the commands in the configuration file.
struct Reloader: ~Copyable {
  /// What is read must have room in so much (bytes): a file, a key, the commands, and the longest that they can expand
  /// to.
  private static let roomSize = 1 << 21
  /// How long the key file may keep the server from its work, should it be a pipe (milliseconds).
  private static let patience: Int64 = 1000

  private let settings: ServerSettings
  private let operands: Operands
  /// Two, by turns: one for what is in use, one for what may take its place.
  private let rooms: Storage<UInt8>
  private var room = 0

  /// Nil where the key was in no file.
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

  /// Reads both. Nil, with a report, where anything is not as it must be. It is valid until the next call; after
  /// `keep`, until the next but one.
  func read(_ report: Report) -> Reloaded? {
    unsafe csys_allocate_in(
      rooms.baseAddress.map { unsafe $0 + room * Self.roomSize }, Self.roomSize)
    defer { csys_allocate_in(nil, 0) }
    guard let new = settings.reread(report) else { return nil }
    guard let path = new.keyFile else {
      report.write("the configuration file has no key-file any more", as: .error)
      return nil
    }
    do throws(Misuse) {
      let commands = try Commands(new, operands)
      guard commands.canRun(report, mayQuote: true) else { return nil }
      do throws(KeyError) {
        let key = try Key.load(.file(path), within: Self.patience, report: report)
        return Reloaded(key: key, commands: commands)
      } catch {
        Key.write(error, of: path, to: report)
        return nil
      }
    } catch {
      var line = Line(.error)
      error.describe(to: &line, mayQuote: true)
      report.write(line)
      return nil
    }
  }

  mutating func keep() { room = 1 - room }
}
