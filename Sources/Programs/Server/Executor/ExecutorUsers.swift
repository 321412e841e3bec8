import KnockBase
import KnockProtocol
import KnockServer

/// How the executor changes the users while the server runs.
extension Executor {
  /// Gives a user another key. For all else that is another user.
  mutating func replaceKey(
    of name: UserName, by key: borrowing KeyedMAC
  ) throws(SystemError) {
    let fingerprint = KeyFingerprint(of: key)
    guard let slot = users.slot(named: name), let user = users[slot], user.key != fingerprint else {
      return
    }
    try removeUser(user)
    try addUser(name, key, fingerprint, user.policy)
    try tellUsers()
  }

  mutating func removeUser(_ user: User) throws(SystemError) {
    users.remove(at: user.slot)
    try receiver.send(.removeUser(user.number))
  }

  /// Adds a user whose name and key nobody has.
  mutating func addUser(
    _ name: UserName, _ key: borrowing KeyedMAC, _ fingerprint: KeyFingerprint, _ policy: Policy
  ) throws(SystemError) {
    guard let slot = users.insert(name, key: fingerprint, policy), let user = users[slot] else {
      throw .outOfMemory
    }
    try receiver.send(user, key)
  }

  /// Ends a list of changes.
  mutating func tellUsers() throws(SystemError) {
    try receiver.send(.usersTold)
    untakenReloads += 1
  }
}
