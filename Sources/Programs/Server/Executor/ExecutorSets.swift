import KnockBase
import KnockProtocol
import KnockServer
import Netfilter

/// How the executor changes the sets.
extension Executor {
  /// How many grants are compared with the sets after each change. Each costs as much as the change.
  static let checksAtOnce = 4
  /// The same once an address is not there. Somebody may have emptied a set.
  private static let checksIfGone = 64
  /// The same if there is no room for another grant.
  static let checksIfFull = 4096

  /// How long the kernel keeps what is opened in a set.
  mutating func setTime(_ number: UInt16, _ family: AddressFamily) -> SetTime {
    guard let set = set(number, family) else { return .forever }
    return firewall.value?.time(of: set) ?? .forever
  }

  /// Returns whether the set is as the knock wants it, if there is one.
  @inline(never)
  mutating func openSet(for action: Action, _ opening: Grants.Opening) -> Bool {
    let address = action.knock.address
    guard let set = set(opening.set, address.family) else { return opening.set == 0 }
    let range = AddressRange(address, prefixLength: opening.prefixLength)
    let milliseconds =
      grants.setTime(address, opening).map { UInt64($0) / 1000 } ?? SetElement.forever
    let isOpen = changeSet(
      set, range, opening.prefixLength, by: .open(milliseconds: milliseconds), for: action)
    if isOpen {
      let isHost = firewall.value?.opensOnlyHost ?? false
      if isHost { grants.recordOnlyHost(address, opening) }
      return true
    }
    do throws(FirewallError.Reason) {
      if try firewall.value?.holds(address, in: set) == false {
        grants.recordUnchangedSet(address, opening, .absent)
      }
    } catch {
      // In a set that is gone there is nothing.
      let isGone = error == .noSet || error == .noTable
      grants.recordUnchangedSet(address, opening, isGone ? .absent : .unknown)
    }
    return false
  }

  /// Closes the sets of the grants whose close has begun, and of the knock of an only user without a grant. Returns
  /// whether all are closed.
  @inline(never)
  mutating func closeSets(for action: Action, _ opening: Grants.Opening?) -> Bool {
    let address = action.knock.address
    var areClosed = true
    var isCovered = users.count > 1
    while let (position, grant) = grants.nextSet(of: address) {
      isCovered = isCovered || grant.set == opening?.set
      let isClosed = closeSet(
        grant.set, grant.range, Int(grant.prefixLength), isTimed: grant.isTimed, for: action)
      grants.recordSet(at: position, isClosed: isClosed)
      areClosed = isClosed && areClosed
    }
    if let opening, opening.set != 0, !isCovered {
      let isClosed = closeSet(
        opening.set, AddressRange(address, prefixLength: opening.prefixLength),
        opening.prefixLength, isTimed: setTime(opening.set, address.family).duration != nil,
        for: action)
      areClosed = isClosed && areClosed
    }
    follow(grants.finishSets(address, now: SystemClock.sinceBoot()), action)
    return areClosed
  }

  /// Closes a range, except for what other grants need. Returns whether that was done.
  @inline(never)
  mutating func closeSet(
    _ number: UInt16, _ range: AddressRange, _ prefixLength: Int, isTimed: Bool,
    for action: Action
  ) -> Bool {
    let address = action.knock.address
    guard let set = set(number, address.family) else {
      log.error("set not changed: \(action): no connection to the kernel's firewall")
      return false
    }
    // Elements of ipset may overlap. In nftables one element may be for several grants.
    let onlySame = if case .ipset = set { true } else { false }
    var first = range.first
    while true {
      let need = grants.need(
        for: range, from: first, in: number, near: address, onlySame: onlySame)
      let part = AddressRange(first, to: need.last, of: range)
      let change = SetChange.close(
        sparingPermanent: isTimed, leaving: milliseconds(until: need.deadline))
      guard changeSet(set, part, prefixLength, by: change, for: action) else { return false }
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
    for action: Action
  ) -> Bool {
    do throws(FirewallError) {
      let isChanged = try firewall.value?.change(
        range, prefixLength: prefixLength, host: action.knock.address, in: set, by: change)
      setsChanged += 1
      log.debug(isChanged == true ? "set changed: \(action)" : "set already up to date: \(action)")
      return true
    } catch {
      setsNotChanged += 1
      log.error("set not changed: \(action): \(error)")
      // It is not from a knock, so there is nothing to close.
      return error.reason == .permanent
    }
  }

  /// The set of a grant. Nil if there is no connection to the kernel.
  @inline(never)
  private func set(_ number: UInt16, _ family: AddressFamily) -> FirewallSet? {
    guard firewall.value != nil else { return nil }
    return grants.set(number, family)
  }

  /// Takes grants off the list whose address is in its set no more: somebody has removed it, or the kernel has.
  ///
  /// - Parameters:
  ///   - limit: how many grants are looked at, if their addresses are all there.
  ///   - end: when to stop, in microseconds since boot. At least one grant is checked.
  mutating func checkSets(limit: Int, until end: Int64) {
    var limit = limit
    var more = Self.checksIfGone
    // Each of them once. To look at a position costs little.
    var positions = min(grants.checkCount, max(limit, Self.checksIfFull))
    while limit > 0, let (position, grant) = grants.nextToCheck(limit: &positions) {
      limit -= 1
      if SystemClock.sinceBoot() >= end { (limit, more) = (0, 0) }
      guard let set = set(grant.set, grant.address.family) else { return }
      do throws(FirewallError.Reason) {
        guard try firewall.value?.holds(grant.address, in: set) == false else { continue }
        log.info("no longer in \(set): \(grant.address)")
        grants.removeFromSet(at: position)
        limit = max(limit, more)
        more = 0
      } catch { continue }  // Closing it tells why.
    }
  }
}
