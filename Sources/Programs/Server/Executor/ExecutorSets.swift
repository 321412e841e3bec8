import KnockBase
import KnockProtocol
import KnockServer
import Netfilter

/// How the executor changes the sets.
extension Executor {
  /// How many positions of grants are compared with the sets after each change. Somebody else may have emptied a set.
  static let checksAtOnce = 64
  /// The same if there is no room for another grant.
  static let checksIfFull = 4096

  mutating func openSet(for knock: Knock, _ opening: Grants.Opening) {
    let address = knock.address
    guard let set = firewall?.settings.set(for: address.family) else { return }
    let range = AddressRange(address, prefixLength: opening.prefixLength)
    let milliseconds = opening.setDuration.map { UInt64($0) / 1000 } ?? SetElement.forever
    let isOpen = changeSet(
      set, range, opening.prefixLength, by: .open(milliseconds: milliseconds), for: knock)
    if isOpen {
      let isHost = firewall?.opensOnlyHost ?? false
      return isHost ? grants.recordOnlyHost(address, opening) : ()
    }
    do throws(FirewallError.Reason) {
      if try firewall?.holds(address, in: set) == false {
        grants.recordUnchangedSet(address, opening, .absent)
      }
    } catch {
      // In a set that is gone there is nothing.
      let isGone = error == .noSet || error == .noTable
      grants.recordUnchangedSet(address, opening, isGone ? .absent : .unknown)
    }
  }

  /// Closes the sets of the grants whose close has begun, and of a knock without a grant.
  mutating func closeSets(for action: Action, _ opening: Grants.Opening?) {
    let knock = action.knock
    var isCovered = false
    while let (position, grant) = grants.nextSet(of: knock.address) {
      isCovered = isCovered || grant.set == opening?.set
      let isClosed = closeSet(
        grant.set, grant.range, Int(grant.prefixLength), isTimed: grant.isTimed, for: knock)
      grants.recordSet(at: position, isClosed: isClosed)
    }
    if let opening, opening.set != 0, !isCovered {
      _ = closeSet(
        opening.set, AddressRange(knock.address, prefixLength: opening.prefixLength),
        opening.prefixLength, isTimed: firewall?.duration(for: knock.address.family) ?? nil != nil,
        for: knock)
    }
    follow(grants.finishSets(knock.address, now: SystemClock.sinceBoot()), action)
  }

  /// Closes a range, except for what other grants need. Returns whether that was done.
  @inline(never)
  private mutating func closeSet(
    _ number: UInt16, _ range: AddressRange, _ prefixLength: Int, isTimed: Bool, for knock: Knock
  ) -> Bool {
    guard let set = set(number, knock.address.family) else {
      log.error("set not changed: \(knock): no connection to the kernel's firewall")
      return false
    }
    // Elements of ipset may overlap. In nftables one element may be for several grants.
    let onlySame = if case .ipset = set { true } else { false }
    var first = range.first
    while true {
      let need = grants.need(
        for: range, from: first, in: number, near: knock.address, onlySame: onlySame)
      let part = AddressRange(first, to: need.last, of: range)
      let change = SetChange.close(
        sparingPermanent: isTimed, leaving: milliseconds(until: need.deadline))
      guard changeSet(set, part, prefixLength, by: change, for: knock) else { return false }
      guard need.last < range.last else { return true }
      first = need.last.next
    }
  }

  private func milliseconds(until deadline: Int64?) -> UInt64 {
    guard let deadline, deadline < .max else { return deadline == nil ? 0 : SetElement.forever }
    return UInt64(max(0, deadline - SystemClock.sinceBoot()) + 999) / 1000
  }

  /// Returns whether the set is now as the change makes it.
  @inline(never)
  private mutating func changeSet(
    _ set: FirewallSet, _ range: AddressRange, _ prefixLength: Int, by change: SetChange,
    for knock: Knock
  ) -> Bool {
    do throws(FirewallError) {
      let isChanged = try firewall?.change(
        range, prefixLength: prefixLength, host: knock.address, in: set, by: change)
      setsChanged += 1
      log.debug(isChanged == true ? "set changed: \(knock)" : "set already up to date: \(knock)")
      return true
    } catch {
      setsNotChanged += 1
      log.error("set not changed: \(knock): \(error)")
      // It is not from a knock, so there is nothing to close.
      return error.reason == .permanent
    }
  }

  /// The set of a grant. Nil if there is no connection to the kernel.
  @inline(never)
  private func set(_ number: UInt16, _ family: AddressFamily) -> FirewallSet? {
    guard firewall != nil else { return nil }
    return grants.set(number, family)
  }

  /// Takes grants off the list whose address is in its set no more: somebody has removed it, or the kernel has.
  ///
  /// - Parameters:
  ///   - limit: how many positions of grants are looked at.
  ///   - end: when to stop, in microseconds since boot. At least one grant is checked.
  mutating func checkSets(limit: Int, until end: Int64) {
    // Each of them once.
    var limit = min(limit, grants.checkCount)
    while let (position, grant) = grants.nextToCheck(limit: &limit) {
      if SystemClock.sinceBoot() >= end { limit = 0 }
      guard let set = set(grant.set, grant.address.family) else { return }
      do throws(FirewallError.Reason) {
        guard try firewall?.holds(grant.address, in: set) == false else { continue }
        log.info("no longer open: \(grant.address) was removed from \(set)")
        grants.removeFromSet(at: position)
      } catch { continue }  // Closing it tells why.
    }
  }
}
