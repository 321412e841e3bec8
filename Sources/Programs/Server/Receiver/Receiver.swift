import CSystem
import KnockBase
import KnockProtocol
import KnockServer

/// The half of the server that reads what anybody may send: it holds the socket, the key and the replay
/// memory, and hands each knock that the gate admits to the executor. It can do nothing else.
///
/// One loop waits for three things: a datagram, a new key from the executor or its end, a moment (the next report).
/// No datagram ends it.
struct Receiver: ~Copyable {
  /// How many knocks may wait for the executor, on the way or in its queue. The rest is refused.
  static let queueCapacity: UInt32 = 1024
  /// How often a full batch is taken before the rest has its turn.
  private static let batches = 8
  /// How often the time is noted in the state directory: seldom, to spare flash memory.
  private static let noteInterval: Int64 = 60_000
  /// How long the executor may be busy with one knock: longer than any exchange with the kernel
  /// (milliseconds).
  private static let patience: Int64 = 30_000
  /// How often it is looked whether there is room (milliseconds).
  private static let pause: Int32 = 5

  private let report: Report
  private let socket: UDPSocket
  private var batch: DatagramBatch
  private var gate: Gate<KeyedMAC>
  private let executor: Channel
  private let tally: Tally
  /// Whether the executor wants to know when it is ready.
  private let tellsReady: Bool
  /// How often a round must be made, that the executor sees it; nil for never (milliseconds).
  private let beatInterval: Int64?
  private var statistics: Statistics
  /// Knocks that were sent to the executor, modulo 2^32.
  private var sentCount: UInt32 = 0
  /// When the time is noted next, in monotonic milliseconds; never without a state directory.
  private var nextNote: Int64
  private var nextBeat = Int64.max

  init(
    report: Report, socket: consuming UDPSocket, batch: consuming DatagramBatch,
    gate: consuming Gate<KeyedMAC>, notesTime: Bool, executor: consuming Channel, tally: Tally,
    tellsReady: Bool, beatInterval: Int64?
  ) {
    self.report = report
    self.socket = socket
    self.batch = batch
    self.gate = gate
    self.executor = executor
    self.tally = tally
    self.tellsReady = tellsReady
    self.beatInterval = beatInterval
    if beatInterval != nil { nextBeat = .min }
    statistics = Statistics(tally)
    nextNote = notesTime ? .min : .max
  }

  /// Gives up what it does not need, says so, runs until the executor has hung up or ended, and ends the
  /// process.
  ///
  /// - Parameters:
  ///   - parent: the executor.
  ///   - start: the line to write once all is in place.
  mutating func runToEnd(in sandbox: Sandbox, parent: pid_t, start: consuming Line?) {
    var exitCode = ExitCode.success
    do throws(Sandbox.Failure) {
      csys_lock_keys()
      try sandbox.confineReceiver(
        socket: socket.number, channel: executor.number, parent: parent, report: report)
      if let start { report.write(start) }
      do throws(SystemError) {
        if tellsReady { try executor.sendReady() }
        try run()
      } catch {
        report.write("fatal", error)
        exitCode = .failure
      }
    } catch {
      error.write(to: report)
      exitCode = .failure
    }
    csys_end_process(exitCode.rawValue)
  }

  /// Returns when the executor has hung up or ended.
  ///
  /// - Throws: what poll(2), recvmmsg(2) and send(2) do when the system is at its end.
  private mutating func run() throws(SystemError) {
    while true {
      let (hasDatagram, hasKey) = try waitForEvent()
      if hasKey, try !executor.receive(into: gate.key) { return }
      if hasDatagram { try receive() }
      let now = Clock.monotonicMilliseconds()
      tally.beatCount &+= 1
      if let beatInterval { nextBeat = now + beatInterval }
      if nextNote <= now {
        gate.noteTime(Clock.wallMicroseconds())
        nextNote = now + Self.noteInterval
      }
      statistics.report(kernelDropped: socket.droppedCount, to: report, now: now)
    }
  }

  private func waitForEvent() throws(SystemError) -> (datagram: Bool, key: Bool) {
    let next = min(min(nextNote, nextBeat), statistics.reportTime ?? .max)
    return try poll(socket.number, executor.number, until: next)
  }

