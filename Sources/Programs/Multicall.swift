import KnockBase

/// The programs in this one: the table that drives dispatch and help.
enum Program: UInt8 {
  case server, client, keygen, status

  var name: Literal {
    switch self {
    case .server: "server"
    case .client: "client"
    case .keygen: "keygen"
    case .status: "status"
    }
  }

  var summary: Literal {
    switch self {
    case .server: "wait for knocks and act on each"
    case .client: "send a knock"
    case .keygen: "make a key"
    case .status: "print whether the server runs, and what is open"
    }
  }

  func start(_ arguments: ArgumentList) -> ExitCode {
    switch self {
    case .server: ServerApplet.start(arguments, owner: Self.owner)
    case .client: ClientApplet.start(arguments, owner: Self.owner)
    case .keygen: KeygenApplet.start(arguments, owner: Self.owner)
    case .status: StatusApplet.start(arguments, owner: Self.owner)
    }
  }

  func printHelp() -> ExitCode {
    switch self {
    case .server: ServerApplet.printHelp()
    case .client: ClientApplet.printHelp()
    case .keygen: KeygenApplet.printHelp()
    case .status: StatusApplet.printHelp()
    }
  }

  static func named(_ name: Span<UInt8>) -> Program? {
    Cases.first { name.equals($0.name) }
  }

  /// The server or the client, if it has an option.
  private static func owner(of option: Argument) -> Literal? {
    if isOption(option, of: { ServerOption.spec($0) }) { return server.name }
    return isOption(option, of: { ClientSettings.Option.spec($0) }) ? client.name : nil
  }

  /// The program that a path such as `/usr/bin/pyknock-server` names.
  static func atPath(_ path: Argument) -> Program? {
    path.withBytes { path in
      let name = path.extracting(path.fileNameStart...)
      let prefix: Literal = "pyknock-"
      guard name.hasPrefix(prefix) else { return nil }
      return named(name.extracting(prefix.count...))
    }
  }
}

/// The entry, called by `main` in C.
@c(pyknock_main) public func pyknockMain(
  _ count: Int32, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> Int32 {
  unsafe CurrentProcess.start(arguments)
  log.begin(as: "pyknock")
  let exitCode = unsafe dispatch(ArgumentList(arguments, count: Int(count)))
  log.end()
  return exitCode.rawValue
}

private func dispatch(_ arguments: ArgumentList) -> ExitCode {
  if let path = arguments[0], let program = Program.atPath(path) {
    return program.start(arguments.dropFirst(1))
  }
  guard let word = arguments[1] else { return fail("no command given") }
  if let program = word.withBytes({ Program.named($0) }) {
    return program.start(arguments.dropFirst(2))
  }
  if word == "version" || word == "-V" || word == "--version" { return printVersion() }
  guard word == "help" || word == "-h" || word == "--help" else {
    if word == "open" || word == "close" || word == "connect" || word == "list" {
      return fail("write pyknock client \(clientCommand: word, of: arguments[2])")
    }
    if word.withBytes({ $0.hasPrefix("-") }) { return fail("write the command before its options") }
    guard word.isLowerCaseWord else {
      return fail("unknown command (not shown, it may be the key)")
    }
    return fail("unknown command \(quoted: word)")
  }
  guard let topic = arguments[2] else { return printOverview() }
  guard let program = topic.withBytes({ Program.named($0) }) else {
    return fail("no help on \(quoted: topic)")
  }
  return program.printHelp()
}

private var usage: Literal {
  "usage: pyknock (server | client | keygen | status | help [COMMAND] | version)"
}

private func fail(_ reason: @autoclosure () -> Message) -> ExitCode {
  log.error("\(reason()); commands are server, client, keygen, status, help, version")
  log.plain("\(usage)")
  return .misuse
}

extension Message.Parts {
  /// A command of the client and its operands. The host is shown if it looks like one.
  fileprivate mutating func appendInterpolation(clientCommand word: Argument, of host: Argument?) {
    word.withBytes { word in write { $0.append(word) } }
    guard !(word == "list") else { return }
    appendInterpolation(" " as Literal)
    if let host, host.looksLikeHost {
      host.withBytes { host in write { $0.append(host) } }
    } else {
      appendInterpolation("HOST" as Literal)
    }
    if word == "connect" { appendInterpolation(" PORT" as Literal) }
  }
}

private func printOverview() -> ExitCode {
  printToStandardOutput { output in
    output.append(usage)
    output.append("\n\n")
    output.append("Single-packet authorization: a signed UDP datagram opens or closes access.\n\n")
    var programs = Cases<Program>()
    while let program = programs.next() {
      output.append("  ")
      output.append(program.name)
      output.append("   ")
      output.append(program.summary)
      output.append("\n")
    }
    output.append(
      """

      Examples:
        pyknock keygen -o knock.key
        pyknock help server

      A link to the program with the name pyknock-COMMAND is the same as 'pyknock
      COMMAND'. See pyknock(1).

      """)
  }
}
