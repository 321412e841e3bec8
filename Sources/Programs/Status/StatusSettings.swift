import KnockBase

/// What the options of `pyknock status` set. Most are options of the server.
struct StatusSettings: AppletSettings {
  enum Option: UInt8, OptionTable {
    case config, keys, state, nft, ipset
    case users, json, help, version

    /// The option of the server with the same name.
    var ofServer: ServerOption? {
      switch self {
      case .config: .config
      case .keys: .keys
      case .state: .state
      case .nft: .nft
      case .ipset: .ipset
      default: nil
      }
    }

    var spec: OptionSpec {
      switch self {
      case .config:
        OptionSpec("f", "config", value: "FILE", "the server's settings")
      case .keys:
        OptionSpec(nil, "keys", value: "DIR", "the server's directory of users")
      case .state: OptionSpec(nil, "state", value: "DIR", "the server's state directory")
      case .nft:
        OptionSpec(nil, "nft", value: "FAMILY/TABLE/SET4[,SET6]", "the server's sets of nftables")
      case .ipset: OptionSpec(nil, "ipset", value: "SET4[,SET6]", "the server's sets of ipset")
      case .users: OptionSpec(nil, "users", "print the users, too")
      case .json: OptionSpec(nil, "json", "print JSON")
      case .help: .help
      case .version: .version
      }
    }

    var heading: Literal? {
      switch self {
      case .config: "Settings of the server"
      case .users: "Output"
      default: nil
      }
    }
  }

  private static var defaultFile: Argument { Argument("/etc/pyknock/server.conf") }

  private(set) var server = ServerSettings()
  private(set) var printsUsers = false
  private(set) var printsJSON = false
  var keyFile: Argument? { nil }
  var showsArguments: Bool { true }

  mutating func apply(_ option: Option, _ value: Argument?) throws(Misuse) {
    if let ofServer = option.ofServer { return try server.apply(ofServer, value) }
    if option == .users { printsUsers = true } else { printsJSON = true }
  }

  mutating func readConfiguration() throws(ConfigurationError<ServerOption>) {
    let isGiven = server.configuration != nil
    if !isGiven, server.stateDirectory == nil, server.firewall.sets == nil {
      server.configuration = Self.defaultFile
    }
    try server.readConfiguration(mustExist: isGiven)
  }

  func validate() throws(Misuse) { try server.validate() }
}
