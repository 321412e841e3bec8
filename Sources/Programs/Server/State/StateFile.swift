import KnockBase
import KnockServer

/// A file in the state directory: a page with a header, and records.
struct StateFile: ~Copyable {
  static var headerCount: Int { FileHeader.pageSize / MemoryLayout<UInt64>.stride }

  private let name: StaticString
  private let descriptor: Descriptor

  /// What is there under a name, or nil.
  static func existing(
    _ name: StaticString, in directory: borrowing StateDirectory
  ) throws(StateFailure) -> StateFile? {
    let descriptor = try StateFailure.wrapping { () throws(SystemError) in
      try directory.open(name)
    }
    guard let descriptor else { return nil }
    return StateFile(name: name, descriptor: descriptor)
  }

  /// Checks what is there under a name, and leaves it as it is.
  static func check(
    _ name: StaticString, in directory: borrowing StateDirectory,
    _ capacity: (borrowing Storage<UInt64>) throws(FileHeader.Failure) -> Int
  ) throws(StateFailure) {
    guard let file = try existing(name, in: directory), try file.size > 0 else { return }
    _ = try file.capacity(capacity)
  }

  /// An empty file. What has the name so far stays until `replace`.
  ///
  /// - Parameter temporary: the name that it has until then.
  init(
    replacing name: StaticString, as temporary: StaticString,
    in directory: borrowing StateDirectory
  ) throws(StateFailure) {
    let descriptor = try StateFailure.wrapping { () throws(SystemError) in
      try directory.make(temporary)
    }
    self.init(name: name, descriptor: descriptor)
  }

  private init(name: StaticString, descriptor: consuming Descriptor) {
    self.name = name
    self.descriptor = descriptor
  }

  /// In bytes.
  var size: Int {
    get throws(StateFailure) {
      try StateFailure.wrapping { () throws(SystemError) in try descriptor.size }
    }
  }

  /// How many records the header says that there are. Nil where it is damaged, or not all there.
  func capacity(
    _ read: (borrowing Storage<UInt64>) throws(FileHeader.Failure) -> Int
  ) throws(StateFailure) -> Int? {
    guard try size >= FileHeader.pageSize else { return nil }
    let page = try map(size: FileHeader.pageSize, reserving: false)
    defer { page.unmap() }
    do throws(FileHeader.Failure) {
      return try read(page.storage(at: 0, count: Self.headerCount))
    } catch {
      guard error == .damagedHeader else { throw .file(name: name, error) }
      return nil
    }
  }

  /// See `MappedFile`.
  func map(size: Int, reserving: Bool) throws(StateFailure) -> MappedFile {
    try StateFailure.wrapping { () throws(SystemError) in
      try MappedFile(descriptor, size: size, reserving: reserving)
    }
  }

  /// Takes the place of what had the name, once all of it is on the disk.
  func replace(_ temporary: StaticString, in directory: borrowing StateDirectory)
    throws(StateFailure)
  {
    try StateFailure.wrapping { () throws(SystemError) in
      try descriptor.sync()
      try directory.rename(temporary, to: name)
    }
  }
}

/// Why what is kept in the state directory cannot be used.
enum StateFailure: Error {
  case system(SystemError)
  case file(name: StaticString, FileHeader.Failure)
  /// What is in a file does not fit into the capacity that an option gives.
  case tooSmall(name: StaticString, count: Int, option: StaticString)

  static func wrapping<Value: ~Copyable>(
    _ body: () throws(SystemError) -> Value
  ) throws(StateFailure) -> Value {
    do throws(SystemError) {
      return try body()
    } catch { throw .system(error) }
  }

  func write(_ settings: ServerSettings, to report: Report) {
    var line = Line(.error)
    line.append(settings.stateDirectory == nil ? "memory: " : "--state: ")
    if let path = settings.stateDirectory {
      // With --list there is no key in the command line.
      line.append(quoted: path, if: settings.mayQuote || settings.listsGrants)
      line.append(": ")
    }
    line.append(self)
    report.write(line)
  }
}

extension TextSink where Self: ~Copyable {
  fileprivate mutating func append(_ failure: StateFailure) {
    switch failure {
    case .system(let error) where error == .wouldBlock:
      append("another server has it")
    case .system(let error) where error == .accessDenied:
      append(error)
      append(" (it must belong to us or root, and only its owner may write to it)")
    case .system(let error): append(error)
    case .file(let name, .foreign), .file(let name, .damagedHeader):
      append("'")
      append(name)
      append("' in it is not a file of pyknock")
    case .file(let name, .older(let version)):
      append("'")
      append(name)
      append("' in it has format ")
      append(version)
      append(", made by an older pyknock; remove it to start without what it holds")
    case .file(let name, .newer(let version)):
      append("'")
      append(name)
      append("' in it has format ")
      append(version)
      append(", made by a newer pyknock")
    case .tooSmall(let name, let count, let option):
      append("'")
      append(name)
      append("' in it holds ")
      append(count)
      append(", more than --")
      append(option)
    }
  }
}
