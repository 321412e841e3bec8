import CSystem
import KnockProtocol

/// What the options of the client set.
struct ClientSettings: AppletSettings {
  enum Option: UInt8, OptionTable {
    case port, signAddress, sourceAddress, keyFile, ipv4, ipv6, waitPort, wait, close, verbose,
      help,
      version

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
      case .waitPort:
        OptionSpec(
          nil, "wait-port", value: "PORT",
          "after open, wait until this TCP port can be connected to")
      case .wait:
        OptionSpec(
          nil, "wait", value: "DURATION", "how long to wait for the port: 30, 5m (default: 10)")
      case .close: OptionSpec(nil, "close", "close again when COMMAND has ended")
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
  private(set) var waitPort: UInt16?
  private(set) var waitSeconds: Int64 = 10
  private(set) var closesAfterwards = false
  private(set) var isVerbose = false

  mutating func apply(_ option: Option, _ value: Argument?) throws(Misuse) {
    switch option {
    case .port: port = try value?.port(for: option.spec) ?? port
    case .signAddress: signAddress = value?.nonempty
    case .sourceAddress: sourceAddress = value?.nonempty
    case .keyFile: keyFile = value
    case .ipv4: family = AF_INET
    case .ipv6: family = AF_INET6
    case .waitPort: waitPort = try value?.port(for: option.spec)
    case .wait: waitSeconds = try value?.duration(for: option.spec) ?? waitSeconds
    case .close: closesAfterwards = true
    case .verbose: isVerbose = true
    case .help, .version: break
    }
  }
}
