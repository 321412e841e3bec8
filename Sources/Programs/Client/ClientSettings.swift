import KnockBase

/// What the options of the client set.
struct ClientSettings: AppletSettings {
  enum Option: UInt8, OptionTable {
    case config, keyFile, port, ipv4, ipv6, signAddress, stun, sourceAddress, ttl, answer, repeats
    case interval, waitPort, wait, close, check, verbose, help, version

    var heading: Literal? {
      switch self {
      case .config: "Host and key"
      case .signAddress: "Addresses"
      case .ttl: "Keys of version 2"
      case .repeats: "Repeats"
      case .waitPort: "After open"
      case .check: "Other"
      default: nil
      }
    }

    var spec: OptionSpec {
      switch self {
      case .config:
        OptionSpec(
          "c", "config", value: "NAME", "read settings of NAME in client.conf")
      case .port:
        OptionSpec("p", "port", value: "PORT", original: true, "UDP port (default: 60120)")
      case .signAddress:
        OptionSpec(
          "S", "sign-address", value: "ADDR", original: true,
          "open or close for ADDR, auto, or observed")
      case .stun:
        OptionSpec(
          nil, "stun", value: "HOST[:PORT]",
          "STUN server for -S auto; up to 4 times")
      case .sourceAddress:
        OptionSpec(
          "s", "source-address", value: "ADDR", original: true, "send from this local address")
      case .keyFile: .keyFile
      case .ipv4: OptionSpec("4", "ipv4", "only knock on IPv4 addresses of HOST")
      case .ipv6: OptionSpec("6", "ipv6", "only knock on IPv6 addresses of HOST")
      case .ttl:
        OptionSpec(nil, "ttl", value: "DURATION", "ask to open for at most so long")
      case .answer: OptionSpec(nil, "answer", "wait for the answer of the server")
      case .repeats:
        OptionSpec(nil, "repeat", value: "N", "send each knock N times, 1 to 100 (default: 1)")
      case .interval:
        OptionSpec(
          nil, "interval", value: "DURATION", "time between repeats (default: 1)")
      case .waitPort:
        OptionSpec(
          nil, "wait-port", value: "PORT",
          "wait until this TCP port can be connected to")
      case .wait:
        OptionSpec(
          nil, "wait", value: "DURATION", "how long to wait for the port (default: 10)")
      case .close: OptionSpec(nil, "close", "close again after COMMAND ends")
      case .check: OptionSpec("n", "check", "print the knocks instead of sending them")
      case .verbose: OptionSpec("v", "verbose", "log what is sent")
      case .help: .help
      case .version: .version
      }
    }
  }

  /// The NAME of `-c`.
  private(set) var config: Argument?
  /// The host to knock on, if client.conf has another name for it.
  private(set) var hostName: Argument?
  private var givenPort: UInt16?
  private(set) var signAddress: Argument?
  private(set) var stunServers = StunServerList()
  /// Whether they come from options. Those in client.conf are then not asked.
  private var givesStunServers = false
  private(set) var sourceAddress: Argument?
  private(set) var keyFile: Argument?
  /// The key, if client.conf has it.
  private(set) var key: Argument?
  /// Nil for both.
  private(set) var family: AddressFamily?
  private var choosesFamily = false
  /// How long it shall stay open; 0 leaves it to the server.
  private(set) var ttlSeconds: Int64 = 0
  /// Whether to wait for an answer; nil if nothing says.
  private(set) var wantsAnswer: Bool?
  private(set) var repeats = 1
  private(set) var intervalSeconds: Int64 = 1
  private(set) var waitPort: UInt16?
  private(set) var waitSeconds: Int64 = 10
  private(set) var closesAfterwards = false
  private(set) var onlyChecks = false
  private(set) var isVerbose = false

  var showsArguments: Bool { keyFile != nil || config != nil }
  var port: UInt16 { givenPort ?? 60120 }

  mutating func apply(_ option: Option, _ value: Argument?) throws(Misuse) {
    switch option {
    case .config: config = value?.nonempty
    case .port: givenPort = try value?.port(for: option.spec) ?? givenPort
    case .signAddress: signAddress = value?.nonempty
    case .stun: try value.map { value throws(Misuse) in try addStunServer(value) }
    case .sourceAddress: sourceAddress = value?.nonempty
    case .keyFile: keyFile = value
    case .ipv4: (family, choosesFamily) = (.inet, true)
    case .ipv6: (family, choosesFamily) = (.inet6, true)
    case .ttl: ttlSeconds = try value?.duration(for: option.spec) ?? ttlSeconds
    case .answer: wantsAnswer = true
    case .repeats:
      repeats =
        try value?.number(from: 1, to: 100, for: option.spec, accepted: "a number from 1 to 100")
        ?? repeats
    case .interval: intervalSeconds = try value?.duration(for: option.spec) ?? intervalSeconds
    case .waitPort: waitPort = try value?.port(for: option.spec)
    case .wait: waitSeconds = try value?.duration(for: option.spec) ?? waitSeconds
    case .close: closesAfterwards = true
    case .check: onlyChecks = true
    case .verbose: isVerbose = true
    case .help, .version: break
    }
  }