  /// Whether another knock may be sent.
  private var hasRoom: Bool {
    Int32(bitPattern: sentCount &- tally.handledCount) < Self.queueCapacity
  }

  private mutating func receive() throws(SystemError) {
    let wallNow = Clock.wallMicroseconds()
    let now = Clock.monotonicMilliseconds()
    for _ in 0..<Self.batches {
      try receiveBatch()
      for index in 0..<batch.count { try handle(index, wallNow: wallNow, now: now) }
      guard batch.count == DatagramBatch.capacity else { return }
    }
  }

  /// A lack of memory passes; it must not end the server, and with it the replay memory.
  private mutating func receiveBatch() throws(SystemError) {
    do throws(SystemError) {
      try socket.receive(into: &batch)
    } catch {
      guard error.number == ENOMEM || error.number == ENOBUFS else { throw error }
    }
  }

  private mutating func handle(
    _ index: Int, wallNow: Int64, now: Int64
  ) throws(SystemError) {
    let (bytes, length) = batch.datagram(index)
    let datagram = bytes.span.extracting(first: length)
    let knock: Knock
    do throws(Refusal) {
      knock = try gate.admit(datagram, now: wallNow, hasRoom: hasRoom) {
        batch.source(index).parts?.address
      }
    } catch {
      if error.isOfSender { noteSkew(of: datagram, now: wallNow) }
      let isWanted = report.verbosity > .quiet || error.isFailure
      if statistics.count(error, isWanted: isWanted, now: now) {
        write(error, of: datagram, from: batch.source(index), now: wallNow)
      }
      return
    }
    noteSkew(of: datagram, now: wallNow)
    accept(knock, from: batch.source(index))
    try send(knock)
    sentCount &+= 1
  }

  private func noteSkew(of datagram: Span<UInt8>, now: Int64) {
    guard let timeStamp = Packet.fields(of: datagram).timeStamp else { return }
    tally.note(clockSkew: timeStamp.subtractingSaturated(now))
  }

  /// The connection to the executor holds fewer knocks than may wait; the rest waits here. Polling would say
  /// that there is room only once most of it is free.
  private func send(_ knock: Knock) throws(SystemError) {
    if try executor.send(knock) { return }
    var handledCount = tally.handledCount
    var deadline = Clock.monotonicMilliseconds() + Self.patience
    while try !executor.send(knock) {
      Clock.pause(milliseconds: Self.pause)
      let now = Clock.monotonicMilliseconds()
      if tally.handledCount != handledCount {
        handledCount = tally.handledCount
        deadline = now + Self.patience
      }
      guard now < deadline else { throw SystemError(number: ETIMEDOUT) }
    }
  }

  private func accept(_ knock: Knock, from source: SocketAddress) {
    statistics.countAccepted()
    guard report.verbosity > .quiet else { return }
    var line = Line()
    line.append("accepted ")
    line.append(knock)
    line.append(from: source)
    report.write(line)
  }

  /// Tells of a datagram that is authentic, and by how much its sender's clock differs from ours.
  private func write(
    _ refusal: Refusal, of datagram: Span<UInt8>, from source: SocketAddress, now: Int64
  ) {
    var line = Line(.warning)
    line.append("refused ")
    do throws(Refusal) {
      line.append(try Knock(parsing: datagram))
    } catch { line.append("a datagram") }
    line.append(from: source)
    line.append(": ")
    line.append(refusal.reason)
    let fields = Packet.fields(of: datagram)
    switch refusal {
    case .unknownCommand:
      line.append(" ")
      line.append(fields.command)
    case .unknownFamily, .familyLengthMismatch:
      line.append(" (family ")
      line.append(fields.family)
      line.append(", ")
      line.append(datagram.count)
      line.append(" bytes)")
    case .unspecifiedAddress:
      line.append(" (only --allow-observed-source takes the sender's address in its place)")
    default: break
    }
    line.append(", clock skew ")
    if let timeStamp = fields.timeStamp {
      line.append(signedSeconds: timeStamp.subtractingSaturated(now))
    } else {
      line.append("nan")
    }
    line.append(" s")
    report.write(line)
  }
}
