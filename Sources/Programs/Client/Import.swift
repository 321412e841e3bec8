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
    guard let memory = Storage<UInt8>.mapped(limit * 3) else { throw .system(.outOfMemory) }
    defer { Key.wipe(memory) }
    try add(name, memory)
  }

  /// - Parameter memory: for the line, the file as it is, and as it will be.
  @inline(never)
  private static func add(
    _ name: Argument?, _ memory: borrowing Storage<UInt8>
  ) throws(ClientError) {
    let input = memory.part(0..<4096)
    let files = memory.part(4096..<memory.count)
    let count: Int
    do throws(KeyError) {
      count = try Key.readLine(
        from: 0, prompt: "line of keygen --line (not shown): ", into: input,
        within: Key.readTimeout)
    } catch { throw .notImported(.input(error)) }
    try input.withElements(0..<count) { line throws(ClientError) in
      let server: ServerLine
      do throws(ImportFault) { server = try checked(line) } catch { throw .notImported(error) }
      let file = try locked()
      if let name {
        try name.withBytes { name throws(ClientError) in try file.add(line, server, name, files) }
      } else {
        try file.add(line, server, line.extracting(server.host), files)
      }
    }
  }

  @inline(never)
  private static func checked(_ line: Span<UInt8>) throws(ImportFault) -> ServerLine {
    let server: ServerLine
    do throws(ServerLine.Fault) { server = try ServerLine(line) } catch { throw .line(error) }
    do throws(KeyError) {
      let key = try Key.version2(line.extracting(server.key))
      _ = consume key
    } catch { throw .input(error) }
    return server
  }

  /// Locks the folder of client.conf, and makes it if there is none.
  @inline(never)
  private static func locked() throws(ClientError) -> Import {
    var path: Argument?
    do throws(SystemError) {
      path = try ClientConfiguration.userFolder()
      if let path {
        let file = try ClientConfiguration.path(in: path, ClientConfiguration.fileName)
        let folder = try Descriptor(ownFolder: path)
        try folder.lock()
        return Import(path: file, folder: folder)
      }
    } catch { throw .notImported(.file(path ?? Argument(name), error)) }
    throw .notImported(.noFolder)
  }

  /// Puts a section before all others.
  @inline(never)
  private func add(
    _ line: Span<UInt8>, _ server: ServerLine, _ name: Span<UInt8>,
    _ memory: borrowing Storage<UInt8>
  ) throws(ClientError) {
    let old = memory.part(0..<Self.limit + 1)
    let oldCount: Int
    do throws(ImportFault) { oldCount = try read(into: old) } catch { throw .notImported(error) }
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
    var text = StorageText(memory.part(Self.limit + 1..<2 * (Self.limit + 1)))
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
  @inline(never)
  private func read(into memory: borrowing Storage<UInt8>) throws(ImportFault) -> Int {
    do throws(SystemError) {
      let file = try folder.open(Self.name, making: false)
      if try FileMode(of: file.number).permissions & 0o077 == 0 {
        return try TextFile(file, into: memory.alias()).count
      }
    } catch {
      switch error {
      case .notFound: return 0
      case .isLink: throw .link(path)
      default: throw .file(path, error)
      }
    }
    throw .readableByOthers(path)
  }

  /// The file is the old one or the new one, whenever this is stopped.
  @inline(never)
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
    do throws(SystemError) {
      try folder.sync()
    } catch {
      log.warning(
        "warning: \(quoted: path) has the section, but may lose it in a power cut: \(error)")
    }
  }
}