  /// Sets the port of `connect PORT`.
  mutating func connect(to port: UInt16) { waitPort = port }

  private mutating func addStunServer(_ value: Argument) throws(Misuse) {
    let spec = Option.stun.spec
    guard let server = StunServer(value, isConfigured: false) else {
      throw .badValue(spec.name, value, accepted: StunServer.accepted)
    }
    guard stunServers.append(server) else {
      throw .unsuitable(spec.name, " can be given up to 4 times")
    }
    givesStunServers = true
  }

  /// Checks that there are STUN servers with `-S auto`, and only then.
  func validateStunServers() throws(Misuse) {
    let asks = signAddress.map { $0 == "auto" } ?? false
    if asks, stunServers.count == 0 {
      throw .unsuitable(Option.signAddress.spec.name, ": auto needs --stun, or Stun in client.conf")
    }
    if !asks, givesStunServers { throw .unsuitable(Option.stun.spec.name, " needs -S auto") }
  }

  /// Adds a line of client.conf whose value has been checked. The first value counts, as in ssh_config(5), and
  /// the first four STUN servers.
  ///
  /// - Returns: whether the value is the key, and counts.
  mutating func add(_ keyword: ClientKeyword, _ value: Argument) -> Bool {
    switch keyword {
    case .host: break
    case .hostName: hostName = hostName ?? value.withoutBrackets
    case .port: givenPort = givenPort ?? value.portNumber
    case .key:
      guard key == nil, keyFile == nil else { return false }
      key = value
      return true
    case .keyFile: if key == nil { keyFile = keyFile ?? value }
    case .sign: signAddress = signAddress ?? value
    case .stun:
      if !givesStunServers, let server = StunServer(value, isConfigured: true) {
        _ = stunServers.append(server)
      }
    case .family:
      if !choosesFamily { (family, choosesFamily) = (FamilyChoice(value)?.family, true) }
    case .waitPort: waitPort = waitPort ?? value.portNumber
    case .ttl:
      if ttlSeconds == 0 { ttlSeconds = value.withBytes { Numbers.duration($0) } ?? 0 }
    case .answer: wantsAnswer = wantsAnswer ?? (value == "yes")
    }
    return false
  }
}

/// A keyword that begins a line of client.conf. Raw values count from 0.
enum ClientKeyword: UInt8, ConfigurationKeyword {
  case host, hostName, port, key, keyFile, sign, stun, family, waitPort, ttl, answer

  var isKeyword: Bool { true }

  var name: Literal {
    switch self {
    case .host: "Host"
    case .hostName: "HostName"
    case .port: "Port"
    case .key: "Key"
    case .keyFile: "KeyFile"
    case .sign: "Sign"
    case .stun: "Stun"
    case .family: "Family"
    case .waitPort: "WaitPort"
    case .ttl: "Ttl"
    case .answer: "Answer"
    }
  }

  /// What would be accepted; nil if the value is.
  func refusal(of value: Argument) -> Literal? {
    switch self {
    case .port, .waitPort: value.portNumber == nil ? "a port number from 1 to 65535" : nil
    case .keyFile:
      value.withBytes { $0.hasPrefix("/") || $0.hasPrefix("~/") }
        ? nil : "a path that begins with / or ~/"
    case .family: FamilyChoice(value) == nil ? "inet, inet6 or any" : nil
    case .sign:
      value == "auto" || value == "observed" || Address(value) != nil
        ? nil : SignedAddress.accepted
    case .stun: StunServer(value, isConfigured: true) == nil ? StunServer.accepted : nil
    case .ttl:
      value.withBytes { Numbers.duration($0) } == nil ? Argument.acceptedDurations : nil
    case .answer: value == "yes" || value == "no" ? nil : "yes or no"
    case .hostName: value.hostRefusal
    case .host, .key: nil
    }
  }
}

/// The value of Family.
private struct FamilyChoice {
  /// Nil for both.
  let family: AddressFamily?

  init?(_ text: Argument) {
    if text == "inet" {
      family = .inet
    } else if text == "inet6" {
      family = .inet6
    } else if text == "any" {
      family = nil
    } else {
      return nil
    }
  }
}
