import KnockBase
import KnockServer

/// The steps from the settings to the running server. Each may throw why the server does not start.
extension ServerApplet {
  /// Serves until a signal stops the server. Ends the program when the server ends, or does not start.
  static func serve(
    _ settings: ServerSettings, _ operands: Operands, _ source: KeySource?
  ) -> Never {
    CurrentProcess.keepDescriptors()
    let key = orEnd(settings) { () throws(StartFailure) -> KeyedMAC? in
      // Before the key is read.
      do throws(Sandbox.Failure) { try settings.sandbox.hide() } catch { throw .sandbox(error) }
      return try loadKey(from: source)
    }
    let commands = orEnd(settings) { () throws(StartFailure) in
      try Self.commands(settings, operands)
    }
    let signals = orEnd(settings) { () throws(StartFailure) -> Signals in
      guard
        settings.closeAfterSeconds == nil || commands.canClose || settings.firewall.sets != nil
      else {
        throw .misuse(
          .unsuitable(ServerOption.closeAfter.spec.name, " needs a CLOSE_CMD, --nft or --ipset"))
      }
      // Only now: mistakes in the command line are for the user at the terminal.
      if !settings.onlyChecks {
        try StartFailure.wrapping("log") { () throws(SystemError) in try log.openQueue() }
        if settings.logsToSystem { log.useSystemLog() }
      }
      try check(commands, settings.sandbox)
      settings.logCommandWarnings(operands)
      // Before the socket: anyone who sees its port may send a signal.
      return try StartFailure.wrapping("signals") { () throws(SystemError) in try Signals() }
    }
    var firewall = orEnd(settings) { () throws(StartFailure) in
      try openFirewall(settings.firewall)
    }
    let socket = orEnd(settings) { () throws(StartFailure) in
      try ListeningSocket.open(settings)
    }
    if settings.onlyChecks {
      let exitCode = orEnd(settings) { () throws(StartFailure) in
        try check(settings, key, commands, &firewall)
      }
      CurrentProcess.exit(exitCode)
    }
    var state = orEnd(settings) { () throws(StartFailure) -> ServerState in
      try StartFailure.wrapping("/dev/null") { () throws(SystemError) in
        try CurrentProcess.detachStandardStreams()
      }
      return try openState(settings, &firewall)
    }
    let users = orEnd(settings) { () throws(StartFailure) in
      try loadUsers(settings, key, commands, state.grants.names, &firewall)
    }
    if settings.keysDirectory != nil {
      log.info("users: \(users.users.namedCount)\(users.unnamedRemark)")
    }
    users.keys.logRate()
    state.logBegin(users.users)
    let metrics = orEnd(settings) { () throws(StartFailure) in try Self.metrics(settings) }
    ServerParts(
      users: users, commands: commands, signals: signals, firewall: firewall, socket: socket,
      state: state, metrics: metrics
    ).run(settings, operands)
  }

  /// What `body` returns. If it throws, logs why and ends the program.
  @inline(__always)
  private static func orEnd<Result: ~Copyable>(
    _ settings: ServerSettings, _ body: () throws(StartFailure) -> Result
  ) -> Result {
    do throws(StartFailure) {
      return try body()
    } catch { end(error, settings) }
  }

  @inline(never)
  private static func end(_ failure: StartFailure, _ settings: ServerSettings) -> Never {
    switch failure {
    case .misuse(let misuse): CurrentProcess.exit(fail(misuse))
    case .key(let error, let source): CurrentProcess.exit(fail(error, from: source))
    case .unusableSets(let inet, let inet6):
      if let inet { logUnusableSet(.inet, settings.firewall, inet) }
      if let inet6 { logUnusableSet(.inet6, settings.firewall, inet6) }
    default: log.error("\(failure)")
    }
    CurrentProcess.exit(.failure)
  }

  @inline(never)
  private static func logUnusableSet(
    _ family: AddressFamily, _ settings: FirewallSettings, _ reason: FirewallError.Reason
  ) {
    guard let set = settings.set(for: family) else { return }
    let error = FirewallError(reason, set, settings, wasFound: false)
    log.error("\(settings.optionName): \(error)")
  }

