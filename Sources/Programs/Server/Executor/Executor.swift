import CSystem
import KnockBase
import KnockProtocol
import KnockServer

/// The half of the server that acts on knocks: it changes sets and runs commands, takes the signals, and
/// never sees a datagram or the key. All that it hears of the receiver is `KnockMessage`.
///
/// One loop waits for three things: a message, a signal, a moment (the limit of a command). Nothing in
/// it blocks for longer than the kernel takes to change a set.
struct Executor: ~Copyable {
  /// How long messages are taken, or grants closed, before the rest has its turn (milliseconds).
  private static let turn: Int64 = 100
  /// How many grants whose time is over may wait for their command.
  static let closesAtOnce = 64
  /// How long closing all that is open may take when the server stops.
  private static let closeMilliseconds: Int64 = 60_000
  /// How long the receiver may take to end once it was told to.
  private static let stopMilliseconds: Int64 = 5000

  private let report: Report
  /// Locked as long as it is here.
  private let state: StateDirectory?
  private let signals: Signals
  private let receiver: Channel
  private let families: AddressFamilies
  private let tally: Tally
  /// For the number of datagrams that the kernel has dropped; the receiver has it, too.
  private let socket: UDPSocket
  private var firewall: Firewall?
  private var runner: CommandRunner
  private var grants: GrantKeeper
  private let closesOnExit: Bool
  private var manager: ServiceManager
  private var metrics: Metrics?
  /// Nil where HUP stops the server.
  private var reloader: Reloader?
  /// Whether it has kept the rights that commands may need.
  private let runsCommands: Bool
  private var isReady = false
  /// When the watchdog is told next that all lives, in monotonic milliseconds; never without one.
  private var nextBeat = Int64.max
  private var lastBeat: UInt32 = 0
  /// The process of the receiver; nil once it has ended.
  private var receiverProcess: Int32?
  private var hasMessages = true
  private var receivedCount: UInt32 = 0
  private var setsChanged: UInt64 = 0
  private var setsNotChanged: UInt64 = 0
  private var exitCode = ExitCode.success
  private var phase = Phase.running
  /// When the receiver must have ended, in monotonic milliseconds; nil while the server runs, and once the
  /// receiver is killed.
  private var stopDeadline: Int64?

  /// What a stop goes through. Deadlines in monotonic milliseconds.
  private enum Phase {
    case running
    /// The receiver hands over what it has accepted, and that is done as ever.
    case draining
    /// What is open is being closed.
    case closing(until: Int64)
    /// The last commands may end.
    case ending
  }

  init(
    report: Report, state: consuming StateDirectory?, signals: consuming Signals,
    receiver: consuming Channel, families: AddressFamilies, tally: Tally,
    socket: consuming UDPSocket, firewall: consuming Firewall?, runner: consuming CommandRunner,
    grants: consuming GrantKeeper, settings: ServerSettings, manager: consuming ServiceManager,
    metrics: consuming Metrics?, reloader: consuming Reloader?
  ) {
    self.report = report
    self.state = state
    self.signals = signals
    self.receiver = receiver
    self.families = families
    self.tally = tally
    self.socket = socket
    self.firewall = firewall
    runsCommands = runner.hasCommands
    self.runner = runner
    self.grants = grants
    closesOnExit = settings.closesOnExit
    if manager.watchdogMilliseconds != nil { nextBeat = .min }
    self.manager = manager
    self.metrics = metrics
    self.reloader = reloader
  }

  /// Gives up what it does not need from here on.
  func confine(by sandbox: inout Sandbox) throws(Sandbox.Failure) {
    try sandbox.confineExecutor(
      changesSets: firewall != nil, runsCommands: runner.hasCommands, report: report)
  }

