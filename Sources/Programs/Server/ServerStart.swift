import KnockBase
import KnockServer

/// The steps from the settings to the running server. Each ends the program if it cannot be done. No step is inlined:
/// where one can fail, the compiler would end what the steps before have taken.
extension ServerApplet {
  /// Serves until a signal stops the server.
  static func serve(
    _ given: ServerSettings, _ operands: Operands, _ source: KeySource?
  ) -> Never {
    var settings = given
    CurrentProcess.keepDescriptors()
    let key = key(settings, from: source)
    let commands = commands(settings, operands)
    let signals = begin(settings, operands, commands)
    var firewall = Resident(firewall(settings.firewall))
    settings.firewall.readTimeouts(&firewall.value)
    let socket = ListeningSocket.open(settings, version: version(of: key))
    if settings.onlyChecks { endCheck(settings, key, commands, &firewall.value) }
    var state = state(settings, &firewall.value)
    let users = users(settings, key, commands, state.grants.names, &firewall.value)
    users.logLoaded(settings)
    state.logBegin(users.users)
    ServerParts(
      users: users, commands: commands, signals: signals, firewall: firewall, socket: socket,
      state: state, metrics: Resident(metrics(settings))
    ).run(settings, operands)
  }

  @inline(never)
  private static func key(_ settings: ServerSettings, from source: KeySource?) -> KeyedMAC? {
    // Before the key is read.
    do throws(Sandbox.Failure) {
      try settings.sandbox.hide()
    } catch { CurrentProcess.exit("\(error)") }
    guard let source else { return nil }
    do throws(KeyError) {
      let key = try Key(from: source)
      key.logWarnings(about: source)
      return key.expanded
    } catch { CurrentProcess.exit(fail(error, from: source)) }
  }

  private static func version(of key: borrowing KeyedMAC?) -> UInt8? {
    switch key {
    case .some(let key): key.version
    case nil: nil
    }
  }

  @inline(never)
  private static func commands(_ settings: ServerSettings, _ operands: Operands) -> Commands {
    do throws(Misuse) {
      return try Commands(settings, operands)
    } catch { CurrentProcess.exit(fail(error)) }
  }

  /// Checks what can be checked before anything is opened, begins the log of the server, and takes the signals.
  @inline(never)
  private static func begin(
    _ settings: ServerSettings, _ operands: Operands, _ commands: borrowing Commands
  ) -> Signals {
    if settings.closeAfterSeconds != nil, !commands.canClose, settings.firewall.sets == nil {
      CurrentProcess.exit(
        fail(
          .unsuitable(ServerOption.closeAfter.spec.name, " needs a CLOSE_CMD, --nft or --ipset")))
    }
    // Only now: mistakes in the command line are for the user at the terminal.
    if !settings.onlyChecks {
      CurrentProcess.orExit("log") { () throws(SystemError) in try log.openQueue() }
      if settings.logsToSystem { log.useSystemLog() }
    }
    do throws(Commands.Failure) {
      try commands.check()
    } catch { CurrentProcess.exit("\(error)") }
    do throws(Sandbox.Failure) {
      try settings.sandbox.check()
    } catch { CurrentProcess.exit("\(error)") }
    settings.logCommandWarnings(operands)
    // Before the socket: anyone who sees its port may send a signal.
    return CurrentProcess.orExit("signals") { () throws(SystemError) in try Signals() }
  }

  /// Connects to the kernel and checks the sets, if there are any.
  @inline(never)
  private static func firewall(_ settings: FirewallSettings) -> Firewall? {
    guard settings.sets != nil else { return nil }
    var firewall: Firewall
    do throws(SystemError) {
      firewall = try Firewall(settings)
    } catch {
      CurrentProcess.exit("\(settings.optionName): \(NetfilterSocket.Failure.system(error))")
    }
    // Both, so that the user sees all mistakes at once.
    let isInetUsable = isUsable(.inet, settings, &firewall)
    let isInet6Usable = isUsable(.inet6, settings, &firewall)
    guard isInetUsable, isInet6Usable else { CurrentProcess.exit(.failure) }
    return firewall
  }

