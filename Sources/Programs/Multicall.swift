import CSystem
import KnockBase

/// The programs in this one: the table that drives dispatch and help. Raw values count from 0.
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
    case .server: "wait for knocks and run a command for each"
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
    var number: UInt8 = 0
    while let program = Program(rawValue: number) {
      if name.equals(program.name) { return program }
      number += 1
    }
    return nil
  }

  /// The program that a path such as `/usr/bin/pyknock-server` stands for.
  static func atPath(_ path: Argument) -> Program? {
    path.withBytes { path in
      var start = 0
      for index in path.indices where path[index] == UInt8(ascii: "/") { start = index + 1 }
      let name = path.extracting(start...)
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
  unsafe csys_start_process(arguments)
  return unsafe dispatch(ArgumentList(arguments, count: Int(count))).rawValue
}

private func dispatch(_ arguments: ArgumentList) -> ExitCode {
  if let path = arguments[0], let program = Program.atPath(path) {
    return program.start(arguments.dropFirst(1))
  }
  guard let word = arguments[1] else { return failDispatch { $0.append("no command given") } }
  if let program = word.withBytes({ Program.named($0) }) {
    return program.start(arguments.dropFirst(2))
  }
  if word == "version" || word == "-V" || word == "--version" { return printVersion() }
  guard word == "help" || word == "-h" || word == "--help" else {
    return failDispatch { $0.append("unknown command (not shown, it may be the key)") }
  }
  guard let topic = arguments[2] else { return printOverview() }
  guard let program = topic.withBytes({ Program.named($0) }) else {
    return failDispatch { line in
      line.append("no help on ")
      line.append(quoted: topic)
    }
  }
  return program.printHelp()
}

private func appendUsage(to sink: inout some TextSink & ~Copyable) {
  sink.append("usage: pyknock (server | client | keygen | help [COMMAND] | version)")
}

private func failDispatch(_ describe: (inout Line) -> Void) -> ExitCode {
  let report = Report(program: "pyknock")
  var line = Line(.error)
  describe(&line)
  line.append("; commands are server, client, keygen, help, version")
  report.write(line)
  var usage = Line()
  appendUsage(to: &usage)
  report.writePlain(usage)
  return .misuse
}

private func printOverview() -> ExitCode {
  printToStandardOutput(program: "pyknock") { output in
    appendUsage(to: &output)
    output.append("\n\n")
    output.append("Single-packet authorization: a signed UDP datagram opens or closes access.\n\n")
    var number: UInt8 = 0
    while let program = Program(rawValue: number) {
      number += 1
      output.append("  ")
      output.append(program.name)
      output.append("   ")
      output.append(program.summary)
      output.append("\n")
    }
    output.append("\n'pyknock help COMMAND' tells more. A link to the program with the name\n")
    output.append("pyknock-COMMAND is the same as 'pyknock COMMAND'.\n")
  }
}
