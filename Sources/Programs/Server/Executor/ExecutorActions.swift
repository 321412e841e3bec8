import KnockBase
import KnockProtocol
import KnockServer

/// What the executor does for knocks and for grants that expire.
extension Executor {
  /// Takes the messages of the receiver that are waiting.
  @inline(never)
  mutating func takeMessages() throws(SystemError) {
    let end = SystemClock.monotonic() + Self.turn
    repeat {
      switch try receiver.receive() {
      case .message(.knock(let order)):
        guard runner.hasRoom || order.refusal != nil, take(order) else {
          return endInvalidReceiver()
        }
      case .message(.usersTold) where untakenReloads > 0: endReload()
      case .message(.ready) where !isReady:
        isReady = true
        manager.tellReady(now: SystemClock.monotonic())
      case .message, .invalid:
        return endInvalidReceiver()
      case .nothing: return
      case .end:
        closeReceiver()
        // Unless the server stops, the receiver must not close its end: it has ended, or it ends now.
        if !shutdown.hasBegun { killReceiver() }
        return
      }
      receiver.reportProgress(queued: runner.queuedCount)
    } while SystemClock.monotonic() < end
  }

  @inline(never)
  private mutating func endInvalidReceiver() {
    log.error("invalid message from the receiver: killing it")
    closeReceiver()
    killReceiver()
  }

  /// Acts on a knock if its user still may have it, or answers it if the receiver refuses it. What is dropped because
  /// the server stops, or because the user is not the one that the receiver knows, gets no answer.
  ///
  /// - Returns: false if only a receiver that an attacker has taken over passes it on. While the receiver has not heard
  ///   of all changes of users, the policy may have been another one, and the clock goes on.
  @inline(never)
  private mutating func take(_ order: Order) -> Bool {
    let knock = order.knock
    let user: User?
    switch users.user(numbered: order.user) {
    case .unknown: return false
    case .removed: user = nil
    case .user(let found): user = found
    }
    guard order.reply == nil || answers.value != nil else { return false }
    if let refusal = order.refusal {
      guard let user else { return true }
      record(order, by: user)
      answer(order, refusal.rawValue)
      return true
    }
    var refusal = user?.refusal(
      of: knock, from: order.source, seconds: order.seconds, wallNow: SystemClock.wall())
    let isCurrent = user != nil && (refusal == nil || refusal == .expiredKey)
    guard isCurrent || untakenReloads > 0 else { return false }
    // HUP may have brought a command that nothing ends.
    if order.seconds > 0, runner.canOpen, !grants.mustClose { refusal = refusal ?? .timeNotKept }
    if !shutdown.takesKnocks(now: SystemClock.monotonic()) {
      log.warning("not run, the server stops: \(order)")
    } else if let user, let refusal {
      log.warning("not run, \(refusal.reason): \(order)\(by: user.name)")
    } else if let user {
      record(order, by: user)
      act(on: order, by: user)
    } else {
      log.warning("not run, the user is gone: \(order)")
    }
    return true
  }

  private mutating func record(_ order: Order, by user: User) {
    state.value?.record(
      order.fingerprint, of: user, from: order.source, isAccepted: order.refusal == nil)
  }

  /// Records a knock, and acts on it unless there are too many grants.
  @inline(never)
  private mutating func act(on order: Order, by user: User) {
    let end = SystemClock.sinceBoot() + Self.turn
    let knock = order.knock
    let family = knock.address.family
    // A close asks only if it must know.
    let time =
      knock.command == .open ? setTime(user.policy.place(for: family).set, family) : .forever
    let opening = grants.opening(
      family, for: user, time, asked: order.seconds, hasCommands: runner.hasCommands,
      canClose: runner.canClose, wallNow: SystemClock.wall())
    let hasOthers = users.count > 1
    if hasOthers, runner.isShareUsed(by: user.name) {
      log.warning(
        """
        not run: \(order)\(by: user.name): \(CommandRunner.shareCount) commands of the user wait, all \
        that one may have: a quarter of the queue
        """)
      return answer(order, Version2.Answer.noRoom)
    }
    if order.isCheck {
      let seconds = grants.secondsIfOpened(knock.address, opening, isShared: hasOthers)
      return answer(
        order, seconds == nil ? Version2.Answer.noRoom : Version2.Answer.done,
        seconds: seconds ?? 0)
    }
    if knock.command == .open, grants.isFull { checkSets(limit: Self.checksIfFull, until: end) }
    do throws(Grants.Full) {
      let action = try grants.record(
        knock, opening, asked: order.seconds, hasOthers: hasOthers, now: SystemClock.sinceBoot())
      var areSetsDone = true
      if let action {
        areSetsDone = perform(action, opening)
      } else {
        log.info("nothing to close: \(knock)\(by: user.name)")
      }
      checkSets(limit: Self.checksAtOnce, until: end)
      guard let action else { return answer(order, Version2.Answer.done) }
      answerWhenDone(order, action, opening, areSetsDone: areSetsDone)
    } catch {
      log.warning("not opened: \(knock)\(by: user.name): \(error)")
      answer(order, Version2.Answer.noRoom)
    }
  }

