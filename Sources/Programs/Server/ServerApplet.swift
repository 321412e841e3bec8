import KnockBase

/// `pyknock server`: checks its settings, takes what it needs from the system, and runs the server.
enum ServerApplet: Applet {
  static var program: Literal { "pyknock server" }
  static var usage: Literal {
    """
    usage: pyknock server [OPTION]... (-k FILE | -f FILE | PSK) [OPEN_CMD CLOSE_CMD]
           pyknock server [OPTION]... --keys DIR [OPEN_CMD CLOSE_CMD]
           pyknock server --example nft|ipset|docker [--hide PORT,...] [-p PORT]
    """
  }
  static var description: Literal {
    """
    Waits for knocks on a UDP port. For each one that is signed with the key, fresh
    and new, it changes a set of the kernel's firewall, or runs a command, or both.
    In a command, $ip, $af and $cmd are the address, inet or inet6, and open or
    close. A DURATION is 90 (seconds), 15m, 2h or 1d.

    """
  }
  static var examples: Literal {
    """
    Examples:
      pyknock server --example nft --hide 22
      pyknock server -k knock.key --state /var/lib/pyknock \\
        --nft inet/pyknock/knock4,knock6 --ttl 1h

    Signals: USR1 logs the counters, HUP reads the key and the commands again, TERM
    stops the server. See pyknock-server(8).

    """
  }
  static func operandMisuse(
    _ settings: ServerSettings, _ operands: Operands, withKey: Bool
  ) -> Misuse {
    if withKey, operands.count == 0, operandCount(settings, operands, given: 0) == 0 {
      return .operands(
        "no key: write -k FILE or --keys DIR, or the same in the file of -f", given: 0)
    }
    if settings.keysDirectory != nil, operands.count == 0 {
      return .operands(
        "add --nft, --ipset or 'OPEN_CMD' 'CLOSE_CMD', also if each user has sets", given: 0)
    }
    return .operands(
      withKey && settings.keysDirectory == nil
        ? "write -k FILE or PSK, and --nft, --ipset or 'OPEN_CMD' 'CLOSE_CMD', each in single quotes"
        : "add --nft, --ipset or 'OPEN_CMD' 'CLOSE_CMD', each in single quotes",
      given: operands.count)
  }
  /// The commands are optional if there are sets, or if the configuration file has commands.
  static func operandCount(
    _ settings: ServerSettings, _ operands: Operands, given: Int
  ) -> Int {
    let hasWork =
      settings.firewall.sets != nil || settings.openCommand != nil || settings.closeCommand != nil
    return hasWork && given <= 0 ? 0 : 2
  }
  /// With --keys there may be none, and the commands are two.
  static func keyOperand(_ settings: ServerSettings, _ operands: Operands) -> Int? {
    settings.keysDirectory != nil && operands.count % 2 == 0 ? nil : 0
  }

  static func printInstead(_ settings: ServerSettings) -> ExitCode? {
    guard let example = settings.example else { return nil }
    let rules = FirewallRules(
      example: example, port: settings.port, seconds: settings.firewall.seconds,
      inetLength: settings.firewall.prefixLength(for: .inet),
      inet6Length: settings.firewall.prefixLength(for: .inet6),
      hidden: settings.hiddenPorts.map { PortList($0) })
    return printToStandardOutput { rules.write(to: &$0) }
  }

  static func run(_ settings: ServerSettings, _ operands: Operands, keySource: KeySource?)
    -> ExitCode
  {
    if keySource == nil, operands.count == 0 { log.showsArguments = true }
    log.verbosity = settings.verbosity
    if settings.logsAsJSON { log.useJSON() }
    serve(settings, operands, keySource)
  }
}
