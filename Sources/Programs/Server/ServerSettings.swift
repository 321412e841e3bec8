import CSystem
import KnockBase
import Netfilter

/// What the options of the server set.
struct ServerSettings: AppletSettings {
  enum Option: UInt8, OptionTable {
    case config, bindAddress, port, timeDrift, keyFile, allowObservedSource
    case nft, ipset, ttl, grantPrefix4, grantPrefix6
    case openCommand, closeCommand, noShell, jobs, commandTimeout, closeAfter, closeOnExit
    case state, replayCapacity, grantCapacity, metrics, syslog, logFormat
    case user, chroot, noSandbox, quiet, verbose
    // These ask for something else than a server.
    case list, json, check, example, help, version

    /// Whether a configuration file may hold it.
    var isSetting: Bool { self != .config && rawValue < Option.list.rawValue }

    var spec: OptionSpec {
      switch self {
      case .config:
        OptionSpec(
          "f", "config", value: "FILE",
          "take what is not said here from FILE: a long option and its value a line")
      case .bindAddress:
        OptionSpec(
          "b", "bind-address", value: "ADDR", original: true,
          "numeric local address (default: all, IPv4 and IPv6)")
      case .port:
        OptionSpec("p", "port", value: "PORT", original: true, "UDP port (default: 60120)")
      case .timeDrift:
        OptionSpec(
          "t", "time-drift", value: "DRIFT", original: true,
          "allowed difference of the clocks, seconds (default: 60)")
      case .keyFile: .keyFile
      case .allowObservedSource:
        OptionSpec(
          nil, "allow-observed-source",
          "take the sender's address where a knock names none (-S observed)")
      case .nft:
        OptionSpec(
          nil, "nft", value: "FAMILY/TABLE/SET4[,SET6]",
          "add the address to a set of nftables, delete it on close")
      case .ipset: OptionSpec(nil, "ipset", value: "SET4[,SET6]", "the same with sets of ipset")
      case .ttl:
        OptionSpec(
          nil, "ttl", value: "DURATION",
          "the kernel deletes it after: 90, 15m, 2h, 1d (default: never)")
      case .grantPrefix4:
        OptionSpec(
          nil, "grant-prefix4", value: "BITS",
          "add the address with its neighbours, 16 to 32 (default: 32)")
      case .grantPrefix6:
        OptionSpec(
          nil, "grant-prefix6", value: "BITS", "the same for IPv6, 48 to 128 (default: 128)")
      case .openCommand:
        OptionSpec(nil, "open-command", value: "COMMAND", "the same as OPEN_CMD")
      case .closeCommand:
        OptionSpec(nil, "close-command", value: "COMMAND", "the same as CLOSE_CMD")
      case .noShell: OptionSpec(nil, "no-shell", "run the commands directly, without /bin/sh")
      case .jobs:
        OptionSpec(nil, "jobs", value: "N", "commands at the same time, 1 to 64 (default: 1)")
      case .commandTimeout:
        OptionSpec(
          nil, "command-timeout", value: "DURATION",
          "end a command that runs longer: 30, 15m, 2h (default: 30)")
      case .closeAfter:
        OptionSpec(
          nil, "close-after", value: "DURATION",
          "close again after: 90, 15m, 2h, 1d; needs --state")
      case .closeOnExit: OptionSpec(nil, "close-on-exit", "close all that is open when stopped")
      case .state:
        OptionSpec(
          nil, "state", value: "DIR",
          "remember in DIR what must not be replayed, and what is open")
      case .replayCapacity:
        OptionSpec(
          nil, "replay-capacity", value: "N",
          "how many knocks are remembered at a time, 16 to 1000000 (default: 4096)")
      case .grantCapacity:
        OptionSpec(
          nil, "grant-capacity", value: "N",
          "how many addresses can be open at a time, 16 to 1000000 (default: 4096)")
      case .metrics:
        OptionSpec(
          nil, "metrics", value: "FILE", "keep the counters in FILE, as Prometheus reads them")
      case .syslog: OptionSpec(nil, "syslog", "log to /dev/log")
      case .logFormat:
        OptionSpec(
          nil, "log-format", value: "text|json", "each line of the log as text (default) or JSON")
      case .list: OptionSpec(nil, "list", "print what is open by --state, and exit")
      case .json: OptionSpec(nil, "json", "print it as JSON")
      case .user:
        OptionSpec(
          nil, "user", value: "USER",
          "become this user at start: a name, UID, or UID:GID")
      case .chroot:
        OptionSpec(nil, "chroot", value: "DIR", "make DIR the root directory")
      case .noSandbox: OptionSpec(nil, "no-sandbox", "keep all rights, to look for faults")
      case .check:
        OptionSpec("n", "check", "check the arguments, key, sets and address, and do nothing else")
      case .example:
        OptionSpec(
          nil, "example", value: "nft|ipset", "print firewall rules to begin with, and exit")
      case .quiet: OptionSpec("q", "quiet", "log only warnings and failures")
      case .verbose: OptionSpec("v", "verbose", "log more; -vv still more")
      case .help: .help
      case .version: .version
      }
    }
  }

