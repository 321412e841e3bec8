import KnockBase

/// The configuration file: each line is a long option and its value.
extension ServerSettings {
  mutating func readConfiguration() throws(ConfigurationError<Option>) {
    try readConfiguration(mustExist: true)
  }

  @inline(never)
  mutating func readConfiguration(mustExist: Bool) throws(ConfigurationError<Option>) {
    givenByCommandLine = given  // Until here, nothing else was read.
    guard let configuration else { return }
    try ConfigurationFile<Option>.read(configuration, isGiven: mustExist) {
      option, value throws(Misuse) in
      if !option.isReloaded {
        fixedSettings.add(UInt64(option.rawValue))
        value.withBytes { value in
          for index in value.indices { fixedSettings.add(UInt64(value[index])) }
        }
      }
      if !isOverridden(option) { try applySetting(option, value) }
    }
  }

  /// The key file and the commands, as command line and configuration file name them now. The server has started
  /// with the settings in `self`.
  func reread() throws(ConfigurationError<Option>) -> ServerSettings {
    var new = ServerSettings()
    new.configuration = configuration
    new.given = givenByCommandLine
    if givenByCommandLine.contains(.keyFile) { new.keyFile = keyFile }
    new.keysDirectory = keysDirectory
    if givenByCommandLine.contains(.openCommand) { new.openCommand = openCommand }
    if givenByCommandLine.contains(.closeCommand) { new.closeCommand = closeCommand }
    try new.readConfiguration()
    new.usesShell = usesShell
    return new
  }

  /// Whether the file has changed in ways that only a restart applies.
  func needsRestart(for new: ServerSettings) -> Bool {
    new.fixedSettings.value != fixedSettings.value
  }

  /// Whether the command line sets the same option, or one that excludes it.
  private func isOverridden(_ option: Option) -> Bool {
    switch option {
    case .quiet, .verbose:
      givenByCommandLine.contains(.quiet) || givenByCommandLine.contains(.verbose)
    case .nft, .ipset: givenByCommandLine.contains(.nft) || givenByCommandLine.contains(.ipset)
    default: givenByCommandLine.contains(option)
    }
  }

  private mutating func applySetting(_ option: Option, _ value: Argument) throws(Misuse) {
    if option.spec.takesValue {
      try apply(option, value)
    } else if value == "yes" {
      try apply(option, nil)
    } else if !(value == "no") {
      throw .badValue(option.spec.name, value, accepted: "yes or no")
    }
  }
}

extension ServerOption {
  /// Whether HUP applies it again.
  fileprivate var isReloaded: Bool {
    self == .keyFile || self == .openCommand || self == .closeCommand
  }
}
