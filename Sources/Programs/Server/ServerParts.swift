import KnockBase
import KnockServer

/// What a server has taken from the system when it starts.
struct ServerParts: ~Copyable {
  /// How many of the last knocks the executor remembers, to recognize repeats.
  private static let recentKnocks = 1024

  let users: LoadedUsers
  let commands: Commands
  let signals: Signals
  var firewall: Firewall?
  let socket: UDPSocket
  let state: ServerState
  let metrics: Metrics?

  /// Makes the two processes and runs them.
  @inline(never)
  consuming func run(_ settings: ServerSettings, _ operands: Operands) -> Never {
    guard let batch = DatagramBatch(),
      let logBudgets = Storage<UserBuckets.Element>.mapped(Users.slotCount),
      let recent = Storage<RecentKnocks.Entry>.mapped(Self.recentKnocks),
      let seen = Storage<UInt64>.mapped(Users.slotCount / 64 + 1)
    else { CurrentProcess.exitFatally(.outOfMemory) }
    let startLine = CurrentProcess.orExit { () throws(SystemError) in
      Receiver.StartLine(
        address: try socket.localAddress(), drift: settings.drift,
        bufferSize: try ListeningSocket.enlargeBuffer(of: socket))
    }
    let tally = CurrentProcess.orExit { () throws(SystemError) in try Tally() }
    let channel = CurrentProcess.orExit { () throws(SystemError) in try Channel.Pair() }
    let timer = CurrentProcess.orExit { () throws(SystemError) in try BootTimer() }
    let reloader = CurrentProcess.orExit { () throws(SystemError) in
      try Reloader.make(settings, operands)
    }
    if settings.firewall.sets != nil {
      let inetTime = settings.firewall.set(for: .inet).flatMap { firewall?.time(of: $0) }
      log.info(settings.firewall.grant(of: .inet, duration: inetTime?.duration))
      let inet6Time = settings.firewall.set(for: .inet6).flatMap { firewall?.time(of: $0) }
      log.info(settings.firewall.grant(of: .inet6, duration: inet6Time?.duration))
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
    let serverPolicy = settings.policy(state.grants.names)
    let manager = ServiceManager(Self.connectToServiceManager())
    guard let runner = CommandRunner(commands, settings: settings) else {
      CurrentProcess.exitFatally(.outOfMemory)
    }
    let beatInterval = min(
      manager.watchdogPatience.map { $0 / 4 } ?? .max, metrics == nil ? .max : Metrics.interval)
    let receiver = Receiver(
      socket: socket, batch: batch,
      gate: Gate(
        keys: users.keys, users: users.users.forFork(), drift: settings.drift,
        replays: state.replays),
      executor: channel.first, tally: tally, logBudgets: UserBuckets(logBudgets),
      startLine: startLine, tellsReady: manager.listens,
      beatInterval: beatInterval == .max ? nil : beatInterval)
    let executor = Executor(
      state: state.keeper, signals: signals,
      timer: timer, receiver: ReceiverProcess(channel.second, tally: tally),
      users: users.users, serverPolicy: serverPolicy, directory: users.directory, seen: seen,
      setNames: state.grants.names.alias(), tally: tally, firewall: firewall,
      runner: runner,
      grants: GrantKeeper(state.grants, recent: RecentKnocks(recent), settings),
      shutdown: Shutdown(closesGrants: settings.closesOnExit), manager: manager, metrics: metrics,
      reloader: reloader)
    Server.run(receiver: receiver, executor: executor, sandbox: settings.sandbox)
  }

  /// `Descriptor.none` if no service manager wants to hear anything.
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
