import KnockBase
import KnockServer

/// `pyknock server`: checks its settings, takes what it needs from the system, and runs the server.
enum ServerApplet: Applet {
  /// For so many of the last knocks the executor knows whether a new one is a repeat.
  private static let recentKnocks = 1024

  static var program: StaticString { "pyknock server" }
  static var synopsis: StaticString { "[OPTION]... (PSK | -k FILE | -f FILE) [OPEN_CMD CLOSE_CMD]" }
  static var description: StaticString {
    """
    Waits for knocks. Acts on each one that is signed with the key, fresh, and not
    accepted before: changes a set of the kernel's firewall (--nft or --ipset), and
    then runs OPEN_CMD or CLOSE_CMD. An empty command does nothing. In commands,
    $ip, $af and $cmd are the address, inet or inet6, and open or close; so are
    PYKNOCK_IP, PYKNOCK_AF and PYKNOCK_CMD in the environment. The log goes to
    stderr. The signal USR1 logs the counters. HUP reads the key and the commands
    again if the key is in a file. TERM and INT stop the server.

    A DURATION is 90 (seconds), 15m, 2h or 1d.

    """
  }
  static func operandNames(withKey: Bool) -> StaticString {
    withKey ? "PSK OPEN_CMD CLOSE_CMD" : "OPEN_CMD CLOSE_CMD"
  }
  /// The commands are optional if there are sets, or if the configuration file has commands.
  static func operandCount(
    _ settings: ServerSettings, _ operands: Operands, given: Int
  ) -> Int {
    let hasWork =
      settings.firewall.sets != nil || settings.openCommand != nil || settings.closeCommand != nil
    return hasWork && given <= 0 ? 0 : 2
  }
  static func keyOperand(_ settings: ServerSettings, _ operands: Operands) -> Int? { 0 }

  static func printInstead(_ settings: ServerSettings) -> ExitCode? {
    if settings.listsGrants, let path = settings.stateDirectory {
      return listGrants(in: path, settings)
    }
    return settings.example.map { example in
      printToStandardOutput { example.write(port: settings.port, to: &$0) }
    }
  }

  private static func listGrants(in path: Argument, _ settings: ServerSettings) -> ExitCode {
    var failure: StateFailure?
    let exitCode = printToStandardOutput { output in
      do throws(StateFailure) {
        try GrantState.list(in: path, asJSON: settings.listsAsJSON, to: &output)
      } catch { failure = error }
    }
    guard let failure else { return exitCode }
    // There is no key in this command line.
    log.error("--state: \(quoted: path): \(failure)")
    return .failure
  }

  static func run(_ settings: ServerSettings, _ operands: Operands, key: KeySource?) -> ExitCode {
    guard let key else { return .misuse }
    log.verbosity = settings.verbosity
    if settings.logsAsJSON { log.useJSON() }
    do throws(StartFailure) {
      return try serve(settings, operands, key)
    } catch {
      switch error {
      case .misuse(let misuse): return fail(misuse)
      case .key(let error, let source): return fail(error, from: source)
      case .unusableSets(let inet, let inet6):
        if let inet { logUnusableSet(.inet, settings.firewall, inet) }
        if let inet6 { logUnusableSet(.inet6, settings.firewall, inet6) }
        return .failure
      default:
        log.error("\(error)")
        return .failure
      }
    }
  }

  private static func serve(
    _ settings: ServerSettings, _ operands: Operands, _ source: KeySource
  ) throws(StartFailure) -> ExitCode {
    let mac = try loadKey(from: source)
    let commands = try commands(settings, operands)
    let canClose = commands.canClose || settings.firewall.sets != nil
    guard settings.closeAfterSeconds == nil || canClose else {
      throw .misuse(
        .unsuitable(ServerOption.closeAfter.spec.name, " needs a CLOSE_CMD, --nft or --ipset"))
    }
    // Only now: mistakes in the command line are for the user at the terminal.
    if settings.logsToSystem, !settings.onlyChecks {
      try StartFailure.wrapping("--syslog: /dev/log") { () throws(SystemError) in
        try log.useSystemLog()
      }
    }
    try check(commands, settings.sandbox)

    // Before the socket: whoever sees its port may send a signal.
    let signals = try StartFailure.wrapping("signals") { () throws(SystemError) in try Signals() }
    let firewall = try openFirewall(settings.firewall)
    let socket = try ListeningSocket.open(settings)
    if settings.onlyChecks { return try check(settings) }
    try StartFailure.wrapping("/dev/null") { () throws(SystemError) in
      try CurrentProcess.detachStandardStreams()
    }
    let state = try openState(settings)
    state.logFound(drift: settings.drift)
    guard canClose || state.grants.count == 0 else {
      throw .cannotClose(count: state.grants.count)
    }
    let metrics = try metrics(settings)
    do throws(SystemError) {
      return try runProcesses(
        settings, operands, mac: mac, commands: commands, signals: signals, firewall: firewall,
        socket: socket, state: state, metrics: metrics)
    } catch { throw .system("fatal", error) }
  }

  private static func loadKey(from source: KeySource) throws(StartFailure) -> KeyedMAC {
    do throws(KeyError) {
      let key = try Key(from: source)
      key.logWarnings(about: source)
      if case .operand = source {
        log.warning(
          "warning: a key in the command line shows in ps and the history; use -k FILE")
      }
      return key.mac
    } catch { throw .key(error, source) }
  }