  private static func loadKey(from source: KeySource?) throws(StartFailure) -> KeyedMAC? {
    guard let source else { return nil }
    do throws(KeyError) {
      let key = try Key(from: source)
      key.logWarnings(about: source)
      return key.expanded
    } catch { throw .key(error, source) }
  }

  @inline(never)
  private static func loadUsers(
    _ settings: ServerSettings, _ key: borrowing KeyedMAC?, _ commands: borrowing Commands,
    _ names: borrowing SetNames, _ firewall: inout Firewall?
  ) throws(StartFailure) -> LoadedUsers {
    guard var loaded = LoadedUsers() else { throw .system("users", .outOfMemory) }
    do throws(UserFault) {
      switch key {
      case .some(let key): try loaded.insert(.none, key, settings.policy(names))
      case nil: break
      }
    } catch { throw .user(error) }
    if let path = settings.keysDirectory {
      let directory = try StartFailure.wrapping("--keys") { () throws(SystemError) in
        try UsersDirectory(path, settings, opensByCommand: commands.canOpen)
      }
      try loaded.add(directory, names, &firewall)
    }
    return loaded
  }

  private static func commands(
    _ settings: ServerSettings, _ operands: Operands
  ) throws(StartFailure) -> Commands {
    do throws(Misuse) {
      return try Commands(settings, operands)
    } catch { throw .misuse(error) }
  }

  /// Connects to the kernel and checks the sets, if there are any.
  @inline(never)
  private static func openFirewall(_ settings: FirewallSettings) throws(StartFailure) -> Firewall? {
    guard settings.sets != nil else { return nil }
    var firewall = try connect(settings)
    // Both, so that the user sees all mistakes at once.
    let inet = firewall.error(of: .inet, settings)
    let inet6 = firewall.error(of: .inet6, settings)
    guard inet == nil, inet6 == nil else {
      throw .unusableSets(inet, inet6)
    }
    return firewall
  }

  private static func connect(_ settings: FirewallSettings) throws(StartFailure) -> Firewall {
    do throws(SystemError) {
      return try Firewall(settings)
    } catch { throw .noFirewall(option: settings.optionName, .system(error)) }
  }

  /// What `--check` checks besides.
  private static func check(
    _ settings: ServerSettings, _ key: borrowing KeyedMAC?, _ commands: borrowing Commands,
    _ firewall: inout Firewall?
  ) throws(StartFailure) -> ExitCode {
    guard let names = Storage<UInt8>.mapped(SetNames.size) else {
      throw .system("users", .outOfMemory)
    }
    let users = try loadUsers(settings, key, commands, SetNames(names), &firewall)
    do throws(StateError) {
      try ServerState.check(settings)
    } catch { throw .state(error) }
    if let path = settings.metrics {
      do throws(SystemError) {
        try path.checkPlace()
      } catch { throw .metrics(Metrics.Failure(path: path, error: error)) }
    }
    return printToStandardOutput {
      $0.append("configuration OK")
      if settings.keysDirectory != nil {
        $0.append(", users: ")
        $0.append(users.users.namedCount)
        $0.append(users.unnamedRemark)
      }
      $0.append("\n")
    }
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

  @inline(never)
  private static func openState(
    _ settings: ServerSettings, _ firewall: inout Firewall?
  ) throws(StartFailure) -> ServerState {
    var found = ServerState.Found()
    // Also after an error.
    defer { found.logAll(drift: settings.drift) }
    let state: ServerState
    do throws(StateError) {
      state = try ServerState.open(settings, found: &found)
    } catch { throw .state(error) }
    // An earlier server had sets.
    if found.grants.hasSets, firewall == nil {
      do throws(SystemError) {
        firewall = try Firewall(settings.firewall)
      } catch { log.warning("warning: no grant in a set can be closed: \(error)") }
    }
    return state
  }

  private static func metrics(_ settings: ServerSettings) throws(StartFailure) -> Metrics? {
    guard let path = settings.metrics else { return nil }
    do throws(Metrics.Failure) {
      return try Metrics(path, wallNow: SystemClock.wall())
    } catch { throw .metrics(error) }
  }
}
