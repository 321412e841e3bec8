import KnockBase
import KnockProtocol
import Netfilter

/// Sets of ipset.
extension Firewall {
  mutating func check(_ set: IPSet) throws(FirewallError.Reason) {
    let kind = try ask { $0.getList(set) }
    try check(kind, of: set)
    guard !kind.hasMask else { throw .mask }
    guard kind.hasTimeouts || settings.seconds == nil else { throw .noTimeouts }
  }

  mutating func change(_ set: IPSet, for knock: Knock) throws(FirewallError.Reason) {
    try check(try ask { $0.getHeader(set) }, of: set)
    let prefixLength = settings.prefixLength(for: set.addresses)
    let range = AddressRange(knock.address, prefixLength: prefixLength)
    guard knock.command == .open else {
      return try send { $0.delete(range, prefixLength: prefixLength, from: set) }
    }
    do throws(FirewallError.Reason) {
      // 0 means no timeout, even if the set has a default timeout.
      let seconds = settings.seconds ?? 0
      try send { $0.add(range, prefixLength: prefixLength, to: set, seconds: seconds) }
    } catch {
      guard error == .noTimeouts, settings.seconds == nil else { throw error }
      try send { $0.add(range, prefixLength: prefixLength, to: set, seconds: nil) }
    }
  }

  private mutating func send(_ build: (inout Request) -> Void) throws(FirewallError.Reason) {
    do throws(NetfilterSocket.Failure) {
      try socket.exchange(build)
    } catch {
      switch error {
      case .system(.notFound): throw .noSet
      case .system(SystemError(number: IPSet.ErrorNumber.timeout)): throw .noTimeouts
      case .system(SystemError(number: IPSet.ErrorNumber.full)): throw .full
      default: throw .netfilter(error)
      }
    }
  }

  private func check(_ kind: IPSetKind, of set: IPSet) throws(FirewallError.Reason) {
    guard kind.holds(set.addresses) else { throw .otherType }
    guard kind.isHashNet || !settings.grantsPrefixes(for: set.addresses) else {
      throw .noIntervals
    }
  }

  private mutating func ask(_ build: (inout Request) -> Void) throws(FirewallError.Reason)
    -> IPSetKind
  {
    var kind: IPSetKind?
    do throws(NetfilterSocket.Failure) {
      try socket.exchange(build) { attributes throws(MalformedReply) in
        kind = kind == nil ? try IPSetKind(attributes: attributes) : kind
      }
    } catch {
      throw error == .system(.notFound) ? .noSet : .netfilter(error)
    }
    guard let kind else { throw .netfilter(.malformedAnswer) }
    return kind
  }
}