  private static func commands(
    _ settings: ServerSettings, _ operands: Operands
  ) throws(StartFailure) -> Commands {
    do throws(Misuse) {
      return try Commands(settings, operands)
    } catch { throw .misuse(error) }
  }

  /// Connects to the kernel and checks the sets, if there are any.
  private static func openFirewall(_ settings: FirewallSettings) throws(StartFailure) -> Firewall? {
    guard settings.sets != nil else { return nil }
    var firewall = try connect(settings)
    // Both, so that the user sees all mistakes at once.
    let inet = error(of: .inet, in: &firewall)
    let inet6 = error(of: .inet6, in: &firewall)
    guard inet == nil, inet6 == nil else {
      throw .unusableSets(inet, inet6)
    }
    return firewall
  }

  @inline(never)
  private static func logUnusableSet(
    _ family: AddressFamily, _ settings: FirewallSettings, _ reason: FirewallError.Reason
  ) {
    let error = FirewallError(
      reason: reason, family: family, settings: settings, wasFound: false)
    log.error("\(settings.optionName): \(error)")
  }

  private static func connect(_ settings: FirewallSettings) throws(StartFailure) -> Firewall {
    do throws(SystemError) {
      return try Firewall(settings)
    } catch { throw .noFirewall(option: settings.optionName, .system(error)) }
  }

  @inline(never)
  private static func error(
    of family: AddressFamily, in firewall: inout Firewall
  ) -> FirewallError.Reason? {
    do throws(FirewallError.Reason) {
      try firewall.check(family)
      return nil
    } catch { return error }
  }

  /// What `--check` checks besides.
  private static func check(_ settings: ServerSettings) throws(StartFailure) -> ExitCode {
    do throws(StateError) {
      try ServerState.check(settings)
    } catch { throw .state(error) }
    if let path = settings.metrics {
      do throws(SystemError) {
        try path.checkPlace()
      } catch { throw .metrics(Metrics.Failure(path: path, error: error)) }
    }
    return printToStandardOutput { $0.append("configuration OK\n") }
  }

  private static func check(
    _ commands: borrowing Commands, _ sandbox: Sandbox
  ) throws(StartFailure) {
    do throws(Commands.Failure) {
      try commands.check()
    } catch { throw .command(error) }
    do throws(Sandbox.Failure) {
      try sandbox.check()
    } catch { throw .sandbox(error) }
  }

  private static func openState(_ settings: ServerSettings) throws(StartFailure) -> ServerState {
    do throws(StateError) {
      return try ServerState.open(settings)
    } catch { throw .state(error) }
  }

  private static func metrics(_ settings: ServerSettings) throws(StartFailure) -> Metrics? {
    guard let path = settings.metrics else { return nil }
    do throws(Metrics.Failure) {
      return try Metrics(path)
    } catch { throw .metrics(error) }
  }

  /// `Descriptor.none` if no service manager wants to hear anything.
  private static func connectToServiceManager() -> Descriptor {
    guard let name = Environment.variable("NOTIFY_SOCKET") else { return .none }
    do throws(SystemError) {
      return try ServiceManager.connect(name)
    } catch {
      log.error("NOTIFY_SOCKET \(quoted: name): \(error)")
      return .none
    }
  }

  /// Makes the two processes and runs them.
  private static func runProcesses(
    _ settings: ServerSettings, _ operands: Operands, mac: consuming KeyedMAC,
    commands: consuming Commands, signals: consuming Signals, firewall: consuming Firewall?,
    socket: consuming UDPSocket, state: consuming ServerState, metrics: consuming Metrics?
  ) throws(SystemError) -> ExitCode {
    guard
      let runner = CommandRunner(commands, settings: settings),
      let batch = DatagramBatch(),
      let recent = Storage<RecentKnocks.Entry>.mapped(recentKnocks)
    else { throw .outOfMemory }
    let policies = Policies(
      Policy(
        families: AddressFamilies { settings.firewall.covers($0) },
        allowsObservedSource: settings.allowsObservedSource))
    let gate = Gate(key: mac, drift: settings.drift, policies: policies, replays: state.replays)
    let start = Receiver.Start(
      address: try socket.localAddress(), drift: settings.drift,
      bufferSize: try ListeningSocket.enlargeBuffer(of: socket))
    if settings.firewall.sets != nil {
      log.info(settings.firewall.grant(of: .inet))
      log.info(settings.firewall.grant(of: .inet6))
    }
    let tally = try Tally()
    let manager = ServiceManager(connectToServiceManager())
    let sameSocket = try UDPSocket(duplicating: socket)
    let channel = try Channel.Pair()
    let receiver = Receiver(
      socket: socket, batch: batch, gate: gate, recordsTime: settings.stateDirectory != nil,
      executor: channel.first, tally: tally, start: start, tellsReady: manager.listens,
      beatInterval: manager.watchdogMilliseconds.map { $0 / 4 })
    let executor = Executor(
      state: state.directory, signals: signals,
      receiver: ReceiverProcess(channel.second, tally: tally), policies: policies, tally: tally,
      socket: sameSocket, firewall: firewall, runner: runner,
      grants: GrantKeeper(state.grants, recent: RecentKnocks(recent), settings),
      shutdown: Shutdown(closesGrants: settings.closesOnExit), manager: manager, metrics: metrics,
      reloader: try Reloader.make(settings, operands))
    if !settings.sandbox.isOn { log.warning("warning: no sandbox") }
    return try Server.run(receiver: receiver, executor: executor, sandbox: settings.sandbox)
  }
}
