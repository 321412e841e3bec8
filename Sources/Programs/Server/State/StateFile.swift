import KnockBase
import KnockServer

/// A file in the state directory: a page that begins with a header, and then records.
struct StateFile: ~Copyable {
  static var headerCount: Int { FileHeader.pageSize / MemoryLayout<UInt64>.stride }

  enum Name {
    case replay, grants

    var text: StaticString {
      switch self {
      case .replay: "replay"
      case .grants: "grants"
      }
    }

    /// The name of a new file until it replaces the old one.
    fileprivate var temporary: StaticString {
      switch self {
      case .replay: "replay.new"
      case .grants: "grants.new"
      }
    }
  }

  private let name: Name
  private let descriptor: Descriptor

  /// The file that has a name; nil if there is none.
  static func existing(
    _ name: Name, in directory: borrowing StateDirectory
  ) throws(StateFailure) -> StateFile? {
    let descriptor = try StateFailure.wrapping { () throws(SystemError) in
      try directory.open(name.text)
    }
    guard let descriptor else { return nil }
    return StateFile(name: name, descriptor: descriptor)
  }

  /// Checks the file that has a name, if there is one, without a change.
  static func check(
    _ name: Name, in directory: borrowing StateDirectory,
    _ capacity: (borrowing Storage<UInt64>) throws(FileHeader.Failure) -> Int
  ) throws(StateFailure) {
    guard let file = try existing(name, in: directory), try file.size > 0 else { return }
    _ = try file.capacity(capacity)
  }

  /// Makes an empty file. The file that has the name now keeps it until `takeName`.
  init(
    replacing name: Name, in directory: borrowing StateDirectory
  ) throws(StateFailure) {
    let descriptor = try StateFailure.wrapping { () throws(SystemError) in
      try directory.make(name.temporary)
    }
    self.init(name: name, descriptor: descriptor)
  }

  private init(name: Name, descriptor: consuming Descriptor) {
    self.name = name
    self.descriptor = descriptor
  }

  /// In bytes.
  var size: Int {
    get throws(StateFailure) {
      try StateFailure.wrapping { () throws(SystemError) in try descriptor.size }
    }
  }

  /// How many records the header counts; nil if the header is damaged or incomplete, or that of a replay memory
  /// of an older format.
  func capacity(
    _ read: (borrowing Storage<UInt64>) throws(FileHeader.Failure) -> Int
  ) throws(StateFailure) -> Int? {
    guard try size >= FileHeader.pageSize else { return nil }
    let page = try map(size: FileHeader.pageSize, reserving: false)
    defer { page.unmap() }
    do throws(FileHeader.Failure) {
      return try read(page.storage(at: 0, count: Self.headerCount))
    } catch {
      switch (error, name) {
      // An upgrade must not keep the server from its work. As after a damage, what the file may hold is refused.
      case (.damagedHeader, _), (.older, .replay): return nil
      default: throw .file(name, error)
      }
    }
  }

  /// See `MappedFile`.
  func map(size: Int, reserving: Bool) throws(StateFailure) -> MappedFile {
    try StateFailure.wrapping { () throws(SystemError) in
      try MappedFile(descriptor, size: size, reserving: reserving)
    }
  }

  /// Takes the name from the old file, once everything is on the disk.
  func takeName(in directory: borrowing StateDirectory) throws(StateFailure) {
    try StateFailure.wrapping { () throws(SystemError) in
      try descriptor.sync()
      try directory.rename(name.temporary, to: name.text)
    }
  }
}
