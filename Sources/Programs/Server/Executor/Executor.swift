import KnockBase
import KnockProtocol
import KnockServer

/// The process of the server that acts on knocks. It changes sets, runs commands and takes the signals, and
/// never sees a datagram. From the receiver it takes only `PrivsepMessage`.
///
/// One loop waits for three things: a message, a signal, and the next deadline of one of its parts. Nothing in
/// it blocks for longer than the kernel takes to change a set.
struct Executor: ~Copyable {
  /// How long the loop takes messages, closes grants, or compares them with the sets, before it does the rest.
  static let turn = 100 * Microseconds.millisecond

  /// The most that the time between two looks at the clock counts for a limit. If more has passed, this process was
  /// most likely paused, for example by SIGSTOP or in a frozen container. While there are limits, the loop waits no
  /// longer than half of it.
  private static let longestStep = 500 * Microseconds.millisecond

  /// Nil without a state directory.
  var state: Resident<StateKeeper?>
  let signals: Signals
  /// Expires when the next grant does.
  var timer: BootTimer
  var users: Users
  /// Where HUP looks for users; nil if there is none.
  var directory: UsersDirectory?
  /// Nil if the server gives no answers.
  var answers: Resident<Answers?>
  /// A bit for each slot of the table of users, for HUP.
  let seen: Storage<UInt64>
  /// The names of the sets of users and grants, in the same memory as those of the grants.
  let setNames: SetNames
  let tally: Tally

  var receiver: ReceiverProcess
  var firewall: Resident<Firewall?>
  var runner: CommandRunner
  var grants: GrantKeeper
  var shutdown: Shutdown
  var manager: ServiceManager
  var watchdog: Watchdog
  var metrics: Resident<Metrics?>
  /// Nil if HUP stops the server.
  var reloader: Resident<Reloader?>

  /// Whether this process has kept the privileges that commands may need.
  let keepsPrivileges: Bool
  var isReady = false
  /// How many times the receiver has not yet said that it has taken the changes of users.
  var untakenReloads = 0
  private var isReloadWhole = true
  /// When the loop last looked at the clock, in monotonic microseconds.
  private var lastLook: Int64 = 0
  var setsChanged: UInt64 = 0
  var setsNotChanged: UInt64 = 0
  var exitCode = ExitCode.success

  init(
    state: consuming Resident<StateKeeper?>, signals: consuming Signals,
    timer: consuming BootTimer, receiver: consuming ReceiverProcess, users: consuming Users,
    directory: consuming UsersDirectory?, answers: consuming Resident<Answers?>,
    seen: consuming Storage<UInt64>,
    setNames: consuming SetNames,
    tally: Tally, firewall: consuming Resident<Firewall?>, runner: consuming CommandRunner,
    grants: consuming GrantKeeper, shutdown: Shutdown, manager: consuming ServiceManager,
    metrics: consuming Resident<Metrics?>, reloader: consuming Resident<Reloader?>
  ) {
    self.state = state
    self.signals = signals
    self.timer = timer
    self.receiver = receiver
    self.users = users
    self.directory = directory
    self.answers = answers
    self.seen = seen
    self.setNames = setNames
    self.tally = tally
    self.firewall = firewall
    keepsPrivileges = runner.hasCommands
    self.runner = runner
    self.grants = grants
    self.shutdown = shutdown
    watchdog = Watchdog(manager.watchdogPatience)
    self.manager = manager
    self.metrics = metrics
    self.reloader = reloader
  }

  /// Drops the privileges that this process does not need. Ends the program if it cannot.
  @inline(never)
  func confine(by sandbox: inout Sandbox) {
    do throws(Sandbox.Failure) {
      try sandbox.confineExecutor(
        changesSets: firewall.value != nil, runsCommands: runner.hasCommands)
    } catch { CurrentProcess.exit("\(error)") }
    guard sandbox.isOn else { return }
    if runner.hasCommands {
      log.debug("the executor keeps its privileges, for the commands")
    } else if firewall.value != nil {
      log.debug("the executor has no capability except CAP_NET_ADMIN")
    } else {
      log.debug("the executor has no capability")
    }
  }

  /// Sees to it, after the fork, that this process can only send on the socket for answers. Commands may need every
  /// system call, so with them it cannot.
  mutating func confineAnswers(by sandbox: Sandbox) {
    guard let socket = answers.value?.socketNumber, sandbox.isOn, !keepsPrivileges else { return }
    if let error = sandbox.allowOnlySending(on: socket) {
      log.warning("warning: sandbox: the executor can receive on the socket: no seccomp (\(error))")
    }
  }

