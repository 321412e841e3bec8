import KnockBase
import KnockProtocol
import KnockServer

/// The process of the server that reads what anyone may send. It holds the socket, the key and the replay
/// memory, and passes each knock that the gate accepts to the executor. It can do nothing else.
///
/// One loop waits for three things: a datagram, a message from the executor or its end, and the next deadline.
/// No datagram ends it.
struct Receiver: ~Copyable {
  /// How many knocks may be on their way to the executor or in its queue. Further ones are refused.
  static let queueCapacity: UInt32 = 1024
  /// The same for refusals that are answered. They have places of their own, so that a full queue can still say so.
  private static let refusalCapacity: UInt32 = 64
  /// How many full batches the loop takes before it does the rest.
  private static let batches = 8
  /// The time between two attempts to send a knock, or to receive after an error.
  private static let pause = 5 * Microseconds.millisecond

  private let socket: UDPSocket
  private var batch: DatagramBatch
  private var gate: Gate<KeyRing>
  private let executor: Channel
  private let tally: Tally
  /// The line to log when everything is in place.
  private let startLine: StartLine
  /// Whether the executor waits to hear that the receiver is ready.
  private let tellsReady: Bool
  /// The longest time between two rounds of the loop, whose count shows that it runs; nil for any (microseconds).
  private let beatInterval: Int64?
  private var refusals: RefusalLog
  /// The number of knocks sent to the executor, modulo 2^32.
  private var sentCount: UInt32 = 0
  /// The number of refusals sent to be answered, modulo 2^32.
  private var sentRefusals: UInt32 = 0
  private var nextBeat = Int64.max
  /// How many times the executor waits to hear that its changes of users were taken.
  private var dueAnswers = 0

  init(
    socket: consuming UDPSocket, batch: consuming DatagramBatch, gate: consuming Gate<KeyRing>,
    executor: consuming Channel, tally: Tally, logBudgets: consuming UserBuckets,
    startLine: StartLine,
    tellsReady: Bool,
    beatInterval: Int64?
  ) {
    self.socket = socket
    self.batch = batch
    self.gate = gate
    self.executor = executor
    self.tally = tally
    self.startLine = startLine
    self.tellsReady = tellsReady
    self.beatInterval = beatInterval
    if beatInterval != nil { nextBeat = .min }
    refusals = RefusalLog(tally, logBudgets)
  }

  /// Drops its privileges, runs until the executor has hung up or ended, and ends the process.
  ///
  /// - Parameter parent: the executor.
  mutating func runToEnd(in sandbox: Sandbox, parent: Int32) {
    var exitCode = ExitCode.success
    do throws(Sandbox.Failure) {
      KeyedMAC.lockMemory()
      let confinement = try sandbox.confineReceiver(
        socket: socket.number, channel: executor.number, parent: parent)
      if let confinement, !confinement.isWhole {
        log.warning("warning: sandbox: \(confinement)")
      } else if let confinement {
        log.debug("\(confinement)")
      }
      CurrentProcess.replaceArguments(by: "pyknock: receiver")
      log.info("\(startLine)")
      do throws(SystemError) {
        if tellsReady { _ = try executor.send(.ready) }
        try run()
      } catch {
        log.error("fatal: \(error)")
        exitCode = .failure
      }
    } catch {
      log.error("\(error)")
      exitCode = .failure
    }
    CurrentProcess.end(status: exitCode.rawValue)
  }

  /// Returns when the executor has hung up or ended.
  ///
  /// - Throws: what poll(2), recv(2) and send(2) do if the system is out of resources.
  private mutating func run() throws(SystemError) {
    while true {
      let (hasDatagram, hasMessage) = try waitForEvent()
      if hasMessage {
        // All of them first: a datagram may be signed by a key that is among them.
        while let goesOn = try takeMessage() {
          if !goesOn { return }
        }
      }
      if hasDatagram { try receive() }
      // While one waits for room, another may become due.
      while dueAnswers > 0 {
        dueAnswers -= 1
        try send(.usersTold)
      }
      let now = SystemClock.monotonic()
      let kernelDropped = socket.droppedCount
      tally.record(kernelDropped: kernelDropped ?? 0)
      tally.beatCount &+= 1
      if let beatInterval { nextBeat = now + beatInterval }
      refusals.logReport(kernelDropped: kernelDropped, now: now)
    }
  }

  /// Takes a message of the executor. Returns nil if there is none, and false if it has hung up or ended.
  @inline(never)
  private mutating func takeMessage() throws(SystemError) -> Bool? {
    var isTaken = true
    let received = try unsafe executor.receive { user, key in
      let slot = unsafe gate.users.put(user)
      let version = gate.users[slot]?.version ?? 1
      isTaken = unsafe gate.keys.put(key, version: version, slot: slot)
    }
    switch received {
    case .message(.user) where isTaken: break
    case .message(.removeUser(let number)):
      let slot = Users.slot(of: number)
      gate.users.remove(at: slot)
      gate.keys.remove(slot: slot)
    case .message(.usersTold):
      gate.keys.logRate()
      dueAnswers += 1
    // Each round updates the tally.
    case .message(.updateTally): break
    case .nothing: return nil
    case .message, .invalid: throw .badMessage
    case .end: return false
    }
    return true
  }

