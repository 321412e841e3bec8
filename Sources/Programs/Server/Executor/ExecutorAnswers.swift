import KnockBase
import KnockProtocol
import KnockServer

/// What the executor answers. Without `--answer` no order wants an answer.
extension Executor {
  /// Answers an order.
  ///
  /// - Parameter seconds: how long it stays open; 0 until it is closed.
  @inline(never)
  mutating func answer(_ order: Order, _ result: UInt8, seconds: UInt32 = 0) {
    // A user who is gone has no key any more.
    guard order.reply != nil, case .user(let user) = users.user(numbered: order.user),
      user.version == 2
    else { return }
    let answer = Version2.Answer(
      result: result, seconds: seconds, time: SystemClock.wall(), address: order.knock.address)
    do throws(SystemError) {
      try answers.value?.send(answer, to: order, isShared: users.count > 1)
    } catch { log.debug("no answer to \(order)\(by: user.name): \(error)") }
  }

  /// Answers an order that was acted on. If a command does or has to do what it asks for, waits for its end.
  ///
  /// - Parameter areSetsDone: whether the sets are as the order wants them.
  @inline(never)
  mutating func answerWhenDone(
    _ order: Order, _ action: Action, _ opening: Grants.Opening, areSetsDone: Bool
  ) {
    guard order.reply != nil else { return }
    let opens = action.knock.command == .open
    // All grants of an address share one command that opens. Otherwise each action has its own.
    let number = runner.number(neededBy: action, isShared: opens && opening.closesCommand)
    let needsGrant = opens && opening.isGrant
    let waiting = Answers.Waiting(
      order: order, number: number ?? 0, needsGrant: needsGrant, areSetsDone: areSetsDone)
    guard number != nil else { return answer(waiting, isDone: true) }
    answers.value?.wait(waiting, isShared: users.count > 1)
  }

  /// Answers all who wait for an action.
  @inline(never)
  mutating func answerAll(waitingFor action: Action, isDone: Bool) {
    while let waiting = answers.value?.take(waitingFor: action) {
      answer(waiting, isDone: isDone)
    }
  }

  @inline(never)
  private mutating func answer(_ waiting: Answers.Waiting, isDone: Bool) {
    let order = waiting.order
    guard isDone, waiting.areSetsDone else { return answer(order, Version2.Answer.failed) }
    guard waiting.needsGrant, case .user(let user) = users.user(numbered: order.user) else {
      return answer(order, Version2.Answer.done)
    }
    // It may have ended meanwhile.
    guard let seconds = grants.secondsLeft(order.knock.address, of: user.name) else {
      return answer(order, Version2.Answer.failed)
    }
    answer(order, Version2.Answer.done, seconds: seconds)
  }
}
