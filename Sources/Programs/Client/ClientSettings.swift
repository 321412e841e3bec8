import CSystem
import KnockBase

/// What the options of the client set.
struct ClientSettings: AppletSettings {
  enum Option: UInt8, OptionTable {
    case config, port, signAddress, stun, sourceAddress, keyFile, ipv4, ipv6, repeats, interval
    case waitPort, wait, close, check, verbose, help, version

    var spec: OptionSpec {
      switch self {
      case .config:
        OptionSpec(
          "c", "config", value: "NAME", "take what is not said here from NAME in client.conf")
      case .port:
        OptionSpec("p", "port", value: "PORT", original: true, "UDP port (default: 60120)")
      case .signAddress:
        OptionSpec(
          "S", "sign-address", value: "ADDR", original: true,
          "open or close for ADDR (default: our source address), or auto, or observed")
      case .stun:
        OptionSpec(
          nil, "stun", value: "HOST[:PORT]",
          "whom -S auto asks for our outside address; up to 4 times")
      case .sourceAddress:
        OptionSpec(
          "s", "source-address", value: "ADDR", original: true, "send from this local address")
      case .keyFile: .keyFile
      case .ipv4: OptionSpec("4", "ipv4", "only knock on IPv4 addresses of HOST")
      case .ipv6: OptionSpec("6", "ipv6", "only knock on IPv6 addresses of HOST")
      case .repeats:
        OptionSpec(nil, "repeat", value: "N", "send each knock N times, 1 to 100 (default: 1)")
      case .interval:
        OptionSpec(
          nil, "interval", value: "DURATION", "how long after each other: 1, 30, 5m (default: 1)")
      case .waitPort:
        OptionSpec(
          nil, "wait-port", value: "PORT",
          "after open, wait until this TCP port can be connected to")
      case .wait:
        OptionSpec(
          nil, "wait", value: "DURATION", "how long to wait for the port: 30, 5m (default: 10)")
      case .close: OptionSpec(nil, "close", "close again when COMMAND has ended")
      case .check: OptionSpec("n", "check", "print what would be sent to where, and do nothing")
      case .verbose: OptionSpec("v", "verbose", "tell what is sent")
      case .help: .help
      case .version: .version
      }
    }
  }

  /// What `-c` names.
  private(set) var config: Argument?
  /// Where to knock instead of at the operand.
  private(set) var hostName: Argument?
  private var givenPort: UInt16?
  private(set) var signAddress: Argument?
  /// Whom to ask for our address.
  private(set) var stunServers = StunServers()
  /// Whether options name them.
  private(set) var givesStunServers = false
  private(set) var sourceAddress: Argument?
  private(set) var keyFile: Argument?
  private var givenFamily: Int32?
  /// How often each knock is sent.
  private(set) var repeats = 1
  private(set) var intervalSeconds: Int64 = 1
  private(set) var waitPort: UInt16?
  private(set) var waitSeconds: Int64 = 10
  private(set) var closesAfterwards = false
  private(set) var onlyChecks = false
  private(set) var isVerbose = false

  var mayQuote: Bool { keyFile != nil || config != nil }
  var port: UInt16 { givenPort ?? 60120 }
  /// AF_UNSPEC for both.
  var family: Int32 { givenFamily ?? AF_UNSPEC }

  mutating func apply(_ option: Option, _ value: Argument?) throws(Misuse) {
    switch option {
    case .config: config = value?.nonempty
    case .port: givenPort = try value?.port(for: option.spec) ?? givenPort
    case .signAddress: signAddress = value?.nonempty
    case .stun: try value.map { value throws(Misuse) in try addStunServer(value) }
    case .sourceAddress: sourceAddress = value?.nonempty
    case .keyFile: keyFile = value
    case .ipv4: givenFamily = AF_INET
    case .ipv6: givenFamily = AF_INET6
    case .repeats: repeats = try value?.repeats(for: option.spec) ?? repeats
    case .interval: intervalSeconds = try value?.duration(for: option.spec) ?? intervalSeconds
    case .waitPort: waitPort = try value?.port(for: option.spec)
    case .wait: waitSeconds = try value?.duration(for: option.spec) ?? waitSeconds
    case .close: closesAfterwards = true
    case .check: onlyChecks = true
    case .verbose: isVerbose = true
    case .help, .version: break
    }
  }