  /// Closes the grants that have expired.
  @inline(never)
  mutating func closeExpired() {
    let end = SystemClock.sinceBoot() + Self.turn
    var now = end - Self.turn
    while now < end, !shutdown.isEnding {
      if let (grant, rest) = grants.shortenNext(now: now) {
        shorten(grant, rest)
      } else if let (action, isRevoked) = grants.nextExpired(now: now) {
        log.info(isRevoked ? "revoked: \(action)" : "expired: \(action)")
        _ = perform(action, nil)
      } else {
        return
      }
      checkSets(limit: Self.checksAtOnce, until: end)
      now = SystemClock.sinceBoot()
    }
  }

  /// Changes sets, and has the command run. The command runs even if a set could not be changed.
  ///
  /// - Parameter opening: what the knock opens by the settings; nil for a grant that has expired.
  /// - Returns: whether all is done, except for the command.
  @inline(never)
  private mutating func perform(_ action: Action, _ opening: Grants.Opening?) -> Bool {
    grants.save(to: &state.value)
    var isDone =
      switch (action.knock.command, opening) {
      case (.open, let opening?): openSet(for: action, opening)
      default: closeSets(for: action, opening)
      }
    switch action.run {
    case _ where !runner.hasCommands:
      if action.closesGrant { isDone = finish(action, succeeded: nil) && isDone }
    case .runs: runner.enqueue(action)
    case .repeated: log.debug("command not run again: \(action)")
    case .openAlready: log.info("open already: \(action)")
    case .never: break
    }
    return isDone
  }

  /// Logs what happened to a command, and records it if it has ended.
  @inline(never)
  mutating func handle(_ event: CommandRunner.Event) {
    let action = event.action
    var succeeded: Bool? = false
    switch event.change {
    case .started(let process):
      return log.trace("command started: \(action): process \(process.number)")
    case .terminated: return log.warning("command timed out, sent TERM: \(action)")
    case .killed:
      return log.warning("command still running after TERM, sent KILL: \(action)")
    case .notStarted(let error): log.warning("command not started: \(action): \(error)")
    case .empty:
      log.debug("the command is empty: \(action)")
      succeeded = nil
    case .givenUp:
      log.warning("command still running after KILL, no longer waiting: \(action)")
    case .ended(.exited(status: 0)):
      log.debug("command ended: \(action): exit status 0")
      succeeded = true
    case .ended(let ending): log.warning("command ended: \(action): \(ending)")
    }
    _ = finish(action, succeeded: succeeded)
  }

  /// Returns whether it is done.
  @inline(never)
  private mutating func finish(_ action: Action, succeeded: Bool?) -> Bool {
    let now = SystemClock.sinceBoot()
    let outcome = grants.finish(action, succeeded: succeeded, now: now)
    let isDone = outcome == .done && succeeded != false
    if !follow(outcome, action) { answerAll(waitingFor: action, isDone: isDone) }
    return isDone
  }

  /// Logs what follows, and has the command run again if that follows. Returns whether it does.
  @discardableResult
  mutating func follow(_ outcome: GrantKeeper.Outcome, _ action: Action) -> Bool {
    switch outcome {
    case .done: break
    case .runAgain where shutdown.isEnding, .runForSharer where shutdown.isEnding:
      log.warning("command not run again, the server stops: \(action)")
    case .runAgain:
      runner.enqueue(action)
      return true
    case .runForSharer:
      runner.enqueue(grants.actionOfSharer(action))
      return true
    case .closeInAMinute: log.warning("not closed: \(action), trying again in a minute")
    case .closeInAnHour: log.warning("not closed: \(action), trying again in an hour")
    case .closeEndedUnopened:
      log.warning("not closed: \(action), giving up: opening it had failed, too")
    }
    return false
  }
}

extension Message.Parts {
  /// `open 192.0.2.1`, or `check 192.0.2.1`.
  @inline(never)
  mutating func appendInterpolation(_ order: Order) {
    if order.isCheck {
      appendInterpolation("check \(order.knock.address)" as Message)
    } else {
      appendInterpolation(order.knock)
    }
  }

  /// `open 192.0.2.1 by alice`.
  @inline(never)
  mutating func appendInterpolation(_ action: Action) {
    appendInterpolation(action.knock)
    appendInterpolation(by: action.user)
  }
}
