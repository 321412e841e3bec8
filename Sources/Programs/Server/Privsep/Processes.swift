import CSystem

/// The server as it runs: two processes, so that who takes over the one that reads from the network has
/// neither files nor programs nor the firewall. If either ends, so does the other.
enum Server {
  /// Returns, in the executor, when both have ended.
  ///
  /// - Parameter start: the line to write once all is in place.
  /// - Throws: what fork(2) does, and `Executor.run`.
  static func run(
    receiver: consuming Receiver, executor: consuming Executor, sandbox: Sandbox,
    start: consuming Line?, report: Report
  ) throws(SystemError) -> ExitCode {
    // Before there is another root directory or user.
    _ = csys_log_descriptor()
    var receiver = receiver
    var sandbox = sandbox
    do throws(Sandbox.Failure) {
      try executor.confine(by: &sandbox)
    } catch {
      error.write(to: report)
      return .failure
    }
    let executorProcess = getpid()
    let process = try SystemError.check(csys_fork())
    if process == 0 {
      receiver.runToEnd(in: sandbox, parent: executorProcess, start: start)
      return .failure  // It has ended the process.
    }
    // Its socket is closed and the key wiped here.
    _ = consume receiver
    return try executor.run(receiverProcess: process)
  }
}
