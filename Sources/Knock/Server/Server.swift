import CSystem
import KnockProtocol

/// Waits for datagrams and acts on those that the gate admits.
///
/// One loop waits for three things: a datagram, a signal, a moment (the limit of a command, the
/// next report). Nothing in it blocks, and no datagram ends it.
struct Server: ~Copyable {
  /// How often a full batch is taken before signals and commands have their turn.
  private static let batches = 8
  /// How often the time is noted in the state directory: seldom, to spare flash memory.
  private static let noteInterval: Int64 = 60_000

  private let report: Report
  /// Locked as long as it is here.
  private let state: StateDirectory?
  private let signals: Signals
  private let socket: UDPSocket
  private var batch: DatagramBatch
  private var gate: Gate<KeyedMAC>
  private var firewall: Firewall?
  private var runner: CommandRunner
  private var statistics = Statistics()
  /// When the time is noted next, in monotonic milliseconds; never without a state directory.
  private var nextNote: Int64
  private var isStopping = false

  init(
    report: Report, state: consuming StateDirectory?, signals: consuming Signals,
    socket: consuming UDPSocket,
    batch: consuming DatagramBatch, gate: consuming Gate<KeyedMAC>, firewall: consuming Firewall?,
    runner: consuming CommandRunner
  ) {
    self.report = report
    nextNote = state == nil ? .max : .min
    self.state = state
    self.signals = signals
    self.socket = socket
    self.batch = batch
    self.gate = gate
    self.firewall = firewall
    self.runner = runner
  }

  /// Returns when a signal has stopped the server and its last command has ended.
  ///
  /// - Throws: what poll(2), recvfrom(2) and read(2) do when the system is at its end.
  mutating func run() throws(SystemError) {
    while !isStopping || runner.runningCount > 0 {
      let (hasDatagram, hasSignal) = try waitForEvent()
      if hasDatagram { try receive() }
      while hasSignal, let event = try signals.next() {
        switch event {
        case .childEnded: runner.reapEnded()
        case .printCounters:
          statistics.writeCounters(of: runner, kernelDropped: socket.droppedCount, to: report)
        case .stop(let number): stop(signal: number)
        }
      }
      let now = Clock.monotonicMilliseconds()
      runner.checkDeadlines(now: now)
      runner.startReady(now: now)
      if nextNote <= now {
        gate.noteTime(Clock.wallSeconds())
        nextNote = now + Self.noteInterval
      }
      statistics.report(kernelDropped: socket.droppedCount, to: report, now: now)
    }
    if report.verbosity > .quiet { report.write("stopped") }
  }

  private func waitForEvent() throws(SystemError) -> (datagram: Bool, signal: Bool) {
    let next = min(nextNote, min(runner.nextDeadline ?? .max, statistics.reportTime ?? .max))
    var timeout: Int32 = -1
    if next < .max {
      let now = Clock.monotonicMilliseconds()
      timeout = next <= now ? 0 : Int32(clamping: next - now)
    }
    var entries: InlineArray<2, pollfd> = [
      pollfd(fd: isStopping ? -1 : socket.number, events: Int16(POLLIN), revents: 0),
      pollfd(fd: signals.number, events: Int16(POLLIN), revents: 0),
    ]
    var span = entries.mutableSpan
    let result = unsafe span.withUnsafeMutableBufferPointer {
      unsafe csys_poll($0.baseAddress, $0.count, timeout)
    }
    if result == -EINTR { return (false, false) }
    _ = try SystemError.check(result)
    return (entries[0].revents != 0, entries[1].revents != 0)
  }

  private mutating func receive() throws(SystemError) {
    let wallNow = Clock.wallSeconds()
    let now = Clock.monotonicMilliseconds()
    for _ in 0..<Self.batches {
      try receiveBatch()
      for index in 0..<batch.count { handle(index, wallNow: wallNow, now: now) }
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

  private mutating func handle(_ index: Int, wallNow: Double, now: Int64) {
    var bytes = InlineArray<62, UInt8>(repeating: 0)
    let length = batch.copy(index, into: &bytes)
    let datagram = bytes.span.extracting(first: length)
    do throws(Refusal) {
      let knock = try gate.admit(datagram, now: wallNow, hasRoom: runner.hasRoom)
      accept(knock, from: batch.source(index))
      changeSet(for: knock)
      runner.enqueue(knock)
    } catch {
      let isWanted = report.verbosity > .quiet || error.isFailure
      if statistics.count(error, isWanted: isWanted, now: now) {
        write(error, of: datagram, from: batch.source(index), now: wallNow)
      }
    }
  }

  private mutating func accept(_ knock: Knock, from source: SocketAddress) {
    statistics.countAccepted()
    guard report.verbosity > .quiet else { return }
    var line = report.line()
    line.append("accepted ")
    line.append(knock)
    line.append(" from ")
    line.append(source)
    report.write(line)
  }

  /// Does what it can: where the set cannot be changed, the command still runs.
  private mutating func changeSet(for knock: Knock) {
    var failure: Firewall.Failure?
    var isChanged = false
    do throws(Firewall.Failure) {
      guard let result = try firewall?.apply(knock) else { return }
      isChanged = result
    } catch { failure = error }
    statistics.countSetChange(isDone: failure == nil)
    guard failure != nil || report.verbosity >= .verbose else { return }
    var line = report.line()
    line.append(
      failure != nil ? "set not changed: " : isChanged ? "set changed: " : "set as it must be: ")
    line.append(knock)
    if let failure {
      line.append(": ")
      firewall?.settings.describe(failure, knock.address.family, to: &line, mayName: true)
    }
    report.write(line)
  }

  /// Tells of a datagram that is authentic, and by how much its sender's clock differs from ours.
  private func write(
    _ refusal: Refusal, of datagram: Span<UInt8>, from source: SocketAddress, now: Double
  ) {
    var line = report.line()
    line.append("refused ")
    do throws(Refusal) {
      line.append(try Knock(parsing: datagram))
    } catch { line.append("a datagram") }
    line.append(" from ")
    line.append(source)
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
    default: break
    }
    line.append(", clock skew ")
    line.append(signedSeconds: fields.timeStamp - now)
    line.append(" s")
    report.write(line)
  }

  private mutating func stop(signal: Int32) {
    guard !isStopping else { return }
    isStopping = true
    if report.verbosity > .quiet {
      var line = report.line()
      line.append("stopping on ")
      line.append(signal == SIGTERM ? "SIGTERM" : signal == SIGINT ? "SIGINT" : "SIGHUP")
      report.write(line)
    }
    runner.stop(now: Clock.monotonicMilliseconds())
  }
}
