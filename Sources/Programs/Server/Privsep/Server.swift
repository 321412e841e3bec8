import CSystem
import KnockBase

/// The running server: two processes. An attacker who takes over the one that reads from the network cannot
/// reach files, programs or the firewall. If one process ends, so does the other.
enum Server {
  /// How long a process of a killed server may still hold its port and its lock.
  static let linger = 500 * Microseconds.millisecond

  /// Runs both processes. The executor ends the program when both have ended.
  @inline(never)
  static func run(
    receiver: consuming Receiver, executor: consuming Resident<Executor>, sandbox: Sandbox
  ) -> Never {
    var receiver = receiver
    var executor = executor
    var sandbox = sandbox
    executor.value.confine(by: &sandbox)
    let executorProcess = CurrentProcess.number
    guard let process = fork() else {
      // The executor keeps its name, so that `killall -HUP pyknock` reaches it alone.
      CurrentProcess.setName("pyknock: receiver")
      receiver.runToEnd(in: sandbox, parent: executorProcess)
      // Not reached. The compiler must not know that: it would end the values of the executor here.
      CurrentProcess.exit(.failure)
    }
    _ = consume receiver  // Closes the socket and wipes the key in this process.
    executor.value.confineAnswers(by: sandbox)
    let exitCode = CurrentProcess.orExit { () throws(SystemError) in
      try executor.value.run(receiver: process)
    }
    CurrentProcess.exit(exitCode)
  }

  @inline(never)
  private static func fork() -> ChildProcess? {
    CurrentProcess.orExit { () throws(SystemError) in try ChildProcess.fork() }
  }
}
