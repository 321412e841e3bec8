import CSystem
import KnockBase
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

    Asks the server on HOST to open or close access; HOST may be several with commas between. A
    knock goes to every address of HOST, each signed for the source address that it leaves from.
    Behind NAT the server sees another one: -S says which, -S auto asks STUN servers for it, and
    -S observed leaves it to a server with --allow-observed-source. With -S ADDR only addresses
    of the family of ADDR are knocked on if HOST has any that can be reached, and all get the
    same datagram, so that one server never takes it twice.

    Without PSK and -k, HOST is looked up in client.conf, as NAME of -c is: see there for its
    KeyFile, HostName, Port, Sign, Stun, Family and WaitPort. list prints the names in it.

    COMMAND runs after open; its exit status becomes that of the client. connect opens, connects
    to the TCP port, and passes on the standard input and output, as ssh wants it:
    ssh -o 'ProxyCommand pyknock client connect -c NAME %h %p' HOST

    exit status: 0 at least one knock was sent (UDP does not tell whether it arrived), the port
    can be connected to, or the connection was closed; 1 none was sent, or the port never opened;
    2 misuse, 3 cannot resolve HOST, 4 bad source address, 5 bad signed address or none
    found, 6 the connection broke; 126 and 127 COMMAND could not be run

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

  /// What the first operand says.
  private enum Task {
    case knock(Command)
    case connect(UInt16)
  }

  static func run(_ given: ClientSettings, _ operands: Operands, key: KeySource?) -> ExitCode {
    guard let word = operands[0] else { return .misuse }
    var report = Report(program: program)
    if word == "list" { return list(report) }
    if given.isVerbose { report.verbosity = .verbose }
    let task: Task
    let hosts: HostNames
    do throws(Misuse) {
      task = try Self.task(word, given, operands)
      hosts = try Self.hosts(word, given, operands)
    } catch { return fail(error, mayQuote: given.mayQuote) }
    guard KeyedMAC.passesSelfTest(report) else { return .failure }
    let preparation: SenderPreparation
    do throws(KeyError) {
      preparation = try SenderPreparation(given, operands, key, report)
    } catch { return key.map { fail(error, from: $0, report) } ?? .failure }
    var senders = Senders(given)
    var exitCode = ExitCode.success
    for index in 0..<hosts.count {
      guard let host = hosts[index] else { continue }
      do throws(SenderPreparation.Failure) {
        senders.append(try preparation.sender(to: host))
      } catch {
        if exitCode == .success { exitCode = error.exitCode }
      }
    }
    guard senders.count > 0 else { return exitCode }
    let result = perform(
      task, given, operands.command, senders, isWhole: exitCode == .success, report)
    return exitCode == .success ? result : exitCode
  }

  private static func task(
    _ word: Argument, _ settings: ClientSettings, _ operands: Operands
  ) throws(Misuse) -> Task {
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
    if word == "close" { return .knock(.close) }
    if isOpen { return .knock(.open) }
    guard let text = operands[2], let port = text.portNumber else {
      throw .badOperand("PORT", operands[2] ?? .empty, accepted: "a port number from 1 to 65535")
    }
    return .connect(port)
  }

  private static func hosts(
    _ word: Argument, _ settings: ClientSettings, _ operands: Operands
  ) throws(Misuse) -> HostNames {
    let text = operands[1] ?? settings.config ?? .empty
    let isConnect = word == "connect"
    guard let hosts = HostNames(cutting: text, limit: isConnect ? 1 : HostNames.limit) else {
      throw .badOperand(
        "HOST", text,
        accepted: isConnect ? "one, for connect" : "one, or up to 16 with commas between them")
    }
    return hosts
  }

  private static func list(_ report: Report) -> ExitCode {
    var isGood = true
    let exitCode = printToStandardOutput(program: program) { output in
      isGood = ClientConfiguration.list(report, to: &output)
    }
    return isGood ? exitCode : .failure
  }

  /// - Parameter isWhole: whether there is a sender for each host.
  private static func perform(
    _ task: Task, _ settings: ClientSettings, _ words: ArgumentList?, _ senders: consuming Senders,
    isWhole: Bool, _ report: Report
  ) -> ExitCode {
    var senders = senders
    let command: Command
    switch task {
    case .knock(let wanted): command = wanted
    case .connect: command = .open
    }
    let knockedOn = senders.send(command)
    let isSent = isWhole && knockedOn == senders.count
    if settings.onlyChecks { return isSent ? .success : .failure }
    if case .connect(let port) = task {
      guard isSent, let socket = senders.connect(to: port) else { return .failure }
      return Bridge.run(socket, report)
    }
    let isOpen = isSent && (command == .close || senders.waitForPorts())
    var exitCode = isOpen ? ExitCode.success : .failure
    if isOpen, let words { exitCode = Subprocess.run(words, report) }
    if settings.closesAfterwards, knockedOn > 0 { _ = senders.send(.close) }
    return exitCode
  }
}
