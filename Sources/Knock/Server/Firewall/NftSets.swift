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
        return try tryToChange(set, for: knock, isFirstAttempt: attempt == 1)
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

  private mutating func tryToChange(
    _ set: NftSet, for knock: Knock, isFirstAttempt: Bool
  ) throws(Failure) {
    let (kind, generation) = try inspect(set)
    let change: SetChange =
      switch knock.command {
      case .open: .open(milliseconds: settings.seconds.map { UInt64($0) * 1000 } ?? .max)
      case .close: .close(sparingPermanent: settings.seconds != nil)
      }
    let range = AddressRange(
      knock.address, prefixLength: settings.prefixLength(for: set.addresses))
    if kind.hasIntervals {
      intervals.begin(range)
      if isFirstAttempt { try readElement(at: range.first, of: set) }
      // To read all takes long in a large set. To open a prefix it is not needed where nothing
      // overlaps, and else the kernel refuses the first attempt.
      if !isFirstAttempt || knock.command == .close && !intervals.isDecidedByFirstElement {
        intervals.begin(range)
        try readAll(of: set)
      }
      if intervals.isTooFull {
        // Too many elements to put in order. The address itself is in one at most.
        let host = AddressRange(knock.address, prefixLength: set.addresses.addressBits)
        intervals.begin(host)
        try readElement(at: host.first, of: set)
      }
      guard !intervals.isAlreadyDone(change) else { return }
      try replaceIntervals(
        of: set, by: change, hasTimeouts: kind.hasTimeouts, generation: generation)
    } else {
      let rest = try time(of: range.first, in: set)
      let time = change.time(after: rest)
      guard time != rest else { return }
      try replace(
        range.first, of: set, isThere: rest != nil, hasTimeouts: kind.hasTimeouts, time,
        generation: generation)
    }
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

  // The element that was there before is deleted and added anew in one transaction: so it gets its new
  // time, and there is no moment without it.

  /// How long an address stays in a set without intervals: milliseconds, nil if it is not there.
  private mutating func time(of address: UInt128, in set: NftSet) throws(Failure) -> UInt64? {
    try boundary(of: set) { $0.getElement(address, of: set) }?.milliseconds
  }

  /// Reads where the element that holds an address begins and ends, if there is one.
  private mutating func readElement(at address: UInt128, of set: NftSet) throws(Failure) {
    guard let start = try boundary(of: set, { $0.getElement(address, of: set) }) else { return }
    intervals.take(start)
    guard address < AddressRange.greatest(of: set.addresses),
      let end = try boundary(of: set, { $0.getEnd(from: address + 1, of: set) })
    else { return }
    intervals.take(end)
  }

  /// The boundary that a request asks for, if there is one.
  private mutating func boundary(
    of set: NftSet, _ build: (inout Request) -> Void
  ) throws(Failure) -> Boundary? {
    var boundary: Boundary?
    do throws(NetfilterSocket.Failure) {
      try socket.exchange(build) { attributes throws(MalformedReply) in
        try attributes.visitBoundaries(of: set.addresses) { boundary = $0 }
      }
    } catch {
      guard error == .system(SystemError(number: ENOENT)) else { throw .netfilter(error) }
    }
    return boundary
  }

  private mutating func replace(
    _ address: UInt128, of set: NftSet, isThere: Bool, hasTimeouts: Bool, _ time: UInt64?,
    generation: UInt32
  ) throws(Failure) {
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

  private mutating func readAll(of set: NftSet) throws(Failure) {
    do throws(NetfilterSocket.Failure) {
      try Self.read(set, from: &socket, into: &intervals)
    } catch { throw .netfilter(error) }
  }

  private static func read(
    _ set: NftSet, from socket: inout NetfilterSocket, into intervals: inout IntervalChange
  ) throws(NetfilterSocket.Failure) {
    try socket.exchange {
      $0.getElements(set)
    } visit: { attributes throws(MalformedReply) in
      try attributes.visitBoundaries(of: set.addresses) { intervals.take($0) }
    }
  }

  private mutating func replaceIntervals(
    of set: NftSet, by change: SetChange, hasTimeouts: Bool, generation: UInt32
  ) throws(Failure) {
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
        // To the kernel, a message without elements means all.
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

  /// 0 is for ever to the kernel, whatever the set says of elements without a time.
  private static func timeout(_ milliseconds: UInt64) -> UInt64 {
    milliseconds == SetElement.forever ? 0 : max(milliseconds, 1)
  }
}
