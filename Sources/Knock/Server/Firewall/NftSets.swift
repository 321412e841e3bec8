import CSystem
import KnockProtocol
import Netfilter

/// Sets of nftables.
extension Firewall {
  /// How often a change is tried that fails since somebody else changes the rules, or since an
  /// element's time is over.
  private static let attempts = 8

  mutating func change(_ set: NftSet, for knock: Knock) throws(Failure) {
    var attempt = 1
    while true {
      do throws(Failure) {
        return try tryToChange(set, for: knock)
      } catch {
        switch error {
        case .netfilter(.changed), .system(ERESTART), .system(ENOENT), .system(EEXIST):
          guard attempt < Self.attempts else { throw error }
        case .system(ENFILE): throw .full
        default: throw error
        }
      }
      attempt += 1
    }
  }

  private mutating func tryToChange(_ set: NftSet, for knock: Knock) throws(Failure) {
    let (kind, generation) = try inspect(set)
    let milliseconds: UInt64? =
      switch knock.command {
      case .open: settings.seconds.map { UInt64($0) * 1000 } ?? SetElement.forever
      case .close: nil
      }
    let prefix = AddressRange(
      knock.address, prefixLength: settings.prefixLength(for: set.addresses))
    guard kind.hasIntervals else {
      guard let milliseconds else { return try delete(prefix.first, from: set, generation) }
      let timeout = kind.hasTimeouts ? Self.timeout(milliseconds) : nil
      return try add(prefix.first, to: set, timeout: timeout, generation)
    }
    try Self.read(set, around: prefix, &socket, into: &intervals)
    if intervals.isTooFull {
      // Too many elements to put in order. The address itself overlaps with one at most.
      let host = AddressRange(knock.address, prefixLength: set.addresses.addressBits)
      try Self.read(set, around: host, &socket, into: &intervals)
    }
    guard !intervals.changesNothing(openFor: milliseconds) else { return }
    try Self.change(
      set, intervals, openFor: milliseconds, hasTimeouts: kind.hasTimeouts, generation, &socket)
  }

  /// What a set is, and the number of the transaction after which it was so.
  mutating func inspect(
    _ set: NftSet
  ) throws(Failure) -> (kind: NftSetKind, generation: UInt32) {
    var generation: UInt32?
    var kind: NftSetKind?
    do throws(NetfilterSocket.Failure) {
      try socket.exchange {
        $0.getGeneration()
      } visit: { attributes throws(MalformedReply) in
        generation = try attributes.generation()
      }
      try socket.exchange {
        $0.getSet(set)
      } visit: { attributes throws(MalformedReply) in
        kind = try NftSetKind(attributes: attributes)
      }
    } catch {
      guard error == .system(SystemError(number: ENOENT)) else { throw .netfilter(error) }
      throw try hasTable(of: set) ? .noSet : .noTable
    }
    guard let kind, let generation else { throw .netfilter(.malformedAnswer) }
    guard !kind.isMap else { throw .map }
    guard kind.holds(set.addresses) else { throw .otherType }
    guard !kind.isConstant else { throw .constant }
    guard kind.hasTimeouts || settings.seconds == nil else { throw .noTimeouts }
    guard kind.hasIntervals || !settings.grantsPrefixes(for: set.addresses) else {
      throw .noIntervals
    }
    return (kind, generation)
  }

  private mutating func hasTable(of set: NftSet) throws(Failure) -> Bool {
    do throws(NetfilterSocket.Failure) {
      try socket.exchange { $0.getTable(set.table) }
      return true
    } catch {
      guard error == .system(SystemError(number: ENOENT)) else { throw .netfilter(error) }
      return false
    }
  }

  /// Adds an address to a set without intervals. So that another time counts for an element that is
  /// there, it is deleted and added anew; so that it is there to be deleted, it is added before. All
  /// three are one transaction: there is no moment without the element.
  private mutating func add(
    _ address: UInt128, to set: NftSet, timeout: UInt64?, _ generation: UInt32
  ) throws(Failure) {
    do throws(NetfilterSocket.Failure) {
      try socket.exchange { request in
        request.transaction(generation: generation) { request in
          request.add(to: set) { $0.host(address, in: set, timeout: timeout) }
          request.delete(from: set) { $0.host(address, in: set, timeout: nil) }
          request.add(to: set) { $0.host(address, in: set, timeout: timeout) }
        }
      }
    } catch { throw .netfilter(error) }
  }

  private mutating func delete(
    _ address: UInt128, from set: NftSet, _ generation: UInt32
  ) throws(Failure) {
    do throws(NetfilterSocket.Failure) {
      try socket.exchange { request in
        request.transaction(generation: generation) { request in
          request.delete(from: set) { $0.host(address, in: set, timeout: nil) }
        }
      }
    } catch {
      // The set is there, or the generation would be another: it is the element that is not.
      guard error == .system(SystemError(number: ENOENT)) else { throw .netfilter(error) }
    }
  }

  /// 0 is for ever to the kernel, whatever the set says of elements without a time.
  private static func timeout(_ milliseconds: UInt64) -> UInt64 {
    milliseconds == SetElement.forever ? 0 : max(milliseconds, 1)
  }

  private static func read(
    _ set: NftSet, around range: AddressRange, _ socket: inout NetfilterSocket,
    into intervals: inout IntervalChange
  ) throws(Failure) {
    intervals.begin(range)
    do throws(NetfilterSocket.Failure) {
      try socket.exchange {
        $0.getElements(set)
      } visit: { attributes throws(MalformedReply) in
        try attributes.visitBoundaries(of: set.addresses) { intervals.take($0) }
      }
    } catch { throw .netfilter(error) }
  }

  private static func change(
    _ set: NftSet, _ intervals: borrowing IntervalChange, openFor milliseconds: UInt64?,
    hasTimeouts: Bool, _ generation: UInt32, _ socket: inout NetfilterSocket
  ) throws(Failure) {
    do throws(NetfilterSocket.Failure) {
      try socket.exchange { request in
        request.transaction(generation: generation) { request in
          // To the kernel, a message without elements means all.
          if intervals.overlapCount > 0 {
            request.delete(from: set) { request in
              intervals.visitOverlaps { request.interval($0, in: set, timeout: nil) }
            }
          }
          if intervals.replacementCount(openFor: milliseconds) > 0 {
            request.add(to: set) { request in
              intervals.visitReplacements(openFor: milliseconds) {
                let timeout = hasTimeouts ? timeout($0.milliseconds) : nil
                request.interval($0, in: set, timeout: timeout)
              }
            }
          }
        }
      }
    } catch { throw .netfilter(error) }
  }
}
