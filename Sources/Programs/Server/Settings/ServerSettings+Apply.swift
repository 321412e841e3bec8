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
    switch option {
    case .config: configuration = value
    case .bindAddress: bindAddress = value.nonempty
    case .port: port = try value.port(for: option.spec)
    case .timeDrift: drift = try Self.drift(value, for: option)
    case .keyFile: keyFile = value
    case .keys: keysDirectory = value.nonempty
    case .openCommand: openCommand = value
    case .closeCommand: closeCommand = value
    case .metrics:
      // The file is replaced. Nobody wants /dev/null to be replaced by one.
      guard value.withBytes({ !$0.isEmpty && $0[$0.count - 1] != UInt8(ascii: "/") }),
        !value.isSpecialFile
      else { throw .badValue(option.spec.name, value, accepted: "a file") }
      metrics = value
    case .logFormat:
      guard value == "text" || value == "json" else {
        throw .badValue(option.spec.name, value, accepted: "text or json")
      }
      logsAsJSON = value == "json"
    case .jobs:
      jobs = try value.number(
        from: 1, to: Int64(Self.maximumJobs), for: option.spec, accepted: "a number from 1 to 64")
    case .nft:
      if case .ipset = firewall.sets { throw .unsuitable(option.spec.name, Self.exclusion) }
      guard value.withBytes({ firewall.setNft($0) }) else {
        throw .badValue(
          option.spec.name, value,
          accepted: "FAMILY/TABLE/SET4[,SET6] with family inet, ip, ip6, bridge or netdev")
      }
    case .ipset:
      if case .nft = firewall.sets { throw .unsuitable(option.spec.name, Self.exclusion) }
      guard value.withBytes({ firewall.setIPSet($0) }) else {
        throw .badValue(
          option.spec.name, value, accepted: "SET4[,SET6], names of at most 31 characters")
      }
    case .ttl: firewall.seconds = try value.duration(for: option.spec)
    case .grantPrefix4:
      guard value.withBytes({ firewall.setPrefixLength($0, for: .inet) }) else {
        throw .badValue(option.spec.name, value, accepted: "a number of bits from 16 to 32")
      }
    case .grantPrefix6:
      guard value.withBytes({ firewall.setPrefixLength($0, for: .inet6) }) else {
        throw .badValue(option.spec.name, value, accepted: "a number of bits from 48 to 128")
      }
    case .state: stateDirectory = value.nonempty
    case .replayCapacity: replayCapacity = try Self.capacity(value, for: option)
    case .grantCapacity: grantCapacity = try Self.capacity(value, for: option)
    case .closeAfter: closeAfterSeconds = try value.duration(for: option.spec)
    case .user:
      guard let user = Sandbox.User(value) else {
        throw .badValue(option.spec.name, value, accepted: "a user of this system, UID, or UID:GID")
      }
      sandbox.user = user
    case .chroot: sandbox.root = value.nonempty
    case .commandTimeout: commandTimeoutSeconds = try value.duration(for: option.spec)
    case .example:
      guard let example = value.withBytes({ FirewallExample(named: $0) }) else {
        throw .badValue(option.spec.name, value, accepted: "nft, ipset or docker")
      }
      self.example = example
    case .hide: hiddenPorts = value
    default: break
    }
  }
  private static var exclusion: Literal { ": only one of --nft and --ipset can be given" }

  private static func capacity(_ value: Argument, for option: Option) throws(Misuse) -> Int {
    try value.number(
      from: 16, to: Int64(maximumCapacity), for: option.spec,
      accepted: "a number from 16 to 1000000")
  }

  /// A drift (microseconds). The original also takes infinity and NaN, with which no datagram is ever too
  /// old, and numbers with which it refuses every datagram.
  private static func drift(_ value: Argument, for option: Option) throws(Misuse) -> Int64 {
    guard let drift = value.withBytes({ Numbers.microseconds(ofSeconds: $0) }) else {
      throw .badValue(
        option.spec.name, value, accepted: "a number of seconds over 0, such as 60 or 2.5")
    }
    return drift
  }
}
