import KnockBase

/// What the options of the server set, in the command line and in the configuration file.
struct ServerSettings: AppletSettings, BitwiseCopyable {
  typealias Option = ServerOption

  /// The limit of `replayCapacity` and `grantCapacity`.
  static let maximumCapacity = 1_000_000
  /// The limit of `jobs`.
  static let maximumJobs = 64

  /// The configuration file. The command line overrides it.
  var configuration: Argument?
  /// The options that were set, and those among them that the command line sets.
  var given = ServerOptionSet()
  var givenByCommandLine = ServerOptionSet()
  /// A checksum of the settings in the configuration file that only a restart applies.
  var fixedSettings = Checksum()
  /// Nil for all addresses.
  var bindAddress: Argument?
  var port: UInt16 = 60120
  /// The allowed clock skew: microseconds, 1 to `Microseconds.longest`.
  var drift = 60 * Microseconds.second
  var keyFile: Argument?
  /// The directory of the users, a file with a key for each; nil for none.
  var keysDirectory: Argument?
  /// Whether a knock may leave its address open; see `Gate`.
  var allowsObservedSource = false
  /// Whether keys of version 1 open anything.
  var acceptsVersion1 = true
  /// Whether knocks of version 2 that ask for an answer get one.
  var givesAnswers = false
  var firewall = FirewallSettings()
  /// Printed instead of running a server.
  var example: FirewallExample?
  /// The ports that these rules hide; nil for all.
  var hiddenPorts: Argument?
  var openCommand: Argument?
  var closeCommand: Argument?
  var usesShell = true
  /// How many commands may run at the same time.
  var jobs = 1
  var commandTimeoutSeconds: Int64 = 30
  /// How long a grant lasts; nil until it is closed.
  var closeAfterSeconds: Int64?
  var closesOnExit = false
  /// The directory for what outlives the server; nil for none.
  var stateDirectory: Argument?
  /// How many accepted datagrams are remembered at the same time.
  var replayCapacity = 4096
  /// How many grants that will be closed again can be open at the same time.
  var grantCapacity = 4096
  /// The file for the counters.
  var metrics: Argument?
  var logsToSystem = false
  var logsAsJSON = false
  var sandbox = Sandbox()
  var onlyChecks = false
  var verbosity = Verbosity.normal

  // It is long, and there are several callers.
  @inline(never)
  init() {}

  var configuresKeyFile: Bool {
    given.contains(.keyFile) && !givenByCommandLine.contains(.keyFile)
  }

  /// Whether HUP reads the key of the user without a name again.
  var rereadsKey: Bool { keyFile.map { !($0 == "-") } ?? false }

  /// Rules need no key.
  var showsArguments: Bool { keyFile != nil || example != nil }

  /// The port, if an option sets it.
  var givenPort: UInt16? { given.contains(.port) ? port : nil }
}
