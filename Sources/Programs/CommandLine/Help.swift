import KnockBase

extension AppletForm {
  @inline(never)
  func printHelp(
    _ options: OptionList, heading: (UInt8) -> Literal?
  ) -> ExitCode {
    log.begin(as: program)
    return printToStandardOutput { output in
      output.append(usage)
      output.append("\n\n")
      output.append(description)
      _ = firstOption(of: options) { option, spec in
        if let heading = heading(option) {
          output.append("\n")
          output.append(heading)
          output.append(":\n")
        }
        output.append(helpOf: spec)
        return false
      }
      output.append("\n")
      output.append(examples)
    }
  }
}

extension TextOutput {
  private static let helpColumn = 32

  /// The line of an option. A long one has its explanation in the next line.
  fileprivate mutating func append(helpOf spec: OptionSpec) {
    append("  ")
    if spec.short != 0 {
      append(byte: UInt8(ascii: "-"))
      append(byte: spec.short)
      append(", --")
    } else {
      append("    --")
    }
    append(spec.long)
    var width = 8 + spec.long.count
    if spec.takesValue {
      append(" ")
      append(spec.value)
      width += 1 + spec.value.count
    }
    if width > Self.helpColumn - 2 {
      append("\n")
      width = 0
    }
    for _ in width..<Self.helpColumn { append(" ") }
    append(spec.help)
    append("\n")
  }
}
