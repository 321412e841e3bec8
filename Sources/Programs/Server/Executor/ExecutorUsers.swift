import KnockBase
import KnockProtocol
import KnockServer

/// How the executor changes the users while the server runs. It tells the receiver each change.
extension Executor {
  /// Sets the key and the policy of a user, who may be new. With another key, it is another user.
  ///
  /// - Throws: `sameKey`, `tooManyUsers`.
  mutating func setUser(
    _ name: UserName, _ key: borrowing KeyedMAC, _ policy: Policy
  ) throws(UserFault) {
    if let slot = users.slot(named: name), let user = users[slot] {
      guard user.key != KeyFingerprint(of: key) else {
        users.setPolicy(policy, at: slot)
        return tell(slot, key)
      }
      removeUser(at: slot)
    }
    tell(try users.insert(name, key, policy), key)
  }

  mutating func removeUser(at slot: Int) {
    guard let user = users[slot] else { return }
    users.remove(at: slot)
    tell { receiver throws(SystemError) in try receiver.send(.removeUser(user.number)) }
  }

  /// Ends a list of changes. The receiver says when it has taken them.
  mutating func tellUsers() {
    tell { receiver throws(SystemError) in try receiver.send(.usersTold) }
    untakenReloads += 1
  }

  private mutating func tell(_ slot: Int, _ key: borrowing KeyedMAC) {
    guard let user = users[slot] else { return }
    tell { receiver throws(SystemError) in try receiver.send(user, key) }
  }

  /// A receiver that does not listen may accept what it must not any more.
  private mutating func tell(
    _ send: (borrowing ReceiverProcess) throws(SystemError) -> Void
  ) {
    guard receiver.hasMessages else { return }
    do throws(SystemError) {
      try send(receiver)
    } catch {
      log.error("fatal: the receiver does not take the users: \(error)")
      closeReceiver()
      killReceiver()
    }
  }
}
