import KnockBase

/// The programs in this one: the table that drives dispatch and help.
enum Program: UInt8 {
  case server, client, keygen

  var name: StaticString {
    switch self {
    case .server: "server"
    case .client: "client"
    case .keygen: "keygen"
    }
  }

  var summary: StaticString {
    switch self {
    case .server: "wait for knocks and act on each"
    case .client: "send a knock"
    case .keygen: "make a key"
    }
  }

  func start(_ arguments: ArgumentList) -> ExitCode {
    switch self {
    case .server: ServerApplet.start(arguments)
    case .client: ClientApplet.start(arguments)
    case .keygen: KeygenApplet.start(arguments)
    }
  }

  func printHelp() -> ExitCode {
    switch self {
    case .server: ServerApplet.printHelp()
    case .client: ClientApplet.printHelp()
    case .keygen: KeygenApplet.printHelp()
    }
  }

  static func named(_ name: Span<UInt8>) -> Program? {
    Cases.first { name.equals($0.name) }
  }

  /// The program that a path such as `/usr/bin/pyknock-server` names.
  static func atPath(_ path: Argument) -> Program? {
    path.withBytes { path in
      let name = path.extracting(path.fileNameStart...)
      let prefix: StaticString = "pyknock-"
      guard name.hasPrefix(prefix) else { return nil }
      return named(name.extracting(prefix.utf8CodeUnitCount...))
    }
  }
}

/// The entry, called by `main` in C.
@c(pyknock_main) public func pyknockMain(
  _ count: Int32, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> Int32 {
  unsafe CurrentProcess.start(arguments)
  log.begin(as: "pyknock")
  return unsafe dispatch(ArgumentList(arguments, count: Int(count))).rawValue
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
    return fail("unknown command (not shown, it may be the key)")
  }
  guard let topic = arguments[2] else { return printOverview() }
  guard let program = topic.withBytes({ Program.named($0) }) else {
    return fail("no help on \(quoted: topic)")
  }
  return program.printHelp()
}

private var usage: StaticString {
  "usage: pyknock (server | client | keygen | help [COMMAND] | version)"
}

private func fail(_ reason: @autoclosure () -> Message) -> ExitCode {
  log.error("\(reason()); commands are server, client, keygen, help, version")
  log.plain("\(usage)")
  return .misuse
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

      'pyknock help COMMAND' explains a command. A link to the program with the name
      pyknock-COMMAND is the same as 'pyknock COMMAND'.

      """)
  }
}
