import KnockBase
import KnockProtocol

/// What the client does with its hosts: knocks on them, then does what it is for, and closes afterwards.
struct Call {
  let operation: ClientApplet.Operation
  /// The COMMAND, if there is one.
  let words: ArgumentList?
  /// Why not all hosts of the command line have a sender; `success` if they have.
  let failure: ExitCode

  func perform(_ senders: inout Senders) throws(ClientError) -> ExitCode {
    do throws(SystemError) {
      if senders.closes {
        return try performAndClose(&senders)
      }
      try senders.knock(operation.purpose, untilReadable: -1)
    } catch { throw .system(error) }
    return follow(&senders)
  }

  /// A child does all that can wait or fail after the first knock, and becomes COMMAND. So this process can close
  /// whatever ends the child. Signals go to the child. One that comes before there is a child ends this process,
  /// once it has closed.
  @inline(never)
  private func performAndClose(_ senders: inout Senders) throws(SystemError) -> ExitCode {
    let held = try HeldSignals()
    var ending = ChildProcess.Ending.exited(status: ExitCode.failure.rawValue)
    do throws(SystemError) {
      try senders.knock(operation.purpose, untilReadable: held.number)
      if try !poll(held.number, -1, until: 0).0 {
        guard let child = try ChildProcess.fork() else {
          held.release()
          return follow(&senders)
        }
        ending = child.guardUntilItEnds()
      }
    } catch { ClientApplet.logFailure(.system(error)) }
    try senders.close(untilReadable: held.number)
    held.release()
    switch ending {
    case .exited(let status): return ExitCode(rawValue: status)
    case .killed(let signal):
      signal.die()
      return .failure
    }
  }

  /// What comes after the first knock.
  @inline(never)
  private func follow(_ senders: inout Senders) -> ExitCode {
    var exitCode = failure
    senders.endKnock(operation.purpose) { error in
      ClientApplet.logFailure(error)
      exitCode.include(error.exitCode)
    }
    var answer = ExitCode.success
    do throws(ClientError) {
      do throws(SystemError) {
        answer = try senders.awaitAnswers(
          operation.purpose, prints: isOutputOurs, othersFailed: exitCode != .success)
        try senders.sendRest(operation.purpose, untilReadable: -1)
      } catch { throw .system(error) }
      if !senders.areKnockedOn() { exitCode.include(.failure) }
      // Without an answer, it may still be open.
      if !senders.hasFailed, exitCode == .success, !senders.onlyChecks { try finish(&senders) }
    } catch {
      ClientApplet.logFailure(error)
      exitCode.include(error.exitCode)
    }
    exitCode.include(answer)
    return exitCode
  }

  /// Does what the hosts were knocked on for.
  private func finish(_ senders: inout Senders) throws(ClientError) {
    switch operation {
    case .knock(.open):
      _ = try senders.connect()
      if let words { try become(words) }
    case .knock: break
    case .connect:
      let socket = try senders.connect()
      do throws(SystemError) {
        var relay = try Relay(socket)
        try relay.run()
      } catch { throw .connectionBroke(error) }
    }
  }

  /// Whether nothing else than answers is printed.
  private var isOutputOurs: Bool {
    if case .connect = operation { return false }
    return words == nil
  }

  private func become(_ words: ArgumentList) throws(ClientError) {
    do throws(SystemError) {
      try CurrentProcess.become(words)
    } catch { throw .commandNotRun(words[0] ?? .empty, error) }
  }
}