  /// Returns when a signal, or the end of the receiver, has stopped the server and its last command has
  /// ended.
  ///
  /// - Parameter receiverProcess: a child.
  /// - Throws: what poll(2), recv(2) and read(2) do when the system is at its end.
  mutating func run(receiverProcess: Int32) throws(SystemError) -> ExitCode {
    self.receiverProcess = receiverProcess
    while !isOver {
      let (hasMessage, hasSignal) = try poll(
        hasMessages ? receiver.number : -1, signals.number, until: nextDeadline)
      if hasMessage { try takeMessages() }
      if hasSignal, let event = try signals.next() {
        switch event {
        case .childEnded: reapEnded()
        case .printCounters: writeCounters()
        case .stop(SIGHUP) where canReload: reload()
        case .stop(let number): stop(signal: number)
        }
      }
      let now = Clock.monotonicMilliseconds()
      if let stopDeadline, stopDeadline <= now, self.receiverProcess != nil { killReceiver() }
      runner.checkDeadlines(&grants, now: now)
      closeDue()
      runner.startReady(&grants, now: now)
      advance(now: now)
      tellRoom()
      if manager.readyTime <= now { manager.tellReady(now: now) }
      tellWatchdog(now: now)
      updateMetrics(now: now)
    }
    updateMetrics(now: nextUpdate)
    if report.verbosity > .quiet { report.write("stopped") }
    return exitCode
  }

  private var isOver: Bool {
    guard case .ending = phase else { return false }
    return receiverProcess == nil && runner.runningCount == 0
  }

  private var closesDue: Bool {
    if case .ending = phase { return false }
    return grants.closingCount < Self.closesAtOnce
  }

  private var nextDeadline: Int64 {
    var next = runner.nextDeadline ?? .max
    if receiverProcess != nil, let stopDeadline { next = min(next, stopDeadline) }
    if closesDue, let deadline = grants.nextDeadline { next = min(next, deadline) }
    if case .closing(let deadline) = phase { next = min(next, deadline) }
    return min(min(next, manager.readyTime), min(nextBeat, nextUpdate))
  }

  private mutating func takeMessages() throws(SystemError) {
    let end = Clock.monotonicMilliseconds() + Self.turn
    repeat {
      switch try receiver.receive(families) {
      case .knock(let knock) where runner.hasRoom: handle(knock)
      case .nothing: return
      case .ready where !isReady:
        isReady = true
        manager.tellReady(now: Clock.monotonicMilliseconds())
      case .knock, .ready, .malformed:
        report.write("the receiver sent what it must not: ending it", as: .error)
        return killReceiver()
      case .end:
        // While the server runs, it must not hang up: either it has ended, or it will now.
        if case .running = phase { killReceiver() }
        hasMessages = false
        return
      }
      tellRoom()
    } while Clock.monotonicMilliseconds() < end
  }

  private func tellRoom() { tally.handledCount = receivedCount &- UInt32(runner.queuedCount) }

  private mutating func handle(_ knock: Knock) {
    receivedCount &+= 1
    let now = Clock.monotonicMilliseconds()
    if let order = grants.order(knock, now: now) { act(on: order, now: now) }
  }

  /// Closes what has been open for its time.
  private mutating func closeDue() {
    let end = Clock.monotonicMilliseconds() + Self.turn
    var now = end - Self.turn
    while now < end, closesDue, let order = grants.takeDue(now: now) {
      if report.verbosity > .quiet {
        var line = Line()
        line.append("time is over: ")
        line.append(order.knock)
        report.write(line)
      }
      act(on: order, now: now)
      now = Clock.monotonicMilliseconds()
    }
  }

  private mutating func act(on order: Order, now: Int64) {
    let isDone = changeSet(for: order.knock)
    if order.isRepeated {
      guard runner.hasCommands, report.verbosity >= .verbose else { return }
      var line = Line(.debug)
      line.append("command not run again: ")
      line.append(order.knock)
      report.write(line)
    } else if runner.hasCommands {
      if !isDone { grants.noteFailure(order) }
      runner.enqueue(order)
    } else {
      // A grant may be of a server that had a set for its family.
      let isMeant = families.contains(order.knock.address.family)
      grants.ended(order, succeeded: isDone && isMeant, now: now)
    }
  }

