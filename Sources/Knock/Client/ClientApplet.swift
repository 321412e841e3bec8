import CSystem
import KnockProtocol

/// What the options of the client set.
struct ClientSettings: AppletSettings {
  enum Option: UInt8, OptionTable {
    case port, signAddress, sourceAddress, keyFile, ipv4, ipv6, verbose, help, version

    var spec: OptionSpec {
      switch self {
      case .port:
        OptionSpec("p", "port", value: "PORT", original: true, "UDP port (default: 60120)")
      case .signAddress:
        OptionSpec(
          "S", "sign-address", value: "ADDR", original: true,
          "open or close for ADDR (default: our source address)")
      case .sourceAddress:
        OptionSpec(
          "s", "source-address", value: "ADDR", original: true, "send from this local address")
      case .keyFile: .keyFile
      case .ipv4: OptionSpec("4", "ipv4", "only knock on IPv4 addresses of HOST")
      case .ipv6: OptionSpec("6", "ipv6", "only knock on IPv6 addresses of HOST")
      case .verbose: OptionSpec("v", "verbose", "tell what is sent")
      case .help: .help
      case .version: .version
      }
    }
  }

  private(set) var port: UInt16 = 60120
  private(set) var signAddress: Argument?
  private(set) var sourceAddress: Argument?
  private(set) var keyFile: Argument?
  /// AF_UNSPEC for both.
  private(set) var family = AF_UNSPEC
  private(set) var isVerbose = false

  mutating func apply(_ option: Option, _ value: Argument?) throws(Misuse) {
    switch option {
    case .port: port = try value?.port(for: option.spec) ?? port
    case .signAddress: signAddress = value?.nonempty
    case .sourceAddress: sourceAddress = value?.nonempty
    case .keyFile: keyFile = value
    case .ipv4: family = AF_INET
    case .ipv6: family = AF_INET6
    case .verbose: isVerbose = true
    case .help, .version: break
    }
  }
}

/// `pyknock client`: sends a knock to every address of a host.
enum ClientApplet: Applet {
  static var program: StaticString { "pyknock client" }
  static var synopsis: StaticString { "[OPTION]... (open | close) HOST (PSK | -k FILE)" }
  static var description: StaticString {
    """
    Asks the server on HOST to open or close access. A knock goes to every address of HOST,
    each signed for the source address that it leaves from; behind NAT -S names the address
    that the server sees. With -S only addresses of the family of ADDR are knocked on if HOST
    has any that can be reached, and all get the same datagram, so that one server never takes
    it twice.

    exit status: 0 at least one knock was sent (UDP does not tell whether it arrived), 1 none,
    2 misuse, 3 cannot resolve HOST, 4 bad source address, 5 bad signed address

    """
  }
  static func operandNames(withKey: Bool) -> StaticString {
    withKey ? "open|close HOST PSK" : "open|close HOST"
  }
  static func operandCount(_ settings: Settings, given: Int) -> Int { 2 }
  static var keyOperand: Int? { 2 }

  static func run(_ settings: ClientSettings, _ operands: Operands, key: KeySource?) -> ExitCode {
    let mayQuote = settings.keyFile != nil
    guard let word = operands[0], let host = operands[1], let key else { return .misuse }
    guard let command = command(word) else {
      return fail(.badOperand("COMMAND", word, accepted: "open or close"), mayQuote: mayQuote)
    }
    var report = Report(program: program)
    if settings.isVerbose { report.verbosity = .verbose }
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

    do throws(Resolution.Failure) {
      let addresses = try Resolution(
        of: host, port: settings.port, family: settings.family, numeric: false)
      var sender = Sender(
        command: command, signed: signed, source: source, mac: mac, report: report)
      return sender.send(to: addresses, of: host) ? .success : .failure
    } catch {
      report.write("cannot resolve", host) { $0.append(error) }
      return .cannotResolve
    }
  }

  private static func command(_ word: Argument) -> Command? {
    word == "open" ? .open : word == "close" ? .close : nil
  }

  private static func numericAddress(_ text: Argument) -> SocketAddress? {
    do throws(Resolution.Failure) {
      return try Resolution(of: text, port: 0, family: AF_UNSPEC, numeric: true).first
    } catch { return nil }
  }
}
