import KnockBase
import KnockProtocol

/// `pyknock client`: sends a knock to every address of a host, and does what it is for.
enum ClientApplet: Applet {
  static var program: Literal { "pyknock client" }
  static var usage: Literal {
    """
    usage: pyknock client [OPTION]... (open | close | check) HOST [-k FILE | PSK]
           pyknock client [OPTION]... open HOST [-k FILE] -- COMMAND...
           pyknock client [OPTION]... connect HOST PORT
           pyknock client list
           pyknock client import [NAME]
    """
  }
  static var description: Literal {
    """
    Asks the server on HOST to open or close access for this machine. HOST may be
    several hosts with commas between them. connect opens, connects to a TCP port,
    and passes on the standard input and output, as ssh needs it. check changes
    nothing: it says what an open would get, and which address the server sees.
    list prints the names in client.conf. import reads a line of keygen --line,
    without showing it, and adds it there. COMMAND runs after open; the exit status
    is then its own.

    Without -k and PSK, client.conf says which key HOST has. Behind NAT the server
    sees another address than this machine has, so -S must say which one to open
    for. A DURATION is 90 (seconds), 15m, 2h or 1d.

    """
  }
  static var examples: Literal {
    """
    Examples:
      pyknock client open server.example.org -k knock.key -S 198.51.100.7
      ssh -o 'ProxyCommand pyknock client connect -c home %h %p' server.example.org

    See pyknock-client(1) and pyknock.conf(5).

    """
  }
  @inline(never)
  static func operandMisuse(
    _ settings: ClientSettings, _ operands: Operands, withKey: Bool
  ) -> Misuse {
    guard let word = operands[0] else {
      return .operands(
        "write open HOST, close HOST, check HOST, connect HOST PORT, list, or import",
        given: operands.count)
    }
    let advice: Literal
    if word == "open" {
      advice = "write open HOST, and -k FILE for the key, -- before COMMAND"
    } else if word == "close" {
      advice = "write close HOST, and -k FILE for the key"
    } else if word == "check" {
      advice = "write check HOST, and -k FILE for the key"
    } else if word == "connect" {
      advice = "write connect HOST PORT"
    } else if word == "list" {
      advice = "write list alone"
    } else if word == "import" {
      advice = "write import, and a NAME if it shall have another"
    } else {
      return .unknownCommand(word)
    }
    return .operands(advice, given: operands.count)
  }
  static func operandCount(_ settings: Settings, _ operands: Operands, given: Int) -> Int {
    guard let word = operands[0] else { return 2 }
    if word == "list" { return 1 }
    if word == "import" { return min(max(given, 1), 2) }
    if word == "connect" { return 3 }
    return settings.config != nil && given == 1 ? 1 : 2
  }
  /// Without `-c` and `-k`, one word after `--` is the PSK of somebody who used the original.
  static func takesCommand(
    _ settings: ClientSettings, after operands: Operands, count: Int
  ) -> Bool {
    settings.config != nil && operands.count >= 1 || settings.keyFile != nil && operands.count >= 2
      || operands.count == 2 && count > 1
  }
  static func keyOperand(_ settings: ClientSettings, _ operands: Operands) -> Int? {
    if let word = operands[0], word == "connect" || word == "list" || word == "import" {
      return nil
    }
    return settings.config == nil && operands.count != 2 ? 2 : nil
  }

  static func run(_ given: ClientSettings, _ operands: Operands, keySource: KeySource?) -> ExitCode
  {
    if given.isVerbose { log.verbosity = .verbose }
    do throws(ClientError) {
      let word = operands[0] ?? .empty
      if word == "list" { return try list() }
      if word == "import" {
        try Import.run(operands[1])
        return .success
      }
      let operation = try Operation(word, given, operands)
      var given = given
      if case .connect(let port) = operation { given.connect(to: port) }
      let hosts = try hosts(word, given, operands)
      let builder = try SenderBuilder(given, operation.purpose, operands, keySource)
      var senders = try senders(given)
      var exitCode = ExitCode.success
      for index in 0..<hosts.count {
        guard let host = hosts[index] else { continue }
        do throws(ClientError) {
          senders.append(try builder.sender(to: host))
        } catch {
          logFailure(error)
          exitCode.include(error.exitCode)
        }
      }
      guard senders.count > 0 else { return exitCode }
      let call = Call(
        operation: operation, words: operands.command, failure: exitCode)
      return try call.perform(&senders)
    } catch {
      logFailure(error)
      return error.exitCode
    }
  }

  /// What the first operand asks for.
  enum Operation {
    case knock(Version2.Purpose)
    case connect(UInt16)