  private mutating func addStunServer(_ value: Argument) throws(Misuse) {
    let spec = Option.stun.spec
    guard let server = StunServer(value) else {
      throw .badValue(spec, value, accepted: StunServer.accepted)
    }
    guard stunServers.append(server) else { throw .unsuitable(spec, " can be given up to 4 times") }
    givesStunServers = true
  }

  /// Whether STUN servers and the wish to ask them come together.
  func validateStunServers() throws(Misuse) {
    let asks = signAddress.map { $0 == "auto" } ?? false
    if asks, stunServers.count == 0 {
      throw .unsuitable(Option.signAddress.spec, ": auto needs --stun, or Stun in client.conf")
    }
    if !asks, givesStunServers { throw .unsuitable(Option.stun.spec, " needs -S auto") }
  }

  /// Takes a line of the configuration, unless that was said before: the first one counts, as in
  /// ssh_config(5); of STUN servers the first four do. The value has been checked.
  mutating func take(_ keyword: ClientKeyword, _ value: Argument) {
    switch keyword {
    case .host: break
    case .hostName: hostName = hostName ?? value
    case .port: givenPort = givenPort ?? value.portNumber
    case .keyFile: keyFile = keyFile ?? value
    case .sign: signAddress = signAddress ?? value
    case .stun:
      if !givesStunServers, let server = StunServer(value) { _ = stunServers.append(server) }
    case .family: givenFamily = givenFamily ?? value.familyNumber
    case .waitPort: waitPort = waitPort ?? value.portNumber
    }
  }
}

/// What may begin a line of client.conf. Raw values count from 0.
enum ClientKeyword: UInt8 {
  case host, hostName, port, keyFile, sign, stun, family, waitPort

  var name: StaticString {
    switch self {
    case .host: "Host"
    case .hostName: "HostName"
    case .port: "Port"
    case .keyFile: "KeyFile"
    case .sign: "Sign"
    case .stun: "Stun"
    case .family: "Family"
    case .waitPort: "WaitPort"
    }
  }

  /// Whatever its case.
  init?(_ word: Span<UInt8>) {
    var number: UInt8 = 0
    while let keyword = ClientKeyword(rawValue: number) {
      if word.equalsIgnoringCase(keyword.name) {
        self = keyword
        return
      }
      number += 1
    }
    return nil
  }

  /// What is accepted, where a value is not.
  func refusal(of value: Argument) -> StaticString? {
    switch self {
    case .port, .waitPort: value.portNumber == nil ? "a port number from 1 to 65535" : nil
    case .keyFile:
      value.withBytes { $0.hasPrefix("/") || $0.hasPrefix("~/") }
        ? nil : "a path that begins with / or ~/"
    case .family: value.familyNumber == nil ? "inet, inet6 or any" : nil
    case .sign:
      value == "auto" || value == "observed" || SocketAddress(numeric: value) != nil
        ? nil : "auto, observed, or a numeric IPv4 or IPv6 address"
    case .stun: StunServer(value) == nil ? StunServer.accepted : nil
    case .host, .hostName: nil
    }
  }
}

extension Argument {
  fileprivate func repeats(for option: OptionSpec) throws(Misuse) -> Int {
    guard let number = withBytes({ Numbers.integer($0) }), number >= 1, number <= 100 else {
      throw .badValue(option, self, accepted: "a number from 1 to 100")
    }
    return Int(number)
  }

  fileprivate var familyNumber: Int32? {
    self == "inet" ? AF_INET : self == "inet6" ? AF_INET6 : self == "any" ? AF_UNSPEC : nil
  }
}