  /// Does what it can: where the set cannot be changed, the command still runs. False where it could not.
  private mutating func changeSet(for knock: Knock) -> Bool {
    do throws(FirewallError) {
      guard let isChanged = try firewall?.apply(knock) else { return true }
      setsChanged += 1
      log.debug(
        isChanged ? "set changed: \(knock)" : "set already up to date: \(knock)")
      return true
    } catch {
      setsNotChanged += 1
      log.error("set not changed: \(knock): \(error)")
      return false
    }
  }

  /// Reaps every child that has ended, also those that a command left behind and that are ours since
  /// we are process 1.
  private mutating func reapEnded() {
    while true {
      let process = csys_ended_child()
      guard process > 0 else { return }
      if process == receiverProcess {
        receiverProcess = nil
        receiverEnded(csys_reap(process))
      } else {
        runner.reap(process, &grants)
      }
    }
  }

  private mutating func receiverEnded(_ result: Int32) {
    if case .running = phase {} else if result == 0 { return }
    exitCode = .failure
    var line = Line(.error)
    line.append("the receiver ended: ")
    line.append(endedWith: result)
    report.write(line)
    stop()
  }

  /// Nothing is expected of it any more. Where it cannot be killed from here, it ends with this process.
  private mutating func killReceiver() {
    hasMessages = false
    stopDeadline = nil
    guard let process = receiverProcess else { return }
    if kill(process, SIGKILL) < 0 {
      receiverProcess = nil
      receiverEnded(-SIGKILL)
    }
  }

  private mutating func stop(signal: Int32) {
    if case .running = phase, report.verbosity > .quiet {
      var line = Line()
      line.append("stopping on ")
      line.append(signal == SIGTERM ? "SIGTERM" : signal == SIGINT ? "SIGINT" : "SIGHUP")
      report.write(line)
    }
    stop()
  }

  private mutating func stop() {
    switch phase {
    case .running:
      manager.tell("STOPPING=1")
      phase = .draining
      stopDeadline = Clock.monotonicMilliseconds() + Self.stopMilliseconds
      receiver.hangUp()
    // Who asks a second time will not wait.
    case .closing: phase = .closing(until: .min)
    case .draining, .ending: break
    }
  }

  /// Goes on to the next phase of a stop when this one is over.
  private mutating func advance(now: Int64) {
    switch phase {
    case .running, .ending: return
    case .draining:
      guard !hasMessages else { return }
      runner.dismiss(onlyOpens: closesOnExit)
      guard closesOnExit else { return end(now: now) }
      grants.endAll(now: now)
      phase = .closing(until: now + Self.closeMilliseconds)
    case .closing(let deadline):
      let isDue = grants.nextDeadline.map { $0 <= now } ?? false
      guard deadline <= now || grants.closingCount == 0 && !isDue else { return }
      runner.dismiss(onlyOpens: false)
      end(now: now)
      guard grants.count > 0 else { return }
      var line = Line(.warning)
      line.append(grants.count)
      line.append(" addresses are left open, for the next start to close")
      report.write(line)
    }
  }

  private mutating func end(now: Int64) {
    phase = .ending
    runner.hurry(now: now)
  }

  /// Reads the key and the commands anew, and goes on as before where anything is wrong with them.
  private mutating func reload() {
    guard case .running = phase else { return }
    manager.tellReloading()
    let isDone = takeNew()
    report.write(
      isDone ? "reloaded key and commands" : "not reloaded, going on as before",
      as: isDone ? .info : .error)
    if isReady { manager.tellReady(now: Clock.monotonicMilliseconds()) }
  }

  private var canReload: Bool {
    switch reloader {
    case .some: true
    case nil: false
    }
  }

  private mutating func takeNew() -> Bool {
    guard let new = reloader?.read(report) else { return false }
    if new.commands.areAny, !runsCommands {
      report.write(
        "commands need another start: the server has given up the rights that they may need",
        as: .error)
      return false
    }
    let hasSets =
      switch firewall {
      case .some: true
      case nil: false
      }
    if !new.commands.areAny, !hasSets {
      report.write("there is no command any more, and no set", as: .error)
      return false
    }
    if grants.mustClose, !new.commands.canClose, !hasSets {
      report.write("there is no close-command any more, and no set", as: .error)
      return false
    }
    do throws(SystemError) {
      try receiver.send(new.key)
    } catch {
      report.write("receiver", error)
      return false
    }
    runner.replace(new.takeCommands())
    reloader?.keep()
    return true
  }

