import KnockBase
import KnockServer

extension ServerSettings {
  /// Logs what is most likely a mistake in the commands.
  func logCommandWarnings(_ operands: Operands) {
    logWarnings(about: operands[0], openCommand, "OPEN_CMD", given: .openCommand)
    logWarnings(about: operands[1], closeCommand, "CLOSE_CMD", given: .closeCommand)
  }

  private func logWarnings(
    about operand: Argument?, _ setting: Argument?, _ name: Literal, given option: Option
  ) {
    guard let text = operand ?? setting else { return }
    if !usesShell, let syntax = text.withBytes({ ShellSyntax.first(in: $0) }) {
      log.warning(
        """
        warning: \(name) has \(character: syntax), which only a shell understands: put it in single \
        quotes (') inside the command, or leave out --no-shell
        """
      )
    }
    // A program without arguments takes the address from its environment.
    guard text.withBytes({ $0.firstIndex(of: UInt8(ascii: " ")) != nil }),
      !text.withBytes({ Template.namesAddress($0) || $0.contains("PYKNOCK_IP") })
    else { return }
    if operand != nil || givenByCommandLine.contains(option) {
      log.warning(
        """
        warning: \(name) has no $ip: put the command in single quotes ('), because in double quotes \
        (") the shell replaces $ip
        """
      )
    } else {
      log.warning("warning: \(name) has no $ip, so it is the same for each address")
    }
  }
}

extension Message.Parts {
  fileprivate mutating func appendInterpolation(character: UInt8) {
    write { $0.append(byte: character) }
  }
}