  /// The most that may be remembered, and that may be open.
  static let maximumCapacity = 1_000_000
  /// The most commands that may run at the same time.
  static let maximumJobs = 64

  /// Where to read what the command line does not say.
  private(set) var configuration: Argument?
  /// The options that were set, by number, and which of them the command line sets.
  private var given: UInt64 = 0
  private var givenByCommandLine: UInt64 = 0
  /// Tells whether the configuration file says the same of what only a start can change.
  private var fixedSettings = Checksum()
  /// Nil for all addresses.
  private(set) var bindAddress: Argument?
  private(set) var port: UInt16 = 60120
  /// The allowed clock skew: microseconds, 1 to `Microseconds.longest`.
  private(set) var drift = 60 * Microseconds.perSecond
  private(set) var keyFile: Argument?
  /// Whether the address may be left to us; see `Gate`.
  private(set) var allowsObservedSource = false
  private(set) var firewall = FirewallSettings()
  /// What to print instead of being a server.
  private(set) var example: FirewallExample?
  private(set) var openCommand: Argument?
  private(set) var closeCommand: Argument?
  private(set) var usesShell = true
  /// 1 to `maximumJobs`.
  private(set) var jobs = 1
  private(set) var commandTimeoutSeconds: Int64 = 30
  /// How long what was opened stays open; nil for until it is closed.
  private(set) var closeAfterSeconds: Int64?
  private(set) var closesOnExit = false
  /// Where to keep what is to outlive the server; nil for nowhere.
  private(set) var stateDirectory: Argument?
  /// How many accepted datagrams are remembered at a time.
  private(set) var replayCapacity = 4096
  /// How many addresses can be open at a time, where they are closed again.
  private(set) var grantCapacity = 4096
  /// Whether to print what is open instead of being a server.
  private(set) var listsGrants = false
  private(set) var listsAsJSON = false
  /// The file for the counters.
  private(set) var metrics: Argument?
  private(set) var logsToSystem = false
  private(set) var logsAsJSON = false
  private(set) var sandbox = Sandbox()
  private(set) var onlyChecks = false
  private(set) var verbosity = Verbosity.normal

  /// The port, if it was said.
  var givenPort: UInt16? { given >> Option.port.rawValue & 1 != 0 ? port : nil }