  /// Logs why the set of a family cannot be used, and returns false then.
  @inline(never)
  private static func isUsable(
    _ family: AddressFamily, _ settings: FirewallSettings, _ firewall: inout Firewall
  ) -> Bool {
    guard let set = settings.set(for: family), let reason = firewall.error(of: family, settings)
    else { return true }
    let error = FirewallError(reason, set, settings, wasFound: false)
    log.error("\(settings.optionName): \(error)")
    return false
  }

  @inline(never)
  private static func users(
    _ settings: ServerSettings, _ key: borrowing KeyedMAC?, _ commands: borrowing Commands,
    _ names: borrowing SetNames, _ firewall: inout Firewall?
  ) -> LoadedUsers {
    guard var loaded = LoadedUsers(answers: settings.givesAnswers) else {
      CurrentProcess.exitFatally(.outOfMemory)
    }
    do throws(UserFault) {
      switch key {
      case .some(let key):
        let policy = settings.policy(names, opensByCommand: commands.canOpen)
        try loaded.insert(.none, key, policy)
      case nil: break
      }
    } catch { CurrentProcess.exit("\(error)") }
    if let path = settings.keysDirectory {
      do throws(LoadedUsers.Failure) {
        try loaded.add(
          directory: path, settings, opensByCommand: commands.canOpen, names, &firewall)
      } catch { CurrentProcess.exit("\(error)") }
    }
    return loaded
  }

  /// What `--check` checks besides. Ends the program. The compiler must not know that: it would end the values of the
  /// caller before.
  @inline(never)
  private static func endCheck(
    _ settings: ServerSettings, _ key: borrowing KeyedMAC?, _ commands: borrowing Commands,
    _ firewall: inout Firewall?
  ) {
    guard let names = Storage<UInt8>.mapped(SetNames.size) else {
      CurrentProcess.exitFatally(.outOfMemory)
    }
    let users = users(settings, key, commands, SetNames(names), &firewall)
    checkPlaces(settings)
    let code = printToStandardOutput {
      $0.append("configuration OK")
      if settings.keysDirectory != nil {
        $0.append(", users: ")
        $0.append(users.users.namedCount)
        $0.append(users.users.unnamedRemark)
      }
      $0.append("\n")
    }
    log.end()
    CurrentProcess.end(status: code.rawValue)
  }

  /// Checks the state directory and the file of `--metrics`.
  @inline(never)
  private static func checkPlaces(_ settings: ServerSettings) {
    do throws(StateError) {
      try ServerState.check(settings)
    } catch { CurrentProcess.exit("\(error)") }
    guard let path = settings.metrics else { return }
    do throws(SystemError) {
      try path.checkPlace()
    } catch { CurrentProcess.exit("\(Metrics.Failure(path: path, error: error))") }
  }

  @inline(never)
  private static func state(
    _ settings: ServerSettings, _ firewall: inout Firewall?
  ) -> ServerState {
    CurrentProcess.orExit("/dev/null") { () throws(SystemError) in
      try CurrentProcess.detachStandardStreams()
    }
    var found = ServerState.Found()
    let state: ServerState
    do throws(StateError) {
      state = try ServerState.open(settings, found: &found)
    } catch {
      found.logAll(drift: settings.drift)
      CurrentProcess.exit("\(error)")
    }
    found.logAll(drift: settings.drift)
    // An earlier server had sets.
    if found.grants.hasSets, firewall == nil {
      do throws(SystemError) {
        firewall = try Firewall(settings.firewall)
      } catch { log.warning("warning: no grant in a set can be closed: \(error)") }
    }
    return state
  }

  @inline(never)
  private static func metrics(_ settings: ServerSettings) -> Metrics? {
    guard let path = settings.metrics else { return nil }
    do throws(Metrics.Failure) {
      return try Metrics(path, wallNow: SystemClock.wall())
    } catch { CurrentProcess.exit("\(error)") }
  }
}
