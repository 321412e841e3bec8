/// What the options of an applet set. A new value has the defaults.
protocol AppletSettings {
  associatedtype Option: OptionTable
  /// What begins a line of the configuration file.
  associatedtype Keyword: ConfigurationKeyword = Option
  init()
  /// The file that `-k` names. Without `-k`, one of the operands is the key.
  var keyFile: Argument? { get }
  /// Whether `keyFile` is from a configuration file.
  var configuresKeyFile: Bool { get }
  /// Whether none of the arguments can be the key, so that messages may quote them.
  var showsArguments: Bool { get }
  /// Takes any option except help and version.
  mutating func apply(_ option: Option, _ value: Argument?) throws(Misuse)
  /// Adds the settings of a configuration file.
  mutating func readConfiguration() throws(ConfigurationError<Keyword>)
  /// Checks that the options fit together.
  func validate() throws(Misuse)
}

extension AppletSettings {
  var configuresKeyFile: Bool { false }
  var keyFileSource: KeySource? {
    keyFile.map { configuresKeyFile ? .configuredFile($0) : .file($0) }
  }
  var showsArguments: Bool { keyFile != nil }
  mutating func readConfiguration() throws(ConfigurationError<Keyword>) {}
  func validate() throws(Misuse) {}
}
