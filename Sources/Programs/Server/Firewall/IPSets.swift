import KnockBase
import KnockProtocol
import Netfilter

/// Sets of ipset.
extension Firewall {
  mutating func inspect(_ set: IPSet) throws(FirewallError.Reason) -> IPSetKind {
    var kind: IPSetKind?
    try send {
      $0.getHeader(set)
    } visit: { attributes throws(MalformedReply) in
      kind = kind == nil ? try IPSetKind(attributes: attributes) : kind
    }
    guard let kind else { throw .netfilter(.malformedAnswer) }
    guard kind.holds(set.addresses) else { throw .otherType }
    guard !kind.hasMask else { throw .mask }
    return kind
  }

  mutating func change(
    _ range: AddressRange, prefixLength: Int, in set: IPSet, by change: SetChange
  ) throws(FirewallError.Reason) -> Bool {
    let isPrefix = prefixLength < set.addresses.addressBits
    let kind: IPSetKind
    if case .open = change, let known = ipsetAnswer.take() {
      kind = known
    } else {
      kind = try inspect(set)
    }
    if case .open(let milliseconds) = change {
      try kind.check(hasTime: milliseconds < SetElement.forever, isPrefix: isPrefix)
    } else if isPrefix, !kind.isHashNet {
      return false  // It cannot be in such a set.
    }
    let rest = try time(of: range, prefixLength, in: set, kind)
    let time = change.time(after: rest)
    guard let time else {
      if rest != nil { try send { $0.delete(range, prefixLength: prefixLength, from: set) } }
      return rest != nil
    }
    guard time != rest, rest == nil || kind.defaultTimeout != nil else {
      if case .close(_, leaving: 0) = change, rest == SetElement.forever { throw .permanent }
      return false
    }
    // 0 means no timeout, even if the set has a default timeout. Right before a user expires, the time may be 0.
    let seconds = time == SetElement.forever ? 0 : max(1, Int64((time + 999) / 1000))
    try send {
      $0.add(
        range, prefixLength: prefixLength, to: set,
        seconds: kind.defaultTimeout == nil ? nil : seconds)
    }
    return true
  }

  /// How long the set will hold a prefix, in milliseconds; nil if it does not.
  private mutating func time(
    of range: AddressRange, _ prefixLength: Int, in set: IPSet, _ kind: IPSetKind
  ) throws(FirewallError.Reason) -> UInt64? {
    guard try test(range, prefixLength: prefixLength, in: set) else { return nil }
    guard kind.defaultTimeout != nil else { return SetElement.forever }
    // Only a list of all elements tells their times.
    var time: UInt64?
    try send {
      $0.getElements(set)
    } visit: { attributes throws(MalformedReply) in
      try attributes.visitElements(of: range.family) {
        if $0.first == range.first, $0.last == range.last { time = $0.milliseconds }
      }
    }
    return time
  }

  mutating func test(
    _ range: AddressRange, prefixLength: Int, in set: IPSet
  ) throws(FirewallError.Reason) -> Bool {
    do throws(FirewallError.Reason) {
      try send { $0.test(range, prefixLength: prefixLength, of: set) }
      return true
    } catch {
      guard error == .system(SystemError(number: IPSet.ErrorNumber.exist)) else { throw error }
      return false
    }
  }

  @inline(__always)
  private mutating func send(
    _ build: (inout Request) -> Void,
    visit: (Span<UInt8>) throws(MalformedReply) -> Void = { _ throws(MalformedReply) in }
  ) throws(FirewallError.Reason) {
    do throws(NetfilterSocket.Failure) {
      try socket.exchange(build, visit: visit)
    } catch { throw Self.reason(error) }
  }

  @inline(never)
  private static func reason(_ error: NetfilterSocket.Failure) -> FirewallError.Reason {
    switch error {
    case .system(.notFound): .noSet
    case .system(SystemError(number: IPSet.ErrorNumber.timeout)): .noTimeouts
    case .system(SystemError(number: IPSet.ErrorNumber.full)): .full
    default: .netfilter(error)
    }
  }
}

extension IPSetKind {
  /// Whether what is opened has a time, and whether it is more than a single address.
  func check(hasTime: Bool, isPrefix: Bool) throws(FirewallError.Reason) {
    guard defaultTimeout != nil || !hasTime else { throw .noTimeouts }
    guard isHashNet || !isPrefix else { throw .noIntervals }
  }
}