  /// Tells the watchdog, while the receiver lives, too, that all is well.
  private mutating func tellWatchdog(now: Int64) {
    guard let patience = manager.watchdogMilliseconds, nextBeat <= now else { return }
    nextBeat = now + patience / 2
    let beat = tally.beatCount
    guard beat != lastBeat || receiverProcess == nil else { return }
    if manager.tell("WATCHDOG=1") {
      lastBeat = beat
    } else {
      nextBeat = now + min(patience / 4, ServiceManager.retryInterval)
    }
  }

  /// When the file of `--metrics` may be written next.
  private var nextUpdate: Int64 {
    switch metrics {
    case .some(let metrics): metrics.deadline
    case nil: .max
    }
  }

  /// Writes the file of `--metrics`, if it is time for it.
  private mutating func updateMetrics(now: Int64) {
    guard nextUpdate <= now else { return }
    var checksum = Checksum()
    visitCounters { _, value in checksum.add(value) }
    let skew = tally.clockSkew
    checksum.add(UInt64(bitPattern: skew))
    var updated = metrics.take()
    updated?.update(checksum.value, now: now, report) { text in
      var last: Counter?
      visitCounters { counter, value in
        counter.write(value, to: &text, after: last)
        last = counter
      }
      text.append("# HELP pyknock_clock_skew_seconds How far the last sender's clock was ahead.\n")
      text.append("# TYPE pyknock_clock_skew_seconds gauge\npyknock_clock_skew_seconds ")
      text.append(signedSeconds: skew)
      text.append("\n")
    }
    metrics = updated
  }

  private func writeCounters() {
    var line = Line()
    line.append("counters:")
    visitCounters { counter, value in counter.write(value, to: &line) }
    report.write(line)
  }

  /// Calls `visit` with every number since the start.
  private func visitCounters(_ visit: (Counter, UInt64) -> Void) {
    visit(Counter("accepted", .total, "Knocks that were accepted."), tally.accepted)
    var number: UInt8 = 0
    while let refusal = Refusal(rawValue: number) {
      let counter = Counter(
        refusal.name, .refused, "Datagrams that were refused, by the first reason for it.")
      visit(counter, tally.refused(refusal))
      number += 1
    }
    visit(
      Counter(
        "kernel-dropped", .total, "Datagrams that the kernel dropped, for form or want of room."),
      socket.droppedCount ?? 0)
    visit(
      Counter("set-changed", .total, "Knocks for which the sets are as they must be."), setsChanged)
    visit(Counter("set-not-changed", .total, "Knocks for which they could not be."), setsNotChanged)
    visit(
      Counter("repeated", .total, "Knocks whose command did not have to run again."),
      grants.repeatedCount)
    let commands: StaticString = "Commands, by how they ended."
    visit(Counter("succeeded", .command, commands), runner.counters.succeeded)
    visit(Counter("failed", .command, commands), runner.counters.failed)
    visit(Counter("timed-out", .command, commands), runner.counters.timedOut)
    visit(Counter("not-started", .command, commands), runner.counters.notStarted)
    visit(Counter("running", .gauge, "Commands that run."), UInt64(runner.runningCount))
    // With those that are still on their way from the receiver.
    let onTheWay = UInt32(truncatingIfNeeded: tally.accepted) &- receivedCount
    visit(
      Counter("queued", .gauge, "Knocks that wait for their command."),
      UInt64(runner.queuedCount) + UInt64(onTheWay))
    visit(
      Counter("open", .gauge, "Addresses that are open and will be closed again."),
      UInt64(grants.count))
    visit(
      Counter("not-opened", .total, "Knocks that there was no room for in the journal of grants."),
      grants.refusedCount)
  }
}