  private func waitForEvent() throws(SystemError) -> (datagram: Bool, message: Bool) {
    let next = min(nextBeat, refusals.nextDeadline)
    return try poll(socket.number, executor.number, until: next)
  }

  /// Whether another knock may be sent.
  private var hasRoom: Bool {
    Int32(bitPattern: sentCount &- tally.handledCount) < Self.queueCapacity
  }

  @inline(never)
  private mutating func receive() throws(SystemError) {
    for _ in 0..<Self.batches {
      receiveBatch()
      for index in 0..<batch.count { try handle(index) }
      guard batch.count == DatagramBatch.capacity else { return }
    }
  }

  /// No error is a reason to end the server, and with it the replay memory. It costs a datagram at most.
  @inline(never)
  private mutating func receiveBatch() {
    do throws(SystemError) {
      try socket.receive(into: &batch)
      if batch.count > 0 { return }
    } catch { refusals.logFailure(error, now: SystemClock.monotonic()) }
    // An error that stays, or a socket that another process has shut down, must not keep the processor busy.
    SystemClock.pause(for: Self.pause)
  }

  @inline(never)
  private mutating func handle(_ index: Int) throws(SystemError) {
    // Each time, since the datagram before this one may have waited for the executor.
    let moment = Moment(wall: SystemClock.wall(), monotonic: SystemClock.sinceBoot())
    switch Self.admit(index, of: batch, by: &gate, at: moment, hasRoom: hasRoom) {
    case .accepted(let order, let user, let clockSkew):
      tally.record(clockSkew: clockSkew)
      tally.countAccepted(by: user.number)
      let source = batch.source(index)
      let knock = order.knock
      let isBehindNAT = knock.address.isPrivate && source.parts?.address != knock.address
      log.info(
        "accepted \(order)\(by: user.name) from \(source: source)\(isBehindNAT ? " (private, and not the source: behind NAT the client needs -S)" as Literal : "")"
      )
      try send(.knock(order))
      sentCount &+= 1
    case .refused(let refusal, let header):
      logRefusal(refusal, header, from: batch.source(index))
      if let order = header.order { try answer(order) }
    case .unauthentic(let refusal): refusals.count(unauthentic: refusal)
    }
  }

  /// Has the executor answer a refusal, if it keeps up.
  private mutating func answer(_ order: Order) throws(SystemError) {
    guard Int32(bitPattern: sentRefusals &- tally.answeredCount) < Self.refusalCapacity else {
      return
    }
    try send(.knock(order))
    sentRefusals &+= 1
  }

  @inline(never)
  private mutating func logRefusal(
    _ refusal: Refusal, _ header: Verdict.Header, from source: SocketAddress
  ) {
    if refusal.isFromKeyHolder, let clockSkew = header.clockSkew {
      tally.record(clockSkew: clockSkew)
    }
    let isWanted = log.shows(.normal) || refusal.isFailure
    guard refusals.count(refusal, header, isWanted: isWanted, now: SystemClock.monotonic()) else {
      return
    }
    log.warning(
      "refused \(header.subject)\(by: header.user.name) from \(source: source): \(header.reason(refusal))"
    )
  }

  @inline(never)
  private static func admit(
    _ index: Int, of batch: borrowing DatagramBatch, by gate: inout Gate<KeyRing>,
    at moment: Moment,
    hasRoom: Bool
  ) -> Verdict {
    batch.withDatagram(index) { datagram in
      gate.admit(datagram, at: moment, hasRoom: hasRoom) { batch.origin(index) }
    }
  }

  /// The channel has room for fewer knocks than may wait. So the rest waits here as long as the executor lives. Waiting
  /// by poll(2) would not help: it reports room only when most of the channel is free. The executor may be waiting, too,
  /// for room for changes of users.
  @inline(never)
  private mutating func send(_ message: PrivsepMessage) throws(SystemError) {
    while try !executor.send(message) {
      while let goesOn = try takeMessage(), goesOn {}
      SystemClock.pause(for: Self.pause)
      tally.beatCount &+= 1
    }
  }
}

extension Receiver {
  /// What the server logs when it listens.
  struct StartLine: MessageConvertible {
    let address: SocketAddress
    /// In microseconds.
    let drift: Int64
    /// In bytes, by the kernel's count.
    let bufferSize: Int32

    var message: Message {
      """
      version \(version), listening on \(address), drift \(seconds: drift) s, \
      receive buffer \(bufferSize) bytes
      """
    }
  }
}
