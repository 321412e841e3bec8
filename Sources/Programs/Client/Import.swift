import KnockBase
import KnockProtocol
import KnockServer

/// `pyknock client import`: puts a server into the user's client.conf.
struct Import: ~Copyable {
  private let path: Argument
  private let folder: Descriptor
  private static var name: Literal { "client.conf" }
  private static var temporary: Literal { "client.conf.new" }
  /// Of client.conf, in bytes.
  private static let limit = 65_536

  /// - Parameter name: what the client shall call the server; nil for its host.
  @inline(never)
  static func run(_ name: Argument?) throws(ClientError) {
    if let name, !name.withBytes({ $0.isServerName }) {
      throw .misuse(
        .badOperand(
          "NAME", name,
          accepted: "a name of letters, digits, - _ and . (the line is read from standard input)"))
    }
    guard let memory = Storage<UInt8>.mapped(4096) else { throw .system(.outOfMemory) }
    defer { Key.wipe(memory) }
    let count: Int
    do throws(KeyError) {
      count = try Key.readLine(
        from: 0, prompt: "line of keygen --line (not shown): ", into: memory,
        within: Key.readTimeout)
    } catch { throw .notImported(.input(error)) }
    try memory.withElements(0..<count) { line throws(ClientError) in
      let server = try checked(line)
      let file = try locked()
      if let name {
        try name.withBytes { name throws(ClientError) in try file.add(line, server, name) }
      } else {
        try file.add(line, server, line.extracting(server.host))
      }
    }
  }

  private static func checked(_ line: Span<UInt8>) throws(ClientError) -> ServerLine {
    let server: ServerLine
    do throws(ServerLine.Fault) {
      server = try ServerLine(line)
    } catch { throw .notImported(.line(error)) }
    do throws(KeyError) {
      let key = try Key.version2(line.extracting(server.key))
      _ = consume key
    } catch { throw .notImported(.input(error)) }
    return server
  }

  /// Locks the folder of client.conf, and makes it if there is none.
  private static func locked() throws(ClientError) -> Import {
    guard let path = try ClientConfiguration.userFolder() else { throw .notImported(.noFolder) }
    let file = try ClientConfiguration.path(in: path, ClientConfiguration.fileName)
    do throws(SystemError) {
      let folder = try Descriptor(ownFolder: path)
      try folder.lock()
      return Import(path: file, folder: folder)
    } catch { throw .notImported(.file(path, error)) }
  }

  /// Puts a section before all others.
  private func add(
    _ line: Span<UInt8>, _ server: ServerLine, _ name: Span<UInt8>
  ) throws(ClientError) {
    guard let old = Storage<UInt8>.mapped(Self.limit + 1),
      let new = Storage<UInt8>.mapped(Self.limit + 1)
    else { throw .system(.outOfMemory) }
    defer {
      Key.wipe(old)
      Key.wipe(new)
    }
    let oldCount = try read(into: old)
    var first: ClientKeyword?
    var isTaken = false
    try ClientConfiguration.read(path) { keyword, value in
      first = first ?? keyword
      if keyword == .host {
        value.withBytes { $0.visitWords { if $0.equals(name) { isTaken = true } } }
      }
      return false
    }
    guard !isTaken else { throw .notImported(.nameTaken(path)) }
    var text = StorageText(new.alias())
    text.appendSection(
      name: name, user: line.extracting(server.user), host: line.extracting(server.host),
      port: server.port, key: line.extracting(server.key))
    if oldCount > 0 { text.append("\n") }
    // Lines before the first section are for all hosts. Behind our section they would be for ours alone.
    if let first, first != .host { text.append("Host *\n") }
    old.withElements(0..<oldCount) { text.append($0) }
    do throws(SystemError) {
      guard text.count <= Self.limit else { throw .fileTooLarge }
      try write(text)
    } catch { throw .notImported(.file(path, error)) }
  }

  /// Reads the file, if there is one. Returns its size.
  private func read(into memory: borrowing Storage<UInt8>) throws(ClientError) -> Int {
    do throws(SystemError) {
      let file = try folder.open(Self.name, making: false)
      if try FileMode(of: file.number).permissions & 0o077 == 0 {
        return try TextFile(file, into: memory.alias()).count
      }
    } catch {
      switch error {
      case .notFound: return 0
      case .isLink: throw .notImported(.link(path))
      default: throw .notImported(.file(path, error))
      }
    }
    throw .notImported(.readableByOthers(path))
  }

  /// The file is the old one or the new one, whenever this is stopped.
  private func write(_ text: borrowing StorageText) throws(SystemError) {
    let file = try unsafe folder.makeFile(Self.temporary.cString, mode: 0o600)
    do throws(SystemError) {
      try text.write(to: file.number)
      try file.sync()
      try unsafe folder.rename(Self.temporary.cString, to: Self.name.cString)
    } catch {
      folder.remove(Self.temporary)
      throw error
    }
    try folder.sync()
  }
}
