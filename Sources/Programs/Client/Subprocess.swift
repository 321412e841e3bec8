import KnockBase

/// Runs the user's COMMAND as a shell would: with our standard streams, in our process group.
enum Subprocess {
  /// Waits for the end of the command. Signals that would stop us go to the command instead, so that
  /// we are still there to close again.
  ///
  /// - Returns: the exit status of the command, or 128 + the number of the signal that killed it.
  /// - Throws: why it cannot be run.
  static func run(_ words: ArgumentList) throws(SystemError) -> ExitCode {
    // The terminal sends QUIT and INT to the command, too.
    Signal.quit.ignore()
    let signals = try Signals()
    let process = try unsafe ChildProcess(
      starting: words.pointers, environment: ArgumentList.environment().pointers,
      inOwnGroup: false)
    while true {
      _ = try poll(signals.number, -1, until: .max)
      while let event = try signals.next() {
        switch event {
        case .childEnded:
          while let ended = try ChildProcess.ended() {
            let ending = ended.reap()
            if ended == process { return exitCode(for: ending) }
          }
        case .stop(.interrupt), .printCounters: break
        case .stop(let signal): process.send(signal)
        }
      }
    }
  }

  private static func exitCode(for ending: ChildProcess.Ending) -> ExitCode {
    switch ending {
    case .exited(let status): ExitCode(rawValue: status)
    case .killed(let signal): ExitCode(rawValue: 128 + signal.number)
    }
  }
}
