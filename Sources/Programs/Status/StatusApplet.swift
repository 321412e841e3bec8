import KnockBase

/// `pyknock status`: whether the server runs, and what is open. It changes nothing.
enum StatusApplet: Applet {
  static var program: Literal { "pyknock status" }
  static var usage: Literal {
    """
    usage: pyknock status [-f FILE] [--users] [--json]
           pyknock status [--keys DIR] [--state DIR] [--nft SETS | --ipset SETS]
                          [--users] [--json]
    """
  }
  static var description: Literal {
    """
    Prints whether the server runs, and which addresses are open, for whom, and
    until when. If no option names settings of the server, it reads those in
    /etc/pyknock/server.conf.

    """
  }
  static var examples: Literal {
    """
    Examples:
      pyknock status
      pyknock status --state /var/lib/pyknock --json

    Exit status: 0 if the server runs, 3 if not, 4 if that is not known, and 1 if
    something cannot be read. See pyknock-status(8).

    """
  }
  static func operandMisuse(_: StatusSettings, _ operands: Operands, withKey: Bool) -> Misuse {
    .operands("write only options", given: operands.count)
  }
  static func operandCount(_: StatusSettings, _: Operands, given: Int) -> Int { 0 }
  static func keyOperand(_: StatusSettings, _: Operands) -> Int? { nil }

  static func run(_ settings: StatusSettings, _: Operands, keySource: KeySource?) -> ExitCode {
    guard settings.server.stateDirectory != nil || settings.server.firewall.sets != nil else {
      return fail(
        .unsuitableOperand(
          "the server's settings",
          "no state and no sets: write -f FILE, --state, --nft or --ipset, or make /etc/pyknock/server.conf"
        )
      )
    }
    do throws(StateFailure) {
      var status = try Status(settings.server)
      let printed = try printToStandardOutput { output throws(StateFailure) in
        try status.print(withUsers: settings.printsUsers, asJSON: settings.printsJSON, to: &output)
      }
      return printed == .success ? status.exitCode : printed
    } catch {
      log.error("\(error)")
      return .failure
    }
  }
}
