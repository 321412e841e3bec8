import KnockBase

/// Prints what an applet was asked for, and logs if that fails.
func printToStandardOutput(_ body: (inout TextOutput) -> Void) -> ExitCode {
  var output = TextOutput(descriptor: 1)
  body(&output)
  do throws(SystemError) {
    try output.finish()
    return .success
  } catch {
    log.error("standard output: \(error)")
    return .failure
  }
}

func printVersion() -> ExitCode {
  printToStandardOutput { output in
    output.append("pyknock ")
    output.append(version)
    output.append("\n")
  }
}
