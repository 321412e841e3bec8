import CSystem
import KnockProtocol

/// What the options of the server set.
struct ServerSettings: AppletSettings {
  enum Option: UInt8, OptionTable {
    case bindAddress, port, timeDrift, keyFile, noShell, jobs, commandTimeout, check, quiet
    case verbose, help, version

    var spec: OptionSpec {
      switch self {
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
      case .noShell: OptionSpec(nil, "no-shell", "run the commands directly, without /bin/sh")
      case .jobs:
        OptionSpec(nil, "jobs", value: "N", "commands at the same time, 1 to 64 (default: 1)")
      case .commandTimeout:
        OptionSpec(
          nil, "command-timeout", value: "DURATION",
          "end a command that runs longer: 30, 15m, 2h (default: 30)")
      case .check:
        OptionSpec("n", "check", "check the arguments, key and address, and do nothing else")
      case .quiet: OptionSpec("q", "quiet", "log only warnings and failures")
      case .verbose: OptionSpec("v", "verbose", "log more; -vv still more")
      case .help: .help
      case .version: .version
      }
    }
  }

  /// The most commands that may run at the same time.
  static let maximumJobs = 64

  /// Nil for all addresses.
  private(set) var bindAddress: Argument?
  private(set) var port: UInt16 = 60120
  /// Finite and over 0.
  private(set) var driftSeconds = 60.0
  private(set) var keyFile: Argument?
  private(set) var usesShell = true
  /// 1 to `maximumJobs`.
  private(set) var jobs = 1
  private(set) var commandTimeoutSeconds: Int64 = 30
  private(set) var onlyChecks = false
  private(set) var verbosity = Verbosity.normal

  mutating func apply(_ option: Option, _ value: Argument?) throws(Misuse) {
    guard let value else {
      switch option {
      case .noShell: usesShell = false
      case .check: onlyChecks = true
      case .quiet: verbosity = .quiet
      case .verbose: verbosity.increase()
      default: break
      }
      return
    }
    switch option {
    case .bindAddress: bindAddress = value.nonempty
    case .port: port = try value.port(for: option.spec)
    case .timeDrift: driftSeconds = try value.drift(for: option.spec)
    case .keyFile: keyFile = value
    case .jobs:
      guard let number = value.withBytes({ Numbers.integer($0) }),
        number >= 1, number <= Self.maximumJobs
      else { throw .badValue(option.spec, value, accepted: "a number from 1 to 64") }
      jobs = Int(number)
    case .commandTimeout:
      guard let seconds = value.withBytes({ Numbers.duration($0) }) else {
        throw .badValue(
          option.spec, value, accepted: "a duration such as 90, 15m, 2h or 1d, at most 366 days")
      }
      commandTimeoutSeconds = seconds
    default: break
    }
  }
}

extension Argument {
  /// Nil for an empty text: in the original, an empty address is as good as none.
  var nonempty: Argument? { count > 0 ? self : nil }

  /// A port, as the original takes it.
  func port(for option: OptionSpec) throws(Misuse) -> UInt16 {
    guard let number = withBytes({ Numbers.integer($0) }), number > 0,
      let port = UInt16(exactly: number)
    else { throw .badValue(option, self, accepted: "a port number from 1 to 65535") }
    return port
  }

  /// A drift in seconds: finite and over 0. The original also takes infinity and NaN, with which
  /// a datagram never becomes too old, and numbers with which none is ever accepted.
  fileprivate func drift(for option: OptionSpec) throws(Misuse) -> Double {
    var text = TextBuffer<64>()
    let isDecimal = withBytes { Numbers.normalizeDecimal($0, into: &text) }
    text.append(byte: 0)
    let seconds = text.withBytes { text in
      unsafe text.withUnsafeBytes { text in
        guard let start = text.baseAddress else { return 0.0 }
        return unsafe strtod(start.assumingMemoryBound(to: CChar.self), nil)
      }
    }
    // A longer text may have lost its end in the buffer.
    guard isDecimal, text.count < 64, seconds > 0, seconds.isFinite else {
      throw .badValue(option, self, accepted: "a number of seconds over 0, such as 60 or 2.5")
    }
    return seconds
  }
}
