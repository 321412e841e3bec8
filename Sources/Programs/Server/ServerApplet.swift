import CSystem
import KnockBase
import KnockServer

/// `pyknock server`: checks what it was given, claims what it needs, and runs the server.
enum ServerApplet: Applet {
  /// Asked of the kernel (bytes): its default holds only about 255 datagrams.
  private static let receiveBufferSize: Int32 = 1 << 20
  /// Of so many knocks it is known whether another one is a repetition.
  private static let recentKnocks = 1024

  static var program: StaticString { "pyknock server" }
  static var synopsis: StaticString { "[OPTION]... (PSK | -k FILE | -f FILE) [OPEN_CMD CLOSE_CMD]" }
  static var description: StaticString {
    """
    Waits for knocks, and acts on each that is signed with the key, is fresh, and was not accepted
    before. It changes a set of the kernel's firewall (--nft, --ipset), or runs OPEN_CMD or
    CLOSE_CMD, or both in this order. In the commands $ip, $af and $cmd stand for the address,
    inet or inet6, and open or close; the environment has them as PYKNOCK_IP, PYKNOCK_AF and
    PYKNOCK_CMD. An empty command does nothing. The log goes to stderr; the signal USR1 adds
    the counters to it, HUP reads key and commands anew if the key is in a file, TERM and INT
    stop the server.

    """
  }
  static func operandNames(withKey: Bool) -> StaticString {
    withKey ? "PSK OPEN_CMD CLOSE_CMD" : "OPEN_CMD CLOSE_CMD"
  }
  /// With sets, or commands in the configuration file, they may be left out.
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
      printToStandardOutput(program: program) { example.write(port: settings.port, to: &$0) }
    }
  }

  private static func listGrants(in path: Argument, _ settings: ServerSettings) -> ExitCode {
    var failure: StateFailure?
    let exitCode = printToStandardOutput(program: program) { output in
      do throws(StateFailure) {
        try GrantState.list(in: path, asJSON: settings.listsAsJSON, to: &output)
      } catch { failure = error }
    }
    guard let failure else { return exitCode }
    failure.write(settings, to: Report(program: program))
    return .failure
  }

  static func run(_ settings: ServerSettings, _ operands: Operands, key: KeySource?) -> ExitCode {
    guard let key else { return .misuse }
    var report = Report(program: program)
    report.verbosity = settings.verbosity
    log.verbosity = settings.verbosity
    if settings.logsAsJSON {
      report.setJSON()
      log.useJSON()
    }

    guard KeyedMAC.passesSelfTest(report) else { return .failure }
    let mac: KeyedMAC
    do throws(KeyError) {
      mac = try Key.load(key, report: report)
    } catch {
      return fail(error, from: key, report)
    }
    if case .operand = key {
      report.write(
        "warning: a key in the command line shows in ps and the history; use -k FILE", as: .warning)
    }
    return serve(settings, operands, mac, report: report)
  }

  private static func serve(
    _ settings: ServerSettings, _ operands: Operands, _ mac: consuming KeyedMAC, report: Report
  ) -> ExitCode {
    let commands: Commands
    do throws(Misuse) {
      commands = try Commands(settings, operands)
    } catch { return fail(error, mayQuote: false) }
    let mayQuote = settings.mayQuote
    let canClose = commands.canClose || settings.firewall.sets != nil
    guard settings.closeAfterSeconds == nil || canClose else {
      return fail(
        .unsuitable(ServerSettings.Option.closeAfter.spec, " needs a CLOSE_CMD, --nft or --ipset"),
        mayQuote: mayQuote)
    }
    // Mistakes in the command line go to who has made it.
    var report = report
    if settings.logsToSystem, !settings.onlyChecks {
      do throws(SystemError) {
        try report.useSystemLog()
        try log.useSystemLog()
      } catch {
        report.write("--syslog: /dev/log", error)
        return .failure
      }
    }
    do throws(Commands.Failure) {
      try commands.check()
    } catch {
      log.error("\(error)")
      return .failure
    }
    do throws(Sandbox.Failure) {
      try settings.sandbox.check()
    } catch {
      log.error("\(error)")
      return .failure
    }

    do throws(SystemError) {
      // Before the socket, so that whoever sees its port may send a signal.
      let signals = try Signals()
      var firewall: Firewall?
      if settings.firewall.sets != nil {
        firewall = open(settings.firewall)
        guard firewall != nil else { return .failure }
      }
      guard let socket = bind(settings, report) else { return .failure }
      if settings.onlyChecks {
        guard ServerState.passesCheck(settings, report) else { return .failure }
        if let path = settings.metrics, case let result = unsafe csys_check_place(path.pointer),
          result < 0
        {
          report.write("--metrics", path) { $0.append(SystemError(number: -result)) }
          return .failure
        }
        return printToStandardOutput(program: program) { $0.append("configuration OK\n") }
      }
      do throws(SystemError) {
        try CurrentProcess.detachStandardStreams()
      } catch {
        report.write("/dev/null", error)
        return .failure
      }
      guard
        let runner = CommandRunner(
          commands, settings: settings),
        let batch = DatagramBatch(),
        let recent = Storage<RecentKnocks.Entry>.mapped(recentKnocks)
      else { throw SystemError(number: ENOMEM) }
      guard let state = ServerState.open(settings, report) else { return .failure }
      guard canClose || state.grants.count == 0 else {
        var line = Line(.error)
        line.append("--state: ")
        line.append(state.grants.count)
        line.append(" addresses are still open, and there is no CLOSE_CMD and no set to close them")
        report.write(line)
        return .failure
      }
      let policies = Policies(
        Policy(
          families: AddressFamilies { settings.firewall.covers($0) },
          allowsObservedSource: settings.allowsObservedSource))
      let gate = Gate(
        key: mac, drift: settings.drift, policies: policies, replays: state.replays)
      let start = Receiver.Start(
        address: try socket.localAddress(), drift: settings.drift,
        bufferSize: try socket.setReceiveBuffer(receiveBufferSize))
      if settings.firewall.sets != nil {
        log.info(settings.firewall.grant(of: .inet))
        log.info(settings.firewall.grant(of: .inet6))
      }
      let tally = try Tally()
      let manager = ServiceManager(connectToServiceManager())
      var metrics: Metrics?
      if let path = settings.metrics {
        do throws(Metrics.Failure) {
          metrics = try Metrics(path)
        } catch {
          log.error("\(error)")
          return .failure
        }
      }
      let sameSocket = try UDPSocket(duplicating: socket)
      let channel = try Channel.Pair()
      let receiver = Receiver(
        socket: socket, batch: batch, gate: gate,
        recordsTime: settings.stateDirectory != nil,
        executor: channel.first, tally: tally, start: start, tellsReady: manager.listens,
        beatInterval: manager.watchdogMilliseconds.map { $0 / 4 })
      let executor = Executor(
        report: report, state: state.directory, signals: signals,
        receiver: ReceiverProcess(channel.second, tally: tally), policies: policies, tally: tally,
        socket: sameSocket, firewall: firewall, runner: runner,
        grants: GrantKeeper(state.grants, recent: RecentKnocks(recent), settings),
        shutdown: Shutdown(closesGrants: settings.closesOnExit), manager: manager, metrics: metrics,
        reloader: try Reloader.make(settings, operands))
      if !settings.sandbox.isOn { report.write("warning: no sandbox", as: .warning) }
      return try Server.run(
        receiver: receiver, executor: executor, sandbox: settings.sandbox)
    } catch {
      report.write("fatal", error)
      return .failure
    }
  }

  /// Connects to the kernel and checks the sets. Nil, with a line in the log for each set that cannot be used.
  private static func open(_ settings: FirewallSettings) -> Firewall? {
    do throws(SystemError) {
      var firewall = try Firewall(settings)
      let inetIsUsable = check(.inet, of: &firewall)
      let inet6IsUsable = check(.inet6, of: &firewall)
      return inetIsUsable && inet6IsUsable ? consume firewall : nil
    } catch {
      log.error("\(settings.optionName): \(NetfilterSocket.Failure.system(error))")
      return nil
    }
  }

  private static func check(_ family: AddressFamily, of firewall: inout Firewall) -> Bool {
    do throws(FirewallError) {
      try firewall.check(family)
      return true
    } catch {
      log.error("\(firewall.settings.optionName): \(error)")
      return false
    }
  }

  /// The socket, bound. Nil, with a report, where that cannot be.
  private static func bind(_ settings: ServerSettings, _ report: Report) -> UDPSocket? {
    if !settings.onlyChecks {
      switch ServiceManager.passedSocket() {
      case .none: break
      case .socket(let socket): return adopt(socket, settings, report)
      case .other:
        report.write("LISTEN_FDS: not one UDP socket, which alone is accepted", as: .error)
        return nil
      }
    }
    var address = SocketAddress.any(family: .inet6, port: settings.port)
    if let text = settings.bindAddress {
      guard let given = SocketAddress(numeric: text, port: settings.port) else {
        report.writeNotNumeric("bind address", text, mayQuote: settings.mayQuote)
        return nil
      }
      address = given
    }
    do throws(SystemError) {
      do throws(SystemError) {
        return try bind(to: address, settings)
      } catch {
        // A kernel without IPv6 gives EAFNOSUPPORT, or EADDRNOTAVAIL where it is only switched off.
        let lacksIPv6 = error.number == EAFNOSUPPORT || error.number == EADDRNOTAVAIL
        guard lacksIPv6, settings.bindAddress == nil else { throw error }
        address = SocketAddress.any(family: .inet, port: settings.port)
        return try bind(to: address, settings)
      }
    } catch {
      var line = Line(.error)
      line.append("cannot bind to ")
      line.append(address)
      line.append(": ")
      line.append(error)
      report.write(line)
      return nil
    }
  }

  /// A socket that was passed on to us.
  private static func adopt(
    _ socket: consuming UDPSocket, _ settings: ServerSettings, _ report: Report
  ) -> UDPSocket? {
    // It outlives us, and another version may have other datagrams.
    do throws(SystemError) { try socket.dropOthers(forever: false) } catch {}
    do throws(SystemError) {
      let passed = try socket.localAddress()
      let port = settings.givenPort ?? passed.parts?.port ?? 0
      var address = SocketAddress.any(family: passed.family, port: port)
      if let text = settings.bindAddress {
        guard let given = SocketAddress(numeric: text, port: port) else {
          report.writeNotNumeric("bind address", text, mayQuote: settings.mayQuote)
          return nil
        }
        address = given
      }
      // Without an address any will do.
      let isSame = settings.bindAddress == nil || passed.parts?.address == address.parts?.address
      guard port != 0, passed.parts?.port == port, isSame else {
        var line = Line(.error)
        line.append("the socket that was passed on to us is that of ")
        line.append(passed)
        line.append(", not of ")
        line.append(address)
        line.append(": set both (ListenDatagram= in pyknock.socket)")
        report.write(line)
        return nil
      }
    } catch {
      report.write("LISTEN_FDS", error)
      return nil
    }
    return socket
  }

  private static func bind(
    to address: SocketAddress, _ settings: ServerSettings
  ) throws(SystemError) -> UDPSocket {
    let deadline = Clock.monotonicMilliseconds() + Clock.afterlife
    let socket = try UDPSocket(family: address.family)
    // Before it is bound, so that nothing else is ever in it. A kernel without filters does without:
    // what it would drop is refused here.
    do throws(SystemError) { try socket.dropOthers(forever: true) } catch {}
    while true {
      do throws(SystemError) {
        try socket.bind(to: address)
        return socket
      } catch {
        guard error.number == EADDRINUSE else { throw error }
        // A check is also good beside the running server.
        if settings.onlyChecks { return socket }
        guard Clock.monotonicMilliseconds() < deadline else { throw error }
        Clock.pause(milliseconds: 10)
      }
    }
  }

  /// `Descriptor.none` if there is no service manager that wants to hear anything.
  private static func connectToServiceManager() -> Descriptor {
    guard let name = Environment.variable("NOTIFY_SOCKET") else { return .none }
    do throws(SystemError) {
      return try ServiceManager.connect(name)
    } catch {
      log.error("NOTIFY_SOCKET \(quoted: name): \(error)")
      return .none
    }
  }
}
