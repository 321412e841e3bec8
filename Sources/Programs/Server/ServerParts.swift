import KnockBase
import KnockServer

/// What a server has taken from the system when it starts.
struct ServerParts: ~Copyable {
  let users: LoadedUsers
  let commands: Commands
  let signals: Signals
  var firewall: Resident<Firewall?>
  let socket: UDPSocket
  let state: ServerState
  let metrics: Resident<Metrics?>

  /// What both processes need besides.
  private struct Common: ~Copyable {
    /// How many of the last knocks the executor remembers, to recognize repeats.
    private static let recentKnocks = 1024

    let batch: DatagramBatch
    let logBudgets: Storage<UserBuckets.Element>
    let recent: Storage<RecentKnocks.Entry>
    let seen: Storage<UInt64>
    let tally: Tally
    let channel: Channel.Pair
    let timer: BootTimer

    /// Ends the program if the system does not have it.
    @inline(never)
    init(answers: Bool) {
      guard let batch = DatagramBatch(answers: answers),
        let logBudgets = Storage<UserBuckets.Element>.mapped(Users.slotCount),
        let recent = Storage<RecentKnocks.Entry>.mapped(Self.recentKnocks),
        let seen = Storage<UInt64>.mapped(Users.slotCount / 64 + 1)
      else { CurrentProcess.exitFatally(.outOfMemory) }
      self.batch = batch
      self.logBudgets = logBudgets
      self.recent = recent
      self.seen = seen
      tally = CurrentProcess.orExit { () throws(SystemError) in try Tally() }
      channel = CurrentProcess.orExit { () throws(SystemError) in try Channel.Pair() }
      timer = CurrentProcess.orExit { () throws(SystemError) in try BootTimer() }
    }
  }

  /// Makes the two processes and runs them.
  @inline(never)
  consuming func run(_ settings: ServerSettings, _ operands: Operands) -> Never {
    let common = Common(answers: settings.givesAnswers)
    let startLine = Self.startLine(socket, settings)
    let reloader = Resident(Self.reloader(settings, operands))
    logWarnings(settings)
    let manager = ServiceManager(Self.connectToServiceManager())
    let beatInterval = min(
      manager.watchdogPatience.map { $0 / 4 } ?? .max,
      metrics.value == nil ? .max : Metrics.interval)
    let answers = Resident(Self.answers(socket, users.answerKeys, settings))
    let receiver = Receiver(
      socket: socket, batch: common.batch,
      gate: Gate(
        keys: users.keys, users: users.users.forFork(), drift: settings.drift,
        acceptsVersion1: settings.acceptsVersion1, replays: state.replays),
      executor: common.channel.first, tally: common.tally,
      logBudgets: UserBuckets(common.logBudgets),
      startLine: startLine, tellsReady: manager.listens,
      beatInterval: beatInterval == .max ? nil : beatInterval)
    let executor = Resident(
      Executor(
        state: state.keeper, signals: signals, timer: common.timer,
        receiver: ReceiverProcess(common.channel.second, tally: common.tally),
        users: users.users, directory: users.directory, answers: answers, seen: common.seen,
        setNames: state.grants.names.alias(), tally: common.tally, firewall: firewall,
        runner: Self.runner(commands, settings),
        grants: GrantKeeper(state.grants, recent: RecentKnocks(common.recent), settings),
        shutdown: Shutdown(closesGrants: settings.closesOnExit), manager: manager,
        metrics: metrics, reloader: reloader))
    Server.run(receiver: receiver, executor: executor, sandbox: settings.sandbox)
  }

  /// Nil without answers.
  @inline(never)
  private static func answers(
    _ socket: borrowing UDPSocket, _ keys: consuming AnswerKeys?, _ settings: ServerSettings
  ) -> Answers? {
    guard let keys else { return nil }
    let socket = CurrentProcess.orExit("--answer") { () throws(SystemError) in
      try socket.tellLocalAddresses()
      return try socket.duplicate()
    }
    guard let answers = Answers(socket: socket, keys: keys, settings) else {
      CurrentProcess.exitFatally(.outOfMemory)
    }
    return answers
  }

  @inline(never)
  private static func startLine(
    _ socket: borrowing UDPSocket, _ settings: ServerSettings
  ) -> Receiver.StartLine {
    CurrentProcess.orExit { () throws(SystemError) in
      Receiver.StartLine(
        address: try socket.localAddress(), drift: settings.drift,
        bufferSize: try ListeningSocket.enlargeBuffer(of: socket))
    }
  }

  @inline(never)
  private static func reloader(
    _ settings: ServerSettings, _ operands: Operands
  ) -> Reloader? {
    CurrentProcess.orExit { () throws(SystemError) in try Reloader.make(settings, operands) }
  }

  @inline(never)
  private static func runner(
    _ commands: consuming Commands, _ settings: ServerSettings
  ) -> CommandRunner {
    guard let runner = CommandRunner(commands, settings: settings) else {
      CurrentProcess.exitFatally(.outOfMemory)
    }
    return runner
  }

  /// Logs what knocks grant, and what is missing.
  @inline(never)
  private mutating func logWarnings(_ settings: ServerSettings) {
    if settings.firewall.sets != nil {
      logGrant(of: .inet, settings.firewall)
      logGrant(of: .inet6, settings.firewall)
    }
    if settings.stateDirectory == nil,
      settings.firewall.grantsPrefixes(for: .inet) || settings.firewall.grantsPrefixes(for: .inet6)
    {
      log.warning(
        """
        warning: after a restart, a close will end the whole prefix, also for other addresses; \
        --state prevents that
        """)
    }
    if !settings.sandbox.isOn { log.warning("warning: no sandbox") }
    settings.logReplayCapacity()
  }

  @inline(never)
  private mutating func logGrant(of family: AddressFamily, _ settings: FirewallSettings) {
    let time = settings.set(for: family).flatMap { firewall.value?.time(of: $0) }
    log.info(settings.grant(of: family, duration: time?.duration))
  }

  /// `Descriptor.none` if no service manager wants to hear anything.
  @inline(never)
  private static func connectToServiceManager() -> Descriptor {
    guard let name = Environment.variable("NOTIFY_SOCKET") else { return .none }
    do throws(SystemError) {
      return try Descriptor(connectingTo: name)
    } catch {
      log.error("NOTIFY_SOCKET \(quoted: name): \(error)")
      return .none
    }
  }
}