  mutating func apply(_ option: Option, _ value: Argument?) throws(Misuse) {
    given |= 1 << option.rawValue
    guard let value else {
      switch option {
      case .allowObservedSource: allowsObservedSource = true
      case .noShell: usesShell = false
      case .closeOnExit: closesOnExit = true
      case .syslog: logsToSystem = true
      case .list: listsGrants = true
      case .json: listsAsJSON = true
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
    case .timeDrift: drift = try value.drift(for: option.spec)
    case .keyFile: keyFile = value
    case .openCommand: openCommand = value
    case .closeCommand: closeCommand = value
    case .metrics:
      guard value.withBytes({ !$0.isEmpty && $0[$0.count - 1] != UInt8(ascii: "/") })
      else { throw .badValue(option.spec, value, accepted: "a file") }
      metrics = value
    case .logFormat:
      guard value == "text" || value == "json" else {
        throw .badValue(option.spec, value, accepted: "text or json")
      }
      logsAsJSON = value == "json"
    case .jobs:
      guard let number = value.withBytes({ Numbers.integer($0) }),
        number >= 1, number <= Self.maximumJobs
      else { throw .badValue(option.spec, value, accepted: "a number from 1 to 64") }
      jobs = Int(number)
    case .nft:
      if case .ipset = firewall.sets { throw .unsuitable(option.spec, Self.exclusion) }
      guard value.withBytes({ firewall.setNft($0) }) else {
        throw .badValue(
          option.spec, value,
          accepted: "FAMILY/TABLE/SET4[,SET6] with family inet, ip, ip6, bridge or netdev")
      }
    case .ipset:
      if case .nft = firewall.sets { throw .unsuitable(option.spec, Self.exclusion) }
      guard value.withBytes({ firewall.setIPSet($0) }) else {
        throw .badValue(option.spec, value, accepted: "SET4[,SET6], names of at most 31 characters")
      }
    case .ttl: firewall.seconds = try value.duration(for: option.spec)
    case .grantPrefix4:
      guard value.withBytes({ firewall.setPrefixLength($0, for: .inet) }) else {
        throw .badValue(option.spec, value, accepted: "a number of bits from 16 to 32")
      }
    case .grantPrefix6:
      guard value.withBytes({ firewall.setPrefixLength($0, for: .inet6) }) else {
        throw .badValue(option.spec, value, accepted: "a number of bits from 48 to 128")
      }
    case .state: stateDirectory = value.nonempty
    case .replayCapacity: replayCapacity = try value.capacity(for: option.spec)
    case .grantCapacity: grantCapacity = try value.capacity(for: option.spec)
    case .closeAfter: closeAfterSeconds = try value.duration(for: option.spec)
    case .user:
      guard let user = Sandbox.User(value) else {
        throw .badValue(option.spec, value, accepted: "a user of this system, UID, or UID:GID")
      }
      sandbox.user = user
    case .chroot: sandbox.root = value.nonempty
    case .commandTimeout: commandTimeoutSeconds = try value.duration(for: option.spec)
    case .example:
      guard let example = value.withBytes({ FirewallExample(named: $0) }) else {
        throw .badValue(option.spec, value, accepted: "nft or ipset")
      }
      self.example = example
    default: break
    }
  }
}

extension ServerSettings {
  /// Takes what the configuration file says and the command line does not.
  mutating func complete(_ report: Report) -> Bool {
    givenByCommandLine = given
    return readFile(report)
  }

  /// The key file and the commands as the command line and the configuration file name them now, of a server that has
  /// started with these settings. Nil, with a report, where the file is of no use.
  func reread(_ report: Report) -> ServerSettings? {
    var new = ServerSettings()
    new.configuration = configuration
    new.givenByCommandLine = givenByCommandLine
    new.keyFile = isGivenByCommandLine(.keyFile) ? keyFile : nil
    new.openCommand = isGivenByCommandLine(.openCommand) ? openCommand : nil
    new.closeCommand = isGivenByCommandLine(.closeCommand) ? closeCommand : nil
    guard new.readFile(report) else { return nil }
    new.usesShell = usesShell
    if new.fixedSettings.value != fixedSettings.value {
      report.write(
        "warning: what else has changed in the configuration file counts from the next start",
        as: .warning)
    }
    return new
  }

  private func isGivenByCommandLine(_ option: Option) -> Bool {
    givenByCommandLine >> option.rawValue & 1 != 0
  }

  /// Whether the command line says the same, or what this stands against.
  private func isOverruled(_ option: Option) -> Bool {
    switch option {
    case .quiet, .verbose: isGivenByCommandLine(.quiet) || isGivenByCommandLine(.verbose)
    case .nft, .ipset: isGivenByCommandLine(.nft) || isGivenByCommandLine(.ipset)
    default: isGivenByCommandLine(option)
    }
  }

  private mutating func readFile(_ report: Report) -> Bool {
    guard let configuration else { return true }
    // A file of which nothing is understood may be a key.
    var mayQuote = false
    return ConfigurationFile.read(
      configuration, isOptional: false, mayName: isGivenByCommandLine(.keyFile), report
    ) {
      keyword, value, complaint in
      guard let option = Option.setting(keyword) else {
        complaint.append(quoted: keyword, if: mayQuote)
        complaint.append(" is not ")
        complaint.appendSettings()
        return false
      }
      mayQuote = true
      if option != .keyFile, option != .openCommand, option != .closeCommand {
        fixedSettings.add(UInt64(option.rawValue))
        value.withBytes { value in
          for index in value.indices { fixedSettings.add(UInt64(value[index])) }
        }
      }
      if isOverruled(option) { return true }
      do throws(Misuse) {
        if option.spec.takesValue {
          try apply(option, value)
        } else if value == "yes" {
          try apply(option, nil)
        } else if !(value == "no") {
          throw .badValue(option.spec, value, accepted: "yes or no")
        }
        return true
      } catch {
        error.describe(to: &complaint, mayQuote: true)
        return false
      }
    }
  }

