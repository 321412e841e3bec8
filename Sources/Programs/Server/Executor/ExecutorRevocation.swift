import KnockBase
import KnockProtocol
import KnockServer

/// What the executor does about grants of users who may not have them any more.
extension Executor {
  /// Applies what users may do now to all grants, and to the knocks that wait. `closeExpired` closes and shortens them.
  ///
  /// - Parameter keepsPlace: whether grants that are in another set, or have another prefix, than their user has now
  ///   stay until they end. So a server with other options than the last one leaves what that has opened.
  mutating func reviseGrants(keepsPlace: Bool = false) {
    grants.revise(by: users, keepsPlace: keepsPlace)
    while let action = runner.dequeue(notOf: users) {
      log.warning("command not run, the user is gone: \(action)")
      if !follow(grants.drop(action, now: SystemClock.sinceBoot()), action) {
        answerAll(waitingFor: action, isDone: false)
      }
    }
  }

  /// Makes a set end a grant earlier.
  ///
  /// - Parameter rest: how long the grant still lasts (microseconds).
  @inline(never)
  mutating func shorten(_ grant: Grant, _ rest: Int64) {
    let action = Action(
      Knock(command: .open, address: grant.address), by: grant.user, grant.key, closesGrant: false,
      .never)
    log.info("shortened: \(action), \(seconds: rest) s left")
    grants.save(to: &state.value)
    guard grant.set != 0 else { return }
    _ = closeSet(
      grant.set, grant.range, Int(grant.prefixLength), isTimed: grant.isTimed, for: action)
  }
}
