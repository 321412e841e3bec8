import CSystem
import KnockBase

/// The file of `--metrics`, in the text format of Prometheus, for who collects such files (the textfile collector of
/// node_exporter, for one).
struct Metrics: ~Copyable {
  /// The least time between two writings (milliseconds).
  private static let interval: Int64 = 15_000

  private let path: Argument
  /// The directory that it is in.
  private let directory: Descriptor
  private let temporaryName: StorageText
  /// When it is looked at next whether there is something to write, in monotonic milliseconds.
  private(set) var deadline = Int64.min
  private var written: UInt64?
  private var hasFailed = false

  /// - Throws: what open(2) says of the directory.
  init(_ path: Argument) throws(SystemError) {
    let directory = Descriptor(owning: try SystemError.check(unsafe csys_open_parent(path.pointer)))
    guard let memory = Storage<UInt8>.mapped(path.count + 5) else {
      throw SystemError(number: ENOMEM)
    }
    var name = StorageText(memory)
    path.withBytes { path in
      name.append(path.extracting(Self.nameStart(path)...))
    }
    name.append(".tmp\0")
    self.path = path
    self.directory = directory
    temporaryName = name
  }

  private static func nameStart(_ path: Span<UInt8>) -> Int {
    var start = 0
    for index in path.indices where path[index] == UInt8(ascii: "/") { start = index + 1 }
    return start
  }

  /// Writes the file, if it is time for it and something has changed.
  ///
  /// - Parameters:
  ///   - checksum: tells whether something has.
  ///   - body: writes the text.
  mutating func update(
    _ checksum: UInt64, now: Int64, _ report: Report, _ body: (inout FileText) -> Void
  ) {
    guard deadline <= now else { return }
    deadline = now + Self.interval
    guard written != checksum else { return }
    do throws(SystemError) {
      try write(body)
      written = checksum
      hasFailed = false
    } catch {
      // Once, until it works again.
      if !hasFailed { report.write("--metrics", path) { $0.append(error) } }
      hasFailed = true
    }
  }

  private func write(_ body: (inout FileText) -> Void) throws(SystemError) {
    guard let temporary = unsafe temporaryName.start else { return }
    let file = Descriptor(
      owning: try SystemError.check(unsafe csys_create_for_all(directory.number, temporary)))
    var text = FileText(descriptor: file.number)
    body(&text)
    try text.finish()
    let start = path.withBytes { Self.nameStart($0) }
    _ = try SystemError.check(
      unsafe csys_rename(directory.number, temporary, path.pointer + start))
  }
}