    @inline(never)
    init(
      _ word: Argument, _ settings: ClientSettings, _ operands: Operands
    ) throws(ClientError) {
      let isOpen = word == "open"
      let isConnect = word == "connect"
      guard isOpen || isConnect || word == "close" || word == "check" else {
        throw .misuse(.unknownCommand(word))
      }
      if settings.closesAfterwards, operands.command == nil {
        throw .misuse(
          .unsuitable(ClientSettings.Option.close.spec.name, " needs a COMMAND after --"))
      }
      if operands.command != nil, !isOpen {
        throw .misuse(
          .badOperand("COMMAND", word, accepted: "open, the only one that runs a command"))
      }
      if settings.ttlSeconds > 0, !isOpen, !isConnect {
        throw .misuse(
          .unsuitable(ClientSettings.Option.ttl.spec.name, " needs open or connect"))
      }
      if settings.waitPort != nil, !isOpen {
        throw .misuse(.unsuitable(ClientSettings.Option.waitPort.spec.name, " needs open"))
      }
      if settings.wantsAnswer == true, settings.repeats > 1 {
        throw .misuse(
          .unsuitable(
            ClientSettings.Option.repeats.spec.name, " is no use with --answer, which asks again"))
      }
      if isConnect {
        let text = operands[2] ?? .empty
        guard let port = text.portNumber else {
          throw .misuse(.badOperand("PORT", text, accepted: "a port number from 1 to 65535"))
        }
        self = .connect(port)
      } else {
        self = .knock(isOpen ? .open : word == "close" ? .close : .check)
      }
    }

    var purpose: Version2.Purpose {
      switch self {
      case .knock(let purpose): purpose
      case .connect: .open
      }
    }
  }

  @inline(never)
  private static func hosts(
    _ word: Argument, _ settings: ClientSettings, _ operands: Operands
  ) throws(ClientError) -> HostList {
    let text = operands[1] ?? settings.config ?? .empty
    let isConnect = word == "connect"
    let hosts = HostList(
      dividing: text, maximumCount: isConnect ? 1 : HostList.maximumCount)
    guard let hosts else {
      throw .misuse(
        .badOperand(
          "HOST", text,
          accepted: isConnect
            ? "one host, for connect" : "one host, or up to 16 with commas between them"))
    }
    for index in 0..<hosts.count {
      guard operands[1] != nil, let host = hosts[index], let accepted = host.hostRefusal else {
        continue
      }
      throw .misuse(.badOperand("HOST", host, accepted: accepted))
    }
    return hosts
  }

  @inline(never)
  private static func senders(_ settings: ClientSettings) throws(ClientError) -> Senders {
    do throws(SystemError) { return try Senders(settings) } catch { throw .system(error) }
  }

  @inline(never)
  private static func list() throws(ClientError) -> ExitCode {
    var failure: ClientError?
    let exitCode = printToStandardOutput { output in
      do throws(ClientError) {
        try ClientConfiguration.list(to: &output)
      } catch { failure = error }
    }
    if let failure { throw failure }
    return exitCode
  }

  static func logFailure(_ error: ClientError) {
    switch error {
    case .misuse(let misuse): _ = fail(misuse)
    case .key(let error, let source): _ = fail(error, from: source)
    case .configuration(let error): log.error("\(error)")
    case .notImported(let fault): log.error("\(fault)")
    case .needsVersion2(let asked, let host):
      log.error("\(asked) needs a key of version 2, and that for \(host: host) is of version 1")
      log.plain("\(usage)")
    case .noPublicAddress, .portNotOpened: break
    case .unresolved(let host, let isConfigured, let failure):
      let part: Literal = isConfigured ? "the HostName for " : ""
      log.error("cannot resolve \(part)\(host: host): \(failure)")
    case .badSourceAddress(let text):
      log.error("source address: \(argument: text) is not a numeric IPv4 or IPv6 address")
    case .badSignedAddress(let text):
      log.error(
        "signed address: \(argument: text) is not \(SignedAddress.accepted)"
      )
    case .refusedSignedAddress(let refusal):
      log.error("signed address: no server opens for this: \(refusal.reason)")
    case .connectionBroke(let error): log.error("the connection broke: \(error)")
    case .commandNotRun(let name, let error): log.error("cannot run \(quoted: name): \(error)")
    case .system(let error): log.error("\(error)")
    }
  }
}

extension Message.Parts {
  /// HOST between quotes. Somebody may have exchanged it with the key.
  fileprivate mutating func appendInterpolation(host: Argument) {
    if host.looksLikeHost {
      appendInterpolation(quoted: host)
    } else {
      appendInterpolation(argument: host)
    }
  }
}
