import KnockBase
import KnockProtocol
import Netfilter

/// Changes of the sets of nftables.
extension Firewall {
  /// How often a change is tried if elements come or go meanwhile: one may expire just now.
  private static let attempts = 8
  /// How long a change is tried if somebody else changes the rules meanwhile.
  private static let patience = 2 * Microseconds.second

  mutating func change(
    _ range: AddressRange, host: Address, in set: NftSet, by change: SetChange
  ) throws(FirewallError.Reason) -> Bool {
    let deadline = SystemClock.monotonic() + Self.patience
    opensOnlyHost = false
    do throws(FirewallError.Reason) {
      return try self.change(range, in: set, by: change, until: deadline)
    } catch {
      guard error == .tooMany else { throw error }
      // At most one element holds the address itself.
      let alone = AddressRange(host, prefixLength: set.addresses.addressBits)
      let isChanged = try self.change(alone, in: set, by: change, until: deadline)
      guard case .open = change else { throw error }
      opensOnlyHost = true
      return isChanged
    }
  }

  private mutating func change(
    _ range: AddressRange, in set: NftSet, by change: SetChange, until deadline: Int64
  ) throws(FirewallError.Reason) -> Bool {
    var (failures, tries) = (0, 0)
    while true {
      tries += 1
      do throws(FirewallError.Reason) {
        return try tryToChange(range, in: set, by: change, readsAll: failures > 0)
      } catch {
        switch error {
        case .netfilter(.changed), .system(.restart): break
        case .system(.notFound), .system(.exists):
          failures += 1
          guard failures < Self.attempts else { throw error }
        case .system(.tooManyFiles): throw .full
        case .tooMany:
          // A close must leave nothing of the range open.
          guard case .close = change, SystemClock.monotonic() < deadline else { throw error }
          let middle = range.first.middle(to: range.last)
          let lower = AddressRange(range.first, to: middle, of: range)
          let upper = AddressRange(middle.next, to: range.last, of: range)
          let isLowerChanged = try self.change(lower, in: set, by: change, until: deadline)
          let isUpperChanged = try self.change(upper, in: set, by: change, until: deadline)
          return isLowerChanged || isUpperChanged
        // Reading was permitted.
        case .system(.notPermitted): throw try isOwned(set.table) ? .ownedTable : error
        default: throw error
        }
        // Time may also pass because this process is paused.
        guard tries < Self.attempts || SystemClock.monotonic() < deadline else {
          throw .netfilter(.changed)
        }
      }
    }
  }

  @inline(never)
  private mutating func tryToChange(
    _ range: AddressRange, in set: NftSet, by change: SetChange, readsAll: Bool
  ) throws(FirewallError.Reason) -> Bool {
    // If anything has changed since `duration` asked, the kernel refuses the number of the transaction.
    let answer: NftAnswer
    if case .open = change, let known = nftAnswer.take() {
      answer = known
    } else {
      answer = try inspect(set)
    }
    let (kind, generation) = answer
    let isPrefix = range.first < range.last
    let isClose: Bool
    switch change {
    case .open(let milliseconds):
      isClose = false
      try kind.check(hasTime: milliseconds < SetElement.forever, isPrefix: isPrefix)
    case .close(_, let milliseconds):
      isClose = milliseconds == 0
      // A range cannot be in a set of addresses, and without timeouts nothing can last shorter.
      if isPrefix && !kind.hasIntervals || milliseconds > 0 && !kind.hasTimeouts { return false }
    }
    if kind.hasIntervals {
      // A single address overlaps with one element at most.
      guard try readOverlaps(with: range, of: set, readsAll: readsAll) || !isPrefix else {
        throw .tooMany
      }
      guard !intervals.isAlreadyDone(change) else {
        if isClose, intervals.isPermanent { throw .permanent }
        return false
      }
      try replaceIntervals(
        of: set, by: change, hasTimeouts: kind.hasTimeouts, generation: generation)
    } else {
      let rest = try boundary(at: range.first, of: set)?.milliseconds
      let time = change.time(after: rest)
      guard time != rest else {
        if isClose, rest == SetElement.forever { throw .permanent }
        return false
      }
      try replace(
        range.first, of: set, isThere: rest != nil, hasTimeouts: kind.hasTimeouts, time,
        generation: generation)
    }
    return true
  }

  /// Deletes an element if it exists, and adds it again with its new timeout. One transaction does both, so there
  /// is no moment without it.
  @inline(never)
  private mutating func replace(
    _ address: AddressNumber, of set: NftSet, isThere: Bool, hasTimeouts: Bool, _ time: UInt64?,
    generation: UInt32
  ) throws(FirewallError.Reason) {
    do throws(NetfilterSocket.Failure) {
      try socket.exchange { request in
        request.transaction(generation: generation) { request in
          if isThere {
            request.delete(from: set) { $0.host(address, in: set, timeout: nil) }
          }
          if let time {
            let timeout = hasTimeouts ? Self.timeout(time) : nil
            request.add(to: set) { $0.host(address, in: set, timeout: timeout) }
          }
        }
      }
    } catch { throw .netfilter(error) }
  }

  @inline(never)
  private mutating func replaceIntervals(
    of set: NftSet, by change: SetChange, hasTimeouts: Bool, generation: UInt32
  ) throws(FirewallError.Reason) {
    do throws(NetfilterSocket.Failure) {
      try Self.replace(
        intervals, of: set, by: change, hasTimeouts: hasTimeouts, generation: generation,
        through: &socket)
    } catch { throw .netfilter(error) }
  }

  private static func replace(
    _ intervals: borrowing IntervalChange, of set: NftSet, by change: SetChange,
    hasTimeouts: Bool, generation: UInt32, through socket: inout NetfilterSocket
  ) throws(NetfilterSocket.Failure) {
    try socket.exchange { request in
      request.transaction(generation: generation) { request in
        // A message without elements would delete all of them.
        if intervals.overlapCount > 0 {
          request.delete(from: set) { request in
            intervals.visitOverlaps { request.interval($0, in: set, timeout: nil) }
          }
        }
        if intervals.replacementCount(by: change) > 0 {
          request.add(to: set) { request in
            intervals.visitReplacements(by: change) {
              let timeout = hasTimeouts ? timeout($0.milliseconds) : nil
              request.interval($0, in: set, timeout: timeout)
            }
          }
        }
      }
    }
  }

  /// To the kernel, 0 means no timeout, even if the set has a default timeout. Before Linux 6.12, it rounded less than
  /// a tick of its clock (10 ms at most) to 0.
  private static func timeout(_ milliseconds: UInt64) -> UInt64 {
    milliseconds == SetElement.forever ? 0 : max(milliseconds, 10)
  }
}
