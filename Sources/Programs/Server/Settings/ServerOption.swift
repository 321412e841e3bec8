import KnockBase

/// The options of the server, for the command line and for its configuration file.
enum ServerOption: UInt8, OptionTable {
  case config, keyFile, keys, bindAddress, port, timeDrift, allowObservedSource, noVersion1, answer
  case nft, ipset, ttl, grantPrefix4, grantPrefix6
  case openCommand, closeCommand, noShell, jobs, commandTimeout
  case state, closeAfter, closeOnExit, replayCapacity, grantCapacity
  case syslog, logFormat, metrics, quiet, verbose
  case user, chroot, noSandbox
  // These ask for something other than a server.
  case example, hide, check, help, version

  /// Whether a configuration file may set it.
  var isKeyword: Bool { self != .config && rawValue < Self.example.rawValue }

  var heading: Literal? {
    switch self {
    case .config: "Settings, key and network"
    case .nft: "Sets of the firewall"
    case .openCommand: "Commands"
    case .state: "State"
    case .syslog: "Log and counters"
    case .user: "Privileges"
    case .example: "Instead of a server"
    default: nil
    }
  }

  // Inlined, it would become a table of the names, too.
  @inline(never)
  var spec: OptionSpec {
    switch self {
    case .config:
      OptionSpec("f", "config", value: "FILE", "read more settings from FILE")
    case .bindAddress:
      OptionSpec(
        "b", "bind-address", value: "ADDR", original: true,
        "numeric local address (default: all)")
    case .port:
      OptionSpec("p", "port", value: "PORT", original: true, "UDP port (default: 60120)")
    case .timeDrift:
      OptionSpec(
        "t", "time-drift", value: "DRIFT", original: true,
        "allowed clock skew in seconds (default: 60)")
    case .keyFile: .keyFile
    case .keys: OptionSpec(nil, "keys", value: "DIR", "a key for each user: the files in DIR")
    case .allowObservedSource:
      OptionSpec(
        nil, "allow-observed-source", "grant the sender's address for -S observed")
    case .noVersion1: OptionSpec(nil, "no-version1", "refuse knocks of version 1")
    case .answer:
      OptionSpec(nil, "answer", "answer users of version 2 who ask for it")
    case .nft:
      OptionSpec(nil, "nft", value: "FAMILY/TABLE/SET4[,SET6]", "change sets of nftables")
    case .ipset: OptionSpec(nil, "ipset", value: "SET4[,SET6]", "change sets of ipset")
    case .ttl:
      OptionSpec(
        nil, "ttl", value: "DURATION", "time until the kernel deletes an address")
    case .grantPrefix4:
      OptionSpec(
        nil, "grant-prefix4", value: "BITS", "grant a prefix, 16 to 32 bits (default: 32)")
    case .grantPrefix6:
      OptionSpec(
        nil, "grant-prefix6", value: "BITS", "grant a prefix, 48 to 128 bits (default: 128)")
    case .openCommand:
      OptionSpec(nil, "open-command", value: "COMMAND", "the same as OPEN_CMD")
    case .closeCommand:
      OptionSpec(nil, "close-command", value: "COMMAND", "the same as CLOSE_CMD")
    case .noShell: OptionSpec(nil, "no-shell", "run the commands without /bin/sh")
    case .jobs:
      OptionSpec(nil, "jobs", value: "N", "commands at the same time, 1 to 64 (default: 1)")
    case .commandTimeout:
      OptionSpec(
        nil, "command-timeout", value: "DURATION", "end commands that run longer (default: 30)")
    case .closeAfter:
      OptionSpec(
        nil, "close-after", value: "DURATION", "close after this time, or at the next start")
    case .closeOnExit:
      OptionSpec(nil, "close-on-exit", "close what is open when the server stops")
    case .state:
      OptionSpec(nil, "state", value: "DIR", "remember knocks and open addresses in DIR")
    case .replayCapacity:
      OptionSpec(
        nil, "replay-capacity", value: "N", "remembered knocks, 16 to 1000000 (default: 4096)")
    case .grantCapacity:
      OptionSpec(
        nil, "grant-capacity", value: "N", "open addresses, 16 to 1000000 (default: 4096)")
    case .metrics:
      OptionSpec(nil, "metrics", value: "FILE", "write the counters to FILE, for Prometheus")
    case .syslog: OptionSpec(nil, "syslog", "log to /dev/log")
    case .logFormat:
      OptionSpec(nil, "log-format", value: "text|json", "format of log lines (default: text)")
    case .user:
      OptionSpec(nil, "user", value: "USER", "run as this user: name, UID, or UID:GID")
    case .chroot: OptionSpec(nil, "chroot", value: "DIR", "make DIR the root directory")
    case .noSandbox: OptionSpec(nil, "no-sandbox", "disable the sandbox (for debugging)")
    case .check:
      OptionSpec("n", "check", "only check options, key, sets and address")
    case .example:
      OptionSpec(nil, "example", value: "nft|ipset|docker", "print firewall rules")
    case .hide:
      OptionSpec(nil, "hide", value: "PORT[/udp],...", "have the rules drop only these ports")
    case .quiet: OptionSpec("q", "quiet", "log only warnings and errors")
    case .verbose: OptionSpec("v", "verbose", "log more; -vv logs still more")
    case .help: .help
    case .version: .version
    }
  }
}

/// Some of the options.
struct ServerOptionSet {
  private var bits: UInt64 = 0

  mutating func insert(_ option: ServerOption) { bits |= 1 << option.rawValue }

  func contains(_ option: ServerOption) -> Bool { bits >> option.rawValue & 1 != 0 }
}
