import KnockBase
import KnockProtocol
import KnockServer

/// How the executor changes the users while the server runs. It tells the receiver each change.
extension Executor {
  /// Sets the key and the policy of a user, who may be new. With another key, it is another user.
  ///
  /// - Throws: `sameKey`, `otherServer`, `tooManyKeys`, `tooManyUsers`.
  @inline(never)
  mutating func setUser(
    _ name: UserName, _ key: borrowing KeyedMAC, _ policy: Policy
  ) throws(UserFault) {
    if let slot = users.slot(named: name), let user = users[slot] {
      guard user.key != key.fingerprint else {
        users.setPolicy(policy, at: slot)
        return tell(slot, key)
      }
      // Otherwise the user would be gone after an error.
      try users.check(key, replacing: slot)
      removeUser(at: slot)
    }
    tell(try users.insert(name, key, policy), key)
  }

  /// Warns if HUP could not read the users again, now that the privileges are dropped.
  @inline(never)
  mutating func checkUsers() {
    do throws(UserFileError) {
      try directory?.begin()
      if let name = try directory?.next() {
        _ = try directory?.read(name, setNames, &firewall.value)
      }
    } catch {
      log.warning("warning: HUP cannot read the users again, only a restart can: \(error)")
    }
    directory?.end()
  }

  /// Reads the directory of the users again. Each file stands alone. Returns whether all were good.
  @inline(never)
  mutating func reloadUsers() -> Bool {
    guard directory != nil else { return true }
    directory?.opensByCommand = runner.canOpen
    for index in 0..<seen.count { seen[index] = 0 }
    // The key of somebody who is gone is free for another user only then.
    var pass = Pass()
    var areGood = reload(present: true, &pass)
    // If some names were not read, nobody knows who is gone.
    if directory?.isListCut == false {
      areGood = removeUnseenUsers(&pass) && areGood
      if pass.moverCount > 0 {
        pass.isLast = true
        pass.mayMove = !pass.isMixed && pass.moverCount == users.count - users.version1Count
        areGood = reload(present: true, &pass) && areGood
      }
      areGood = reload(present: false, &pass) && areGood
    }
    directory?.end()
    if users.count == 0 { directory?.logNoUsers() }
    return areGood
  }

  /// How the users who are there are read.
  private struct Pass {
    /// Users whose new keys are for another server than those of others. They wait for the last pass.
    var moverCount = 0
    /// Whether they are for more than one.
    var isMixed = false
    var server: UInt64 = 0
    var isLast = false
    /// Whether all keys of version 2 are for one other server now.
    var mayMove = false
  }

  /// Reads the files of those who are users already, or of the others. Logs what is wrong, and returns false then.
  private mutating func reload(present: Bool, _ pass: inout Pass) -> Bool {
    var isGood = true
    do throws(UserFileError) {
      try directory?.begin()
      while true {
        var isNamed = false
        do throws(UserFileError) {
          guard let name = try directory?.next() else { return isGood }
          isNamed = true
          let slot = users.slot(named: name)
          if let slot { seen[slot / 64] |= 1 << UInt64(slot % 64) }
          if present == (slot != nil) { try reload(name, slot, &pass) }
        } catch {
          // A name that no user can have was logged with those who are present.
          if isNamed || present { error.logError() }
          isGood = false
        }
      }
    } catch {
      error.logError()
      return false
    }
  }

  @inline(never)
  private mutating func reload(
    _ name: UserName, _ slot: Int?, _ pass: inout Pass
  ) throws(UserFileError) {
    // A slow disk may need long for all files.
    feedWatchdog(now: SystemClock.monotonic())
    guard let file = try directory?.read(name, setNames, &firewall.value) else { return }
    do throws(UserFault) { try apply(file, slot, &pass) } catch { throw file.error(error) }
  }

  private mutating func apply(
    _ file: borrowing UserFile, _ slot: Int?, _ pass: inout Pass
  ) throws(UserFault) {
    let name = file.path.name
    if let slot, let user = users[slot] {
      if user.key != file.key.expanded.fingerprint {
        guard try mayReplaceKey(at: slot, by: file.key.expanded, &pass) else { return }
        log.info("user removed, the key is another one: \(name)")
        removeUser(at: slot)
      } else if !user.policy.equals(file.policy) {
        log.info("user changed: \(name)")
        users.setPolicy(file.policy, at: slot)
        tell(slot, file.key.expanded)
      }
      return
    }
    try setUser(name, file.key.expanded, file.policy)
    log.info("user added: \(name)")
    file.logWarnings()
  }

  /// Whether the key of a user can be replaced now. If it is for another server than those of others, or has no room, the
  /// user stays as before: with the old key removed and the new one refused, the user would be out.
  @inline(never)
  private mutating func mayReplaceKey(
    at slot: Int, by key: borrowing KeyedMAC, _ pass: inout Pass
  ) throws(UserFault) -> Bool {
    try users.checkRoom(for: key, replacing: slot)
    guard !pass.mayMove, let other = users.userOfOtherServer(than: key, replacing: slot) else {
      return true
    }
    guard !pass.isLast else { throw .otherServer(than: other.name) }
    let server = key.fingerprint.high
    pass.isMixed = pass.isMixed || pass.moverCount > 0 && pass.server != server
    pass.server = server
    pass.moverCount += 1
    return false
  }

  /// Removes the users who are gone. A list may lack a file that is replaced meanwhile, so each is looked for by its
  /// name. Logs what is wrong, and returns false then.
  private mutating func removeUnseenUsers(_ pass: inout Pass) -> Bool {
    // The directory may have been replaced, too.
    do throws(UserFileError) { try directory?.begin() } catch { return false }
    var isGood = true
    for slot in 0..<users.usedCount where seen[slot / 64] >> UInt64(slot % 64) & 1 == 0 {
      guard let user = users[slot], !user.name.isEmpty else { continue }
      do throws(UserFileError) {
        try reload(user.name, slot, &pass)
      } catch {
        if case .system(.notFound) = error.fault {
          log.info("user removed: \(user.name)")
          removeUser(at: slot)
        } else {
          error.logError()
          isGood = false
        }
      }
    }
    return isGood
  }

  @inline(never)
  mutating func removeUser(at slot: Int) {
    guard let user = users[slot] else { return }
    users.remove(at: slot)
    state.value?.forgetKnock(at: slot)
    answers.value?.keys.remove(slot: slot)
    tell(.removeUser(user.number))
  }

  /// Ends a list of changes. The receiver says when it has taken them.
  mutating func tellUsers() {
    tell(.usersTold)
    untakenReloads += 1
  }

  @inline(never)
  private mutating func tell(_ slot: Int, _ key: borrowing KeyedMAC) {
    guard let user = users[slot] else { return }
    answers.value?.keys.put(key, slot: slot)
    tell { (receiver: inout ReceiverProcess) throws(SystemError) in try receiver.send(user, key) }
  }

  private mutating func tell(_ message: PrivsepMessage) {
    tell { (receiver: inout ReceiverProcess) throws(SystemError) in try receiver.send(message) }
  }

  /// Tells the receiver something. If that fails, kills the receiver: it may accept knocks of users who are gone.
  private mutating func tell(
    _ send: (inout ReceiverProcess) throws(SystemError) -> Void
  ) {
    guard receiver.hasMessages else { return }
    do throws(SystemError) {
      try send(&receiver)
    } catch {
      log.error("fatal: the receiver does not take the users: \(error)")
      closeReceiver()
      killReceiver()
    }
  }
}
