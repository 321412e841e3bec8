import CSystem
import KnockProtocol

/// `pyknock client`: sends a knock to every address of a host, and does what it is for.
enum ClientApplet: Applet {
  static var program: StaticString { "pyknock client" }
  static var synopsis: StaticString {
    "[OPTION]... (open | close) HOST [PSK | -k FILE [-- COMMAND...]]"
  }
  static var description: StaticString {
    """
       or: pyknock client [OPTION]... connect HOST PORT
       or: pyknock client list

    Asks the server on HOST to open or close access. A knock goes to every address of HOST,
    each signed for the source address that it leaves from; behind NAT -S names the address
    that the server sees. With -S only addresses of the family of ADDR are knocked on if HOST
    has any that can be reached, and all get the same datagram, so that one server never takes
    it twice.

    Without PSK and -k, HOST is looked up in client.conf, as NAME of -c is: see there for its
    KeyFile, HostName, Port, Sign, Family and WaitPort. list prints the names in it.

    COMMAND runs after open; its exit status becomes that of the client. connect opens, connects
    to the TCP port, and passes on the standard input and output, as ssh wants it:
    ssh -o 'ProxyCommand pyknock client connect -c NAME %h %p' HOST

    exit status: 0 at least one knock was sent (UDP does not tell whether it arrived), the port
    can be connected to, or the connection was closed; 1 none was sent, or the port never opened;
    2 misuse, 3 cannot resolve HOST, 4 bad source address, 5 bad signed address, 6 the connection
    broke; 126 and 127 COMMAND could not be run

    """
  }
  static func operandNames(withKey: Bool) -> StaticString {
    withKey ? "open|close HOST PSK" : "open|close HOST, or connect HOST PORT"
  }
  static func operandCount(_ settings: Settings, _ operands: Operands, given: Int) -> Int {
    guard let word = operands[0] else { return 2 }
    if word == "list" { return 1 }
    if word == "connect" { return 3 }
    return settings.config != nil && given == 1 ? 1 : 2
  }
  static func takesCommand(_ settings: ClientSettings, after operands: Operands) -> Bool {
    settings.config != nil && operands.count >= 1 || settings.keyFile != nil && operands.count >= 2
  }
  static func keyOperand(_ settings: ClientSettings, _ operands: Operands) -> Int? {
    if let word = operands[0], word == "connect" || word == "list" { return nil }
    return settings.config == nil && operands.count != 2 ? 2 : nil
  }

  /// What to do once the knock is sent.
  private enum Task {
    case nothing
    case waitForPort(UInt16)
    case connect(UInt16)
  }

  static func run(
    _ given: ClientSettings, _ operands: Operands, key givenKey: KeySource?
  ) -> ExitCode {
    guard let word = operands[0] else { return .misuse }
    var report = Report(program: program)
    if word == "list" { return list(report) }
    if given.isVerbose { report.verbosity = .verbose }
    var settings = given
    let mayQuote = given.mayQuote
    // Who gives a PSK says all himself, as with the original.
    var hasPSK = false
    if case .operand = givenKey { hasPSK = true }
    if !hasPSK, let name = given.config ?? operands[1] {
      guard ClientConfiguration.apply(name, to: &settings, report) else { return .failure }
    }
    let found = settings.hostName ?? given.config
    guard let host = given.config == nil ? found ?? operands[1] : operands[1] ?? found else {
      return .misuse
    }
    let command: Command
    let task: Task
    do throws(Misuse) {
      (command, task) = try Self.task(word, settings, operands)
    } catch { return fail(error, mayQuote: mayQuote) }
    guard let key = givenKey ?? settings.keyFile.map({ .file($0) }) else {
      return fail(.noKey(host: given.config ?? host), mayQuote: mayQuote)
    }
    guard KeyedMAC.passesSelfTest(report) else { return .failure }
    let mac: KeyedMAC
    do throws(KeyError) {
      mac = try Key.load(key, report: report)
    } catch { return fail(error, from: key) }

    var signed: Address?
    if let text = settings.signAddress {
      signed = numericAddress(text)?.parts?.address
      guard signed != nil else {
        report.writeNotNumeric("signed address", text, mayQuote: mayQuote)
        return .badSignedAddress
      }
      if let refusal = signed?.refusal {
        var line = report.line()
        line.append("signed address: no server opens for this: ")
        line.append(refusal.reason)
        report.write(line)
        return .badSignedAddress
      }
    }
    var source: SocketAddress?
    if let text = settings.sourceAddress {
      source = numericAddress(text)
      guard source != nil else {
        report.writeNotNumeric("source address", text, mayQuote: mayQuote)
        return .badSourceAddress
      }
    }

    let sender: Sender
    do throws(Resolution.Failure) {
      let addresses = try Resolution(
        of: host, port: settings.port, family: settings.family, numeric: false)
      sender = Sender(
        host: host, addresses: addresses, signed: signed, source: source, mac: mac,
        onlyPrints: settings.onlyChecks, report: report)
    } catch {
      report.write("cannot resolve", host) { $0.append(error) }
      return .cannotResolve
    }
    return perform(command, task, settings, operands.command, sender, report: report)
  }

  private static func task(
    _ word: Argument, _ settings: ClientSettings, _ operands: Operands
  ) throws(Misuse) -> (Command, Task) {
    let isOpen = word == "open"
    guard isOpen || word == "close" || word == "connect" else {
      throw .badOperand("COMMAND", word, accepted: "open, close, connect or list")
    }
    if settings.closesAfterwards, operands.command == nil {
      throw .unsuitable(ClientSettings.Option.close.spec, " needs a COMMAND behind --")
    }
    if operands.command != nil, !isOpen {
      throw .badOperand("COMMAND", word, accepted: "open, which alone runs a command")
    }
    if word == "close" { return (.close, .nothing) }
    if isOpen { return (.open, settings.waitPort.map { .waitForPort($0) } ?? .nothing) }
    guard let text = operands[2], let number = text.withBytes({ Numbers.integer($0) }),
      number > 0, let port = UInt16(exactly: number)
    else {
      throw .badOperand("PORT", operands[2] ?? .empty, accepted: "a port number from 1 to 65535")
    }
    return (.open, .connect(port))
  }

  private static func list(_ report: Report) -> ExitCode {
    var isGood = true
    let exitCode = printToStandardOutput(program: program) { output in
      isGood = ClientConfiguration.list(report, to: &output)
    }
    return isGood ? exitCode : .failure
  }

  private static func perform(
    _ command: Command, _ task: Task, _ settings: ClientSettings, _ words: ArgumentList?,
    _ sender: consuming Sender, report: Report
  ) -> ExitCode {
    var sender = sender
    guard sender.send(command) else { return .failure }
    guard !settings.onlyChecks else { return .success }
    var exitCode = ExitCode.success
    switch task {
    case .nothing: break
    case .waitForPort(let port):
      let socket = PortWait.connect(to: port, seconds: settings.waitSeconds, &sender, report)
      if socket == nil { exitCode = .failure }
    case .connect(let port):
      guard
        let socket = PortWait.connect(to: port, seconds: settings.waitSeconds, &sender, report)
      else { return .failure }
      return Bridge.run(socket, report)
    }
    guard let words else { return exitCode }
    if exitCode == .success { exitCode = Subprocess.run(words, report) }
    if settings.closesAfterwards { _ = sender.send(.close) }
    return exitCode
  }

  static func numericAddress(_ text: Argument) -> SocketAddress? {
    do throws(Resolution.Failure) {
      return try Resolution(of: text, port: 0, family: AF_UNSPEC, numeric: true).first
    } catch { return nil }
  }
}
