import KnockBase

extension ServerSettings {
  mutating func apply(_ option: Option, _ value: Argument?) throws(Misuse) {
    given.insert(option)
    guard let value else {
      switch option {
      case .allowObservedSource: allowsObservedSource = true
      case .noVersion1: acceptsVersion1 = false
      case .answer: givesAnswers = true
      case .noShell: usesShell = false
      case .closeOnExit: closesOnExit = true
      case .syslog: logsToSystem = true
      case .noSandbox: sandbox.isOn = false
      case .check: onlyChecks = true
      case .quiet: verbosity = .quiet
      case .verbose: verbosity.increase()
      default: break
      }
      return
    }
    let spec = option.spec
    // What would be accepted, if the value is not.
    var accepted: Literal?
    switch option {
    case .config: configuration = value
    case .bindAddress: bindAddress = value.nonempty
    case .port: port = try value.port(for: spec)
    case .timeDrift:
      // The original also takes infinity and NaN, with which no datagram is ever too old, and numbers with which it
      // refuses every datagram.
      if let given = value.withBytes({ Numbers.microseconds(ofSeconds: $0) }) {
        drift = given
      } else {
        accepted = "a number of seconds over 0, such as 60 or 2.5"
      }
    case .keyFile: keyFile = value
    case .keys: keysDirectory = value.nonempty
    case .openCommand: openCommand = value
    case .closeCommand: closeCommand = value
    case .metrics:
      // The file is replaced. Nobody wants /dev/null to be replaced by one.
      metrics = value
      if !value.withBytes({ !$0.isEmpty && $0[$0.count - 1] != UInt8(ascii: "/") })
        || value.isSpecialFile
      {
        accepted = "a file"
      }
    case .logFormat:
      logsAsJSON = value == "json"
      if !logsAsJSON, !(value == "text") { accepted = "text or json" }
    case .jobs:
      jobs = try value.number(
        from: 1, to: Int64(Self.maximumJobs), for: spec, accepted: "a number from 1 to 64")
    case .nft:
      if case .ipset = firewall.sets { throw .unsuitable(spec.name, Self.exclusion) }
      if !value.withBytes({ firewall.setNft($0) }) {
        accepted = "FAMILY/TABLE/SET4[,SET6] with family inet, ip, ip6, bridge or netdev"
      }
    case .ipset:
      if case .nft = firewall.sets { throw .unsuitable(spec.name, Self.exclusion) }
      if !value.withBytes({ firewall.setIPSet($0) }) {
        accepted = "SET4[,SET6], names of at most 31 characters"
      }
    case .ttl: firewall.seconds = try value.duration(for: spec)
    case .grantPrefix4:
      if !value.withBytes({ firewall.setPrefixLength($0, for: .inet) }) {
        accepted = "a number of bits from 16 to 32"
      }
    case .grantPrefix6:
      if !value.withBytes({ firewall.setPrefixLength($0, for: .inet6) }) {
        accepted = "a number of bits from 48 to 128"
      }
    case .state: stateDirectory = value.nonempty
    case .replayCapacity: replayCapacity = try Self.capacity(value, for: spec)
    case .grantCapacity: grantCapacity = try Self.capacity(value, for: spec)
    case .closeAfter: closeAfterSeconds = try value.duration(for: spec)
    case .user:
      sandbox.user = Sandbox.User(value)
      if sandbox.user == nil { accepted = "a user of this system, UID, or UID:GID" }
    case .chroot: sandbox.root = value.nonempty
    case .commandTimeout: commandTimeoutSeconds = try value.duration(for: spec)
    case .example:
      if let example = value.withBytes({ FirewallExample(named: $0) }) {
        self.example = example
      } else {
        accepted = "nft, ipset or docker"
      }
    case .hide: hiddenPorts = value
    default: break
    }
    if let accepted { throw .badValue(spec.name, value, accepted: accepted) }
  }
  private static var exclusion: Literal { ": only one of --nft and --ipset can be given" }

  private static func capacity(_ value: Argument, for spec: OptionSpec) throws(Misuse) -> Int {
    try value.number(
      from: 16, to: Int64(maximumCapacity), for: spec,
      accepted: "a number from 16 to 1000000")
  }
}
