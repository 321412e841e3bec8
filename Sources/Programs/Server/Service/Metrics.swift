import KnockBase
import KnockServer

/// The file of `--metrics`, in the text format of Prometheus. Programs such as the textfile collector of node_exporter
/// read it. It names users, so only the owner and the group may read it.
struct Metrics: ~Copyable {
  /// The least time between two writings, and between two looks at the receiver's rounds.
  static let interval = 15 * Microseconds.second
  /// The longest time between two writings. They show that the server is alive even if nobody knocks.
  private static let longestInterval = 60 * Microseconds.second

  private let path: Argument
  /// The directory of the file.
  private let directory: Descriptor
  private let temporaryName: StorageText
  /// When `update` may write the file next, in monotonic microseconds.
  private(set) var nextDeadline = Int64.min
  /// The checksum of what was written last.
  private var written: UInt64?
  /// When the file is written even if no counter has changed, in monotonic microseconds.
  private var nextWriting = Int64.min
  /// By the system's clock.
  private let startTime: Int64
  /// When the receiver was last found to have made a round, by the system's clock.
  private var lastRound: Int64
  private var lastBeat: UInt32 = 0
  private var hasFailed = false

  /// Why the file was not written.
  struct Failure: Error {
    let path: Argument
    let error: SystemError
  }

  /// - Throws: what open(2) says of the directory.
  init(_ path: Argument, wallNow: Int64) throws(Failure) {
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
    name.append(".tmp")
    name.append(byte: 0)
    self.path = path
    self.directory = directory
    temporaryName = name
    (startTime, lastRound) = (wallNow, wallNow)
  }

  /// Writes the file if a counter has changed, or a minute has passed.
  ///
  /// - Parameters:
  ///   - beat: counts the rounds of the receiver.
  ///   - wallNow: microseconds since the Unix epoch.
  ///   - now: monotonic microseconds.
  /// - Throws: a failure, but not again until the file could be written.
  mutating func update(
    _ counters: Counters, _ users: borrowing Users, beat: UInt32, wallNow: Int64, now: Int64
  ) throws(Failure) {
    nextDeadline = now + Self.interval
    if beat != lastBeat {
      lastBeat = beat
      lastRound = wallNow
    }
    let checksum = counters.checksum
    guard written != checksum || nextWriting <= now else { return }
    do throws(SystemError) {
      try write(counters, users)
      written = checksum
      nextWriting = now + Self.longestInterval
      hasFailed = false
    } catch {
      let isKnown = hasFailed
      hasFailed = true
      if !isKnown { throw Failure(path: path, error: error) }
    }
  }

  private func write(_ counters: Counters, _ users: borrowing Users) throws(SystemError) {
    guard let temporary = unsafe temporaryName.start else { return }
    let file = try unsafe directory.makeFile(temporary, mode: 0o640)
    var text = TextOutput(descriptor: file.number)
    counters.write(to: &text)
    counters.tally.writeUsers(users, to: &text)
    Self.write(
      Counter("start-time-seconds", .gauge, "When the server started, in seconds since 1970."),
      startTime, to: &text)
    Self.write(
      Counter(
        "last-round-time-seconds", .gauge,
        "When both processes of the server were last seen at work, in seconds since 1970."),
      lastRound, to: &text)
    try text.finish()
    let start = path.withBytes { $0.fileNameStart }
    try unsafe directory.rename(temporary, to: path.pointer + start)
  }

  private static func write(_ gauge: Counter, _ time: Int64, to text: inout TextOutput) {
    gauge.write(UInt64(max(0, time / Microseconds.second)), to: &text, after: nil)
  }
}

extension Metrics.Failure: MessageConvertible {
  var message: Message { "--metrics \(quoted: path): \(error)" }
}
