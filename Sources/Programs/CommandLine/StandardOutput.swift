import KnockBase

/// Prints what an applet was asked for, and logs if that fails.
func printToStandardOutput<Failure>(
  _ body: (inout TextOutput) throws(Failure) -> Void
) throws(Failure) -> ExitCode {
  var output = TextOutput(descriptor: 1)
  try body(&output)
  do throws(SystemError) {
    try output.finish()
    return .success
  } catch {
    log.error("standard output: \(error)")
    return .failure
  }
}

@inline(never)
func printVersion() -> ExitCode {
  printToStandardOutput { output in
    output.append("pyknock ")
    output.append(version)
    output.append("\n")
  }
}