  private static var exclusion: StaticString { ": only one of --nft and --ipset can be given" }

  func validate() throws(Misuse) {
    if stateDirectory == nil {
      let needed: StaticString = " needs --state"
      if closeAfterSeconds != nil { throw .unsuitable(Option.closeAfter.spec, needed) }
      if listsGrants { throw .unsuitable(Option.list.spec, needed) }
    }
    if listsAsJSON, !listsGrants { throw .unsuitable(Option.json.spec, " needs --list") }
    if closesOnExit, closeAfterSeconds == nil {
      throw .unsuitable(Option.closeOnExit.spec, " needs --close-after")
    }
    if firewall.sets == nil {
      let needed: StaticString = " needs --nft or --ipset"
      if firewall.seconds != nil { throw .unsuitable(Option.ttl.spec, needed) }
      if firewall.grantsPrefixes(for: .inet) {
        throw .unsuitable(Option.grantPrefix4.spec, needed)
      }
      if firewall.grantsPrefixes(for: .inet6) {
        throw .unsuitable(Option.grantPrefix6.spec, needed)
      }
    }
    if firewall.grantsPrefixes(for: .inet), !firewall.covers(.inet) {
      throw .unsuitable(Option.grantPrefix4.spec, " needs a set for IPv4")
    }
    if firewall.grantsPrefixes(for: .inet6), !firewall.covers(.inet6) {
      throw .unsuitable(Option.grantPrefix6.spec, " needs a set for IPv6")
    }
    if case .ipset = firewall.sets, let seconds = firewall.seconds, seconds > IPSet.maximumSeconds {
      throw .unsuitable(Option.ttl.spec, ": sets of ipset take at most 2147483 seconds (24 days)")
    }
  }
}

extension Argument {
  /// Nil for an empty text: in the original, an empty address is as good as none.
  var nonempty: Argument? { count > 0 ? self : nil }

  /// A port, as the original takes it.
  func port(for option: OptionSpec) throws(Misuse) -> UInt16 {
    guard let port = portNumber else {
      throw .badValue(option, self, accepted: "a port number from 1 to 65535")
    }
    return port
  }

  var portNumber: UInt16? { withBytes { Numbers.port($0) } }

  fileprivate func capacity(for option: OptionSpec) throws(Misuse) -> Int {
    guard let number = withBytes({ Numbers.integer($0) }), number >= 16,
      number <= ServerSettings.maximumCapacity
    else { throw .badValue(option, self, accepted: "a number from 16 to 1000000") }
    return Int(number)
  }

  /// A duration in seconds.
  func duration(for option: OptionSpec) throws(Misuse) -> Int64 {
    guard let seconds = withBytes({ Numbers.duration($0) }) else {
      throw .badValue(
        option, self, accepted: "a duration such as 90, 15m, 2h or 1d, at most 366 days")
    }
    return seconds
  }

  /// A drift (microseconds). The original also takes infinity and NaN, with which a datagram never becomes too
  /// old, and numbers with which none is ever accepted.
  fileprivate func drift(for option: OptionSpec) throws(Misuse) -> Int64 {
    guard let drift = withBytes({ Numbers.microseconds(ofSeconds: $0) }) else {
      throw .badValue(option, self, accepted: "a number of seconds over 0, such as 60 or 2.5")
    }
    return drift
  }
}

extension ServerSettings.Option {
  /// What a keyword of the configuration file stands for, whatever its case.
  fileprivate static func setting(_ keyword: Argument) -> Self? {
    var number: UInt8 = 0
    while let option = Self(rawValue: number) {
      number += 1
      if option.isSetting, keyword.withBytes({ $0.equalsIgnoringCase(option.spec.long) }) {
        return option
      }
    }
    return nil
  }
}

extension Line {
  /// All that may begin a line of the configuration file.
  fileprivate mutating func appendSettings() {
    var number: UInt8 = 0
    var isFirst = true
    while let option = ServerSettings.Option(rawValue: number) {
      number += 1
      guard option.isSetting else { continue }
      if !isFirst { append(", ") }
      isFirst = false
      append(option.spec.long)
    }
  }
}
