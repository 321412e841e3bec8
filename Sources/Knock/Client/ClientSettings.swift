import CSystem
import KnockProtocol

/// What the options of the client set.
struct ClientSettings: AppletSettings {
  enum Option: UInt8, OptionTable {
    case config, port, signAddress, sourceAddress, keyFile, ipv4, ipv6, waitPort, wait, close,
      check,
      verbose, help, version

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
  private(set) var sourceAddress: Argument?
  private(set) var keyFile: Argument?
  private var givenFamily: Int32?
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
    case .sourceAddress: sourceAddress = value?.nonempty
    case .keyFile: keyFile = value
    case .ipv4: givenFamily = AF_INET
    case .ipv6: givenFamily = AF_INET6
    case .waitPort: waitPort = try value?.port(for: option.spec)
    case .wait: waitSeconds = try value?.duration(for: option.spec) ?? waitSeconds
    case .close: closesAfterwards = true
    case .check: onlyChecks = true
    case .verbose: isVerbose = true
    case .help, .version: break
    }
  }

  /// Takes a line of the configuration, unless that was said before: the first one counts, as in
  /// ssh_config(5). The value has been checked.
  mutating func take(_ keyword: ClientKeyword, _ value: Argument) {
    switch keyword {
    case .host: break
    case .hostName: hostName = hostName ?? value
    case .port: givenPort = givenPort ?? value.portNumber
    case .keyFile: keyFile = keyFile ?? value
    case .sign: signAddress = signAddress ?? value
    case .family: givenFamily = givenFamily ?? value.familyNumber
    case .waitPort: waitPort = waitPort ?? value.portNumber
    }
  }
}

/// What may begin a line of client.conf. Raw values count from 0.
enum ClientKeyword: UInt8 {
  case host, hostName, port, keyFile, sign, family, waitPort

  var name: StaticString {
    switch self {
    case .host: "Host"
    case .hostName: "HostName"
    case .port: "Port"
    case .keyFile: "KeyFile"
    case .sign: "Sign"
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
      ClientApplet.numericAddress(value) == nil ? "a numeric IPv4 or IPv6 address" : nil
    case .host, .hostName: nil
    }
  }
}

extension Argument {
  fileprivate var familyNumber: Int32? {
    self == "inet" ? AF_INET : self == "inet6" ? AF_INET6 : self == "any" ? AF_UNSPEC : nil
  }
}
