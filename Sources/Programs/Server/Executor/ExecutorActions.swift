import KnockBase
import KnockProtocol
import KnockServer

/// What the executor does for knocks and for grants that expire.
extension Executor {
  /// Takes the messages of the receiver that are waiting.
  mutating func takeMessages() throws(SystemError) {
    let end = SystemClock.monotonic() + Self.turn
    repeat {
      switch try receiver.receive() {
      case .message(.knock(let knock, let user))
      where runner.hasRoom && policies.allow(knock, from: user):
        if shutdown.takesKnocks(now: SystemClock.monotonic()) {
          act(on: knock)
        } else {
          log.warning("not run, the server stops: \(knock)")
        }
      case .message(.ready) where !isReady:
        isReady = true
        manager.tellReady(now: SystemClock.monotonic())
      case .message, .invalid:
        log.error("invalid message from the receiver: killing it")
        closeReceiver()
        return killReceiver()
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

  /// Records a knock, and acts on it unless the journal is full.
  private mutating func act(on knock: Knock) {
    let now = SystemClock.sinceBoot()
    do throws(GrantKeeper.JournalFull) {
      perform(try grants.record(knock, now: now), now: now)
    } catch {
      log.warning("not opened: \(knock): \(error)")
    }
  }

  /// Closes the grants that have expired.
  mutating func closeExpired() {
    let end = SystemClock.sinceBoot() + Self.turn
    var now = end - Self.turn
    while now < end, !shutdown.isEnding, let action = grants.nextExpired(now: now) {
      log.info("expired: \(action.knock)")
      perform(action, now: now)
      now = SystemClock.sinceBoot()
    }
  }

  /// Changes the set, and has the command run. The command runs even if the set could not be changed.
  @inline(never)
  private mutating func perform(_ action: Action, now: Int64) {
    let isSetChanged = changeSet(for: action.knock)
    if !runner.hasCommands {
      // An earlier server may have left a grant of a family that there is no set for.
      let hasSet = firewall?.settings.covers(action.knock.address.family) ?? false
      if !action.isRepeat { finish(action, succeeded: isSetChanged && hasSet, now: now) }
    } else if action.isRepeat {
      log.debug("command not run again: \(action.knock)")
    } else {
      if !isSetChanged { grants.recordUnchangedSet(action) }
      runner.enqueue(action)
    }
  }

  /// Returns false if there is a set and it could not be changed.
  private mutating func changeSet(for knock: Knock) -> Bool {
    do throws(FirewallError) {
      guard let isChanged = try firewall?.apply(knock) else { return true }
      setsChanged += 1
      log.debug(isChanged ? "set changed: \(knock)" : "set already up to date: \(knock)")
      return true
    } catch {
      setsNotChanged += 1
      log.error("set not changed: \(knock): \(error)")
      return false
    }
  }

  /// Logs what happened to a command, and records it if it has ended.
  mutating func handle(_ event: CommandRunner.Event, now: Int64) {
    switch event {
    case .started(let action, let process):
      log.trace("command started: \(action.knock): process \(process.number)")
    case .notStarted(let action, let error):
      log.warning("command not started: \(action.knock): \(error)")
      finish(action, succeeded: false, now: now)
    case .empty(let action):
      log.debug("the command is empty: \(action.knock)")
      finish(action, succeeded: true, now: now)
    case .terminated(let action):
      log.warning("command timed out, sent TERM: \(action.knock)")
    case .killed(let action):
      log.warning("command still running after TERM, sent KILL: \(action.knock)")
    case .givenUp(let action):
      log.warning("command still running after KILL, no longer waiting: \(action.knock)")
      finish(action, succeeded: false, now: now)
    case .ended(let action, .exited(status: 0)):
      log.debug("command ended: \(action.knock): exit status 0")
      finish(action, succeeded: true, now: now)
    case .ended(let action, let ending):
      log.warning("command ended: \(action.knock): \(ending)")
      finish(action, succeeded: false, now: now)
    }
  }

  @inline(never)
  private mutating func finish(_ action: Action, succeeded: Bool, now: Int64) {
    switch grants.finish(action, succeeded: succeeded, now: now) {
    case .done: break
    case .runAgain where shutdown.isEnding:
      log.warning("command not run again, the server stops: \(action.knock)")
    case .runAgain: runner.enqueue(action)
    case .closeInAMinute: log.warning("not closed: \(action.knock), trying again in a minute")
    case .closeInAnHour: log.warning("not closed: \(action.knock), trying again in an hour")
    case .closeGivenUp: log.warning("not closed: \(action.knock), giving up: it may stay open")
    }
  }
}
