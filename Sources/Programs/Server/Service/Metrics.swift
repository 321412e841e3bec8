import KnockBase

/// The file of `--metrics`, in the text format of Prometheus. Programs such as the textfile collector of node_exporter
/// read it.
struct Metrics: ~Copyable {
  /// The least time between two writings.
  private static let interval = 15 * Microseconds.second

  private let path: Argument
  /// The directory of the file.
  private let directory: Descriptor
  private let temporaryName: StorageText
  /// When `update` may write the file next, in monotonic microseconds.
  private(set) var nextDeadline = Int64.min
  /// The checksum of what was written last.
  private var written: UInt64?
  private var hasFailed = false

  /// Why the file was not written.
  struct Failure: Error {
    let path: Argument
    let error: SystemError
  }

  /// - Throws: what open(2) says of the directory.
  init(_ path: Argument) throws(Failure) {
    let directory: Descriptor
    do throws(SystemError) {
      directory = try Descriptor(parentOf: path)
    } catch { throw Failure(path: path, error: error) }
    guard let memory = Storage<UInt8>.mapped(path.count + 5) else {
      throw Failure(path: path, error: .outOfMemory)
    }
    var name = StorageText(memory)
    path.withBytes { path in
      name.append(path.extracting(path.fileNameStart...))
    }
    name.append(".tmp\0")
    self.path = path
    self.directory = directory
    temporaryName = name
  }

  /// Writes the file if any number has changed.
  ///
  /// - Throws: a failure, but not again until the file could be written.
  mutating func update(_ counters: Counters, now: Int64) throws(Failure) {
    nextDeadline = now + Self.interval
    let checksum = counters.checksum
    guard written != checksum else { return }
    do throws(SystemError) {
      try write(counters)
      written = checksum
      hasFailed = false
    } catch {
      let isKnown = hasFailed
      hasFailed = true
      if !isKnown { throw Failure(path: path, error: error) }
    }
  }

  private func write(_ counters: Counters) throws(SystemError) {
    guard let temporary = unsafe temporaryName.start else { return }
    let file = try unsafe directory.makePublicFile(temporary)
    var text = TextOutput(descriptor: file.number)
    counters.write(to: &text)
    try text.finish()
    let start = path.withBytes { $0.fileNameStart }
    try unsafe directory.rename(temporary, to: path.pointer + start)
  }
}

extension Metrics.Failure: MessageConvertible {
  var message: Message { "--metrics \(quoted: path): \(error)" }
}
