import KnockBase
import KnockServer

/// A file in the state directory as an earlier server has left it: a page that begins with a header, and then
/// records.
struct OldStateFile: ~Copyable {
  private let name: StateFile.Name
  /// `Descriptor.none` if the disk cannot read it.
  private let descriptor: Descriptor
  let size: Int

  /// Nil if there is none.
  @inline(never)
  init?(_ name: StateFile.Name, in directory: borrowing StateDirectory) throws(StateFailure) {
    var descriptor = Descriptor.none
    var size = 0
    do throws(SystemError) {
      guard let found = try directory.open(name.text) else { return nil }
      size = try found.size
      descriptor = found
    } catch {
      guard error.isOfDisk else { throw .system(error) }
    }
    self.name = name
    self.descriptor = descriptor
    self.size = size
  }

  /// Checks the file, without a change.
  @inline(never)
  static func check(
    _ name: StateFile.Name, in directory: borrowing StateDirectory,
    _ capacity: (borrowing Storage<UInt64>) throws(FileHeader.Failure) -> Int
  ) throws(StateFailure) {
    guard let file = try OldStateFile(name, in: directory), file.size > 0 else { return }
    _ = try file.capacity(of: file.page(), capacity)
  }

  /// The first page; all zero where it cannot be read.
  @inline(never)
  func page() throws(StateFailure) -> Storage<UInt64> {
    let page = try StateFile.memory(StateFile.pageCount, of: UInt64.self)
    do throws(SystemError) { _ = try descriptor.read(into: page, at: 0) } catch {}
    return page
  }

  /// Copies the first page; what cannot be read stays as it is.
  func copyPage(to page: borrowing Storage<UInt8>) {
    do throws(SystemError) { _ = try descriptor.read(into: page, at: 0) } catch {}
  }

  /// How many records the header counts; nil if the header is damaged or incomplete, or that of an older format.
  @inline(never)
  func capacity(
    of page: borrowing Storage<UInt64>,
    _ read: (borrowing Storage<UInt64>) throws(FileHeader.Failure) -> Int
  ) throws(StateFailure) -> Int? {
    guard size >= FileHeader.pageSize else { return nil }
    do throws(FileHeader.Failure) {
      return try read(page)
    } catch {
      switch error {
      // An upgrade must not keep the server from its work: nobody may be able to log in before it runs.
      case .damagedHeader, .older: return nil
      case .foreign, .newer: throw .file(name, error)
      }
    }
  }

  /// Copies the records to the same places of zeroed memory. What cannot be read stays zero.
  func copy<Record>(to records: borrowing Storage<Record>) throws(StateFailure) {
    try copy(to: records.numbers, sizeOfRecord: MemoryLayout<Record>.stride / 8)
  }

  @inline(never)
  private func copy(
    to numbers: borrowing Storage<UInt64>, sizeOfRecord size: Int
  ) throws(StateFailure) {
    let some = try StateFile.memory(64 * size, of: UInt64.self)
    var start = 0
    while start < numbers.count {
      var count = 0
      do throws(SystemError) {
        count = try descriptor.read(into: some, at: FileHeader.pageSize + start * 8)
      } catch {}
      // Only whole records.
      count = min(count / size * size, numbers.count - start)
      // Memory is touched only where there are records.
      for index in 0..<count where some[index] != 0 { numbers[start + index] = some[index] }
      start += some.count
    }
  }
}

/// A file in the state directory as the running server writes it. It holds what the memory of the process holds.
///
/// A disk that is full, read-only or broken ends nothing. The file is then behind, and is written again from its
/// beginning when the disk allows it.
struct StateFile: ~Copyable {
  enum Name {
    case replay, grants, users

    var text: Literal {
      switch self {
      case .replay: "replay"
      case .grants: "grants"
      case .users: "users"
      }
    }
  }

  static var pageCount: Int { FileHeader.pageSize / MemoryLayout<UInt64>.stride }

  /// The time between two attempts to write a file that is behind, unless there is more to write.
  private static let retryInterval = 10 * Microseconds.second
  /// The time between two log lines about it.
  private static let lineInterval = 60 * Microseconds.second

  private let name: Name
  /// If it changes, all is written.
  var size: Int
  private var descriptor = Descriptor.none
  /// Whether all of it is to be written.
  private var needsAll: Bool
  /// Whether it lacks something that could not be written.
  private(set) var isBehind = false
  /// When the next attempt is due, in monotonic microseconds.
  private(set) var nextDeadline = Int64.max
  private var nextLine = Int64.min

  init(_ name: Name, size: Int, needsAll: Bool) {
    self.name = name
    self.size = size
    self.needsAll = needsAll
  }

  /// Zeroed memory.
  static func memory<Element>(
    _ count: Int, of _: Element.Type
  ) throws(StateFailure) -> Storage<Element> {
    guard let memory = Storage<Element>.mapped(count) else { throw .system(.outOfMemory) }
    return memory
  }

  /// Has `write` write what the file lacks. Logs if that fails, and when all is well again.
  ///
  /// - Parameter write: gets the file, and whether it must write all.
  mutating func logSave(
    in directory: inout StateDirectory, now: Int64,
    _ write: (borrowing Descriptor, Bool) throws(SystemError) -> Void
  ) {
    do throws(SystemError) {
      let isOpened = isBehind || !descriptor.isOpen
      if isOpened { try open(in: &directory) }
      // Somebody may have cut it short.
      let oldSize = try descriptor.size
      needsAll = needsAll || oldSize != size
      if needsAll {
        if name == .replay { try cut() }
        try descriptor.reserve(size)
      }
      try write(descriptor, needsAll)
      // Grants that an earlier server had at the end are now at the beginning.
      if needsAll { try descriptor.resize(to: size) }
      // If the last server ended in order, the disk says that nothing is missing. After a power cut it must no longer
      // say so.
      if isOpened, name == .replay { try descriptor.sync() }
      needsAll = false
      guard isBehind else { return }
      isBehind = false
      nextDeadline = .max
      log.warning("--state: '\(name.text)' is written again, and lacks nothing")
    } catch {
      if !isBehind, name == .replay, descriptor.isOpen {
        do throws(SystemError) { try cut() } catch {}
      }
      needsAll = true
      isBehind = true
      nextDeadline = now + Self.retryInterval
      guard nextLine <= now else { return }
      nextLine = now + Self.lineInterval
      log.warning(
        "warning: --state: '\(name.text)' cannot be written: \(error); it is kept in memory until it can"
      )
    }
  }

  /// Opens it, also again: the file system may have been read-only. After `--user`, that may be forbidden, and what is
  /// open has to do.
  private mutating func open(in directory: inout StateDirectory) throws(SystemError) {
    do throws(SystemError) {
      descriptor = try directory.make(name.text)
    } catch {
      guard error == .accessDenied, descriptor.isOpen else { throw error }
    }
  }

  /// Leaves only the first page. This takes no room, and a later server sees that knocks are missing.
  private func cut() throws(SystemError) { try descriptor.resize(to: FileHeader.pageSize) }

  /// Waits until the file is on the disk.
  func sync() throws(SystemError) { try descriptor.sync() }
}