  /// Returns when a signal, or the end of the receiver, has stopped the server and the last command has ended.
  ///
  /// - Parameter process: the receiver.
  /// - Throws: what poll(2), recv(2) and read(2) do if the system is out of resources.
  @inline(never)
  mutating func run(receiver process: ChildProcess) throws(SystemError) -> ExitCode {
    receiver.begin(as: process)
    checkUsers()
    reviseGrants(keepsPlace: true)
    checkSets(limit: .max, until: .max)
    grants.save(to: &state.value)
    while !(shutdown.isEnding && !receiver.isRunning && runner.runningCount == 0) {
      timer.set(shutdown.isEnding ? .max : grants.nextDeadline)
      var events = PollSet()
      events.addReader(receiver.descriptor)
      events.addReader(signals.number)
      events.addReader(timer.number)
      events.addReader(log.descriptor)
      try events.wait(until: nextDeadline())
      _ = clockTime()
      log.flush()
      if events.isReady(0) { try takeMessages() }
      if events.isReady(1), let event = try signals.next() { try handle(event) }
      try advance()
    }
    if let last = metrics.value?.nextDeadline { updateMetrics(now: last) }
    grants.end(&state.value)
    log.info("stopped")
    return exitCode
  }

  /// When `advance` has something to do, in monotonic microseconds.
  @inline(never)
  private mutating func nextDeadline() -> Int64 {
    var next = min(log.nextDeadline, min(receiver.nextDeadline, runner.nextDeadline))
    next = min(next, shutdown.nextDeadline)
    if next < .max { next = min(next, SystemClock.monotonic() + Self.longestStep / 2) }
    next = min(next, manager.nextDeadline)
    next = min(next, watchdog.nextDeadline)
    next = min(next, state.value?.nextDeadline ?? .max)
    return min(next, metrics.value?.nextDeadline ?? .max)
  }

  /// Has each part do what is due.
  @inline(never)
  private mutating func advance() throws(SystemError) {
    if grants.followClock() { reviseGrants(keepsPlace: true) }
    closeExpired()
    // Messages and grants may have taken seconds, since the kernel changes sets.
    let now = clockTime()
    // What has ended in time has not reached its limit, however late that is noticed.
    if min(receiver.nextDeadline, runner.nextDeadline) <= now { try reapChildren() }
    if let ending = receiver.advance(now: now) { receiverEnded(ending) }
    while let event = runner.advance(now: now) { handle(event) }
    advanceShutdown(now: now)
    receiver.reportProgress(queued: runner.queuedCount)
    manager.advance(now: now)
    feedWatchdog(now: now)
    grants.advance(&state.value, now: now)
    updateMetrics(now: now)
  }

  @inline(never)
  mutating func feedWatchdog(now: Int64) {
    watchdog.advance(
      tally.beatCount, isReceiverRunning: receiver.isRunning, manager, now: now)
  }

  /// The time in monotonic microseconds. Makes a pause of this process count for no limit: what it waits for may have
  /// been paused, too.
  @inline(never)
  private mutating func clockTime() -> Int64 {
    let now = SystemClock.monotonic()
    let pause = now - lastLook - Self.longestStep
    lastLook = now
    if pause > 0 {
      receiver.postpone(by: pause)
      runner.postpone(by: pause)
      shutdown.postpone(by: pause)
    }
    return now
  }

  // Signals and children

  @inline(never)
  private mutating func handle(_ event: Signals.Event) throws(SystemError) {
    switch event {
    case .childEnded: try reapChildren()
    case .printCounters:
      receiver.updateTally()
      log.answer("counters:\(counters())")
    case .stop(.hangUp) where reloader.value != nil: reload()
    case .stop(let signal):
      if !shutdown.hasBegun { log.info("stopping on \(signal.name)") }
      stop()
    }
  }

  /// Reaps all children that have ended. As process 1 it also gets those that commands have left behind.
  @inline(never)
  private mutating func reapChildren() throws(SystemError) {
    while let process = try ChildProcess.ended() {
      if let ending = receiver.reap(process) {
        receiverEnded(ending)
      } else if let event = runner.reap(process) {
        handle(event)
      }
    }
  }

  /// Takes no more messages of the receiver.
  mutating func closeReceiver() {
    receiver.close()
    let count = receiver.unreceivedCount
    guard count > 0 else { return }
    log.error("accepted knocks not run, the receiver did not pass them on: \(count)")
  }

  mutating func killReceiver() {
    if let ending = receiver.killProcess() { receiverEnded(ending) }
  }

  @inline(never)
  private mutating func receiverEnded(_ ending: ChildProcess.Ending) {
    if shutdown.hasBegun, ending == .exited(status: 0) { return }
    exitCode = .failure
    log.error("the receiver ended: \(ending)")
    stop()
  }

  private mutating func stop() {
    let now = SystemClock.monotonic()
    if !shutdown.hasBegun {
      manager.tell("STOPPING=1")
      receiver.stop(now: now)
    }
    shutdown.begin(now: now)
  }

  @inline(never)
  private mutating func advanceShutdown(now: Int64) {
    let isClosing = grants.isClosing(now: SystemClock.sinceBoot())
    let step = shutdown.advance(
      isDrained: !receiver.hasMessages, isClosing: isClosing, now: now)
    guard let step else { return }
    let closesGrants = if case .closeGrants = step { true } else { false }
    while let action = runner.dequeue(onlyOpens: closesGrants) {
      log.warning("command not run, the server stops: \(action)")
      answerAll(waitingFor: action, isDone: false)
    }
    if closesGrants { return grants.expireAll(now: SystemClock.sinceBoot()) }
    runner.hurry(now: now)
    if shutdown.closesGrants, grants.count > 0 {
      log.warning("\(grants.count) grants are left open, for the next start to close")
    }
  }

  // Reloading

  private mutating func reload() {
    guard !shutdown.hasBegun else { return }
    manager.tellReloading()
    do throws(ReloadError) {
      try replaceKeyAndCommands()
    } catch {
      log.error("\(error)")
      isReloadWhole = false
    }
    if !reloadUsers() { isReloadWhole = false }
    reviseGrants()
    tellUsers()
  }

  /// What follows when the receiver goes by the users that it was told.
  @inline(never)
  mutating func endReload() {
    untakenReloads -= 1
    guard untakenReloads == 0 else { return }
    switch (isReloadWhole, directory == nil) {
    case (true, true): log.answer("reloaded key and commands")
    case (true, false):
      log.answer("reloaded users and commands, users: \(users.namedCount)\(users.unnamedRemark)")
    case (false, true): log.error("not reloaded, going on as before")
    case (false, false):
      log.error(
        """
        not all reloaded, see the errors before this line, users: \(users.namedCount)\
        \(users.unnamedRemark)
        """)
    }
    isReloadWhole = true
    if isReady { manager.tellReady(now: SystemClock.monotonic()) }
  }

  @inline(never)
  private mutating func replaceKeyAndCommands() throws(ReloadError) {
    guard let new = try reloader.value?.read() else { return }
    new.logWarnings()
    guard keepsPrivileges || new.commands.isEmpty else {
      throw .unsuitable(
        "commands need a restart: the server has dropped the privileges that they may need")
    }
    if firewall.value?.settings.sets == nil {
      guard !new.commands.isEmpty else {
        throw .unsuitable("there is no command any more, and no set")
      }
      guard new.commands.canClose || !grants.mustClose else {
        throw .unsuitable("there is no close-command any more, and no set")
      }
    }
    let hasKey: Bool
    switch new.key {
    case .some(let key):
      if directory == nil, users[0]?.version != key.expanded.version {
        throw .unsuitable(
          "the key has another version, and so another length of datagrams: restart")
      }
      do throws(UserFault) {
        if let policy = reloader.value?.policy(setNames, opensByCommand: new.commands.canOpen) {
          try setUser(.none, key.expanded, policy)
        }
      } catch { throw .user(error) }
      hasKey = true
    case nil:
      if reloader.value?.hasKeyFile == true, let slot = users.slot(named: .none) {
        log.info("user removed: the one without a name")
        removeUser(at: slot)
      }
      hasKey = false
    }
    // The rest of `new` ends here. That wipes the key in this process.
    runner.replace(new.takeCommands())
    reloader.value?.keep(hasKeyFile: hasKey)
  }

  // Counters

  private mutating func counters() -> Counters {
    Counters(
      tally: tally, setsChanged: setsChanged,
      setsNotChanged: setsNotChanged, repeats: grants.repeatCount, commands: runner.counters,
      running: runner.runningCount,
      queued: UInt64(runner.queuedCount) + UInt64(receiver.unreceivedCount),
      open: grants.count, notOpened: grants.refusedCount, filesBehind: state.value?.behindCount ?? 0
    )
  }

  private mutating func updateMetrics(now: Int64) {
    guard let deadline = metrics.value?.nextDeadline, deadline <= now else { return }
    let counters = counters()
    do throws(Metrics.Failure) {
      try metrics.value?.update(
        counters, users, beat: tally.beatCount, wallNow: SystemClock.wall(), now: now)
    } catch { log.error("\(error)") }
  }
}
