import CSystem
import KnockBase
import KnockProtocol
import Netfilter

/// Sets of nftables.
extension Firewall {
  /// How often a change is tried that fails since an element's time is over just now, and how long one
  /// that fails since somebody else changes the rules.
  private static let attempts = 8
  private static let patienceMilliseconds: Int64 = 2000

  mutating func change(_ set: NftSet, for knock: Knock) throws(Failure) -> Bool {
    let deadline = Clock.monotonicMilliseconds() + Self.patienceMilliseconds
    var failures = 0
    while true {
      do throws(Failure) {
        return try tryToChange(set, for: knock, readsAll: failures > 0)
      } catch {
        switch error {
        case .netfilter(.changed), .system(ERESTART): break
        case .system(ENOENT), .system(EEXIST):
          failures += 1
          guard failures < Self.attempts else { throw error }
        case .system(ENFILE): throw .full
        // Reading was allowed.
        case .system(EPERM): throw try isOwned(set.table) ? .ownedTable : error
        default: throw error
        }
        guard Clock.monotonicMilliseconds() < deadline else { throw .netfilter(.changed) }
      }
    }
  }

  private mutating func tryToChange(
    _ set: NftSet, for knock: Knock, readsAll: Bool
  ) throws(Failure) -> Bool {
    let (kind, generation) = try inspect(set)
    let change: SetChange =
      switch knock.command {
      case .open: .open(milliseconds: settings.seconds.map { UInt64($0) * 1000 } ?? .max)
      case .close: .close(sparingPermanent: settings.seconds != nil)
      }
    let range = AddressRange(
      knock.address, prefixLength: settings.prefixLength(for: set.addresses))
    if kind.hasIntervals {
      if try !readOverlaps(with: range, of: set, readsAll: readsAll) {
        // Too many to put in order, or to read in time. The address itself is in one at most.
        let host = AddressRange(knock.address, prefixLength: set.addresses.addressBits)
        _ = try readOverlaps(with: host, of: set, readsAll: readsAll)
      }
      guard !intervals.isAlreadyDone(change) else {
        if knock.command == .close, intervals.overlapCount > 0 { throw .permanent }
        return false
      }
      try replaceIntervals(
        of: set, by: change, hasTimeouts: kind.hasTimeouts, generation: generation)
    } else {
      let rest = try boundary(of: set) { $0.getElement(range.first, of: set) }?.milliseconds
      let time = change.time(after: rest)
      guard time != rest else {
        if knock.command == .close, rest != nil { throw .permanent }
        return false
      }
      try replace(
        range.first, of: set, isThere: rest != nil, hasTimeouts: kind.hasTimeouts, time,
        generation: generation)
    }
    return true
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
      _ = try isOwned(set.table)
      throw .noSet
    }
    guard let kind, let generation else { throw .netfilter(.malformedAnswer) }
    guard !kind.isMap else { throw .map }
    guard kind.holds(set.addresses) else { throw .otherType }
    guard !kind.isConstant else { throw .constant }
    guard kind.hasTimeouts || settings.seconds == nil else { throw .noTimeouts }
    guard kind.hasIntervals || !settings.grantsPrefixes(for: set.addresses) else {
      throw .noIntervals
    }
    // Kernels before 6.2 give this time to the ends of intervals, too, which then have none.
    guard !kind.hasIntervals || !kind.hasDefaultTimeout else { throw .defaultTimeout }
    return (kind, generation)
  }

  /// Whether a table belongs to another program. Throws `noTable`.
  mutating func isOwned(_ table: NftTable) throws(Failure) -> Bool {
    var isOwned = false
    do throws(NetfilterSocket.Failure) {
      try socket.exchange {
        $0.getTable(table)
      } visit: { attributes throws(MalformedReply) in
        isOwned = try attributes.isOwnedTable()
      }
    } catch {
      throw error == .system(SystemError(number: ENOENT)) ? .noTable : .netfilter(error)
    }
    return isOwned
  }

  /// Takes the boundaries of the elements that overlap with a range, of a set with intervals. False
  /// where there are too many, or too many in the set to be read in time.
  ///
  /// To read all takes long in a large set. Mostly the element that holds the first address tells
  /// all; but where something has gone wrong once, only the list of all is believed.
  private mutating func readOverlaps(
    with range: AddressRange, of set: NftSet, readsAll: Bool
  ) throws(Failure) -> Bool {
    if !readsAll {
      intervals.begin(range)
      if try readElement(at: range.first, of: set), intervals.isDecidedByFirstElement {
        return true
      }
    }
    intervals.begin(range)
    do throws(NetfilterSocket.Failure) {
      try Self.readAll(of: set, from: &socket, into: &intervals)
    } catch {
      guard error == .noAnswer, range.first < range.last else { throw .netfilter(error) }
      return false
    }
    return !intervals.isTooFull
  }

  /// Reads where the element that holds an address begins and ends, if there is one. False where the
  /// kernel's answers do not fit together.
  private mutating func readElement(at address: UInt128, of set: NftSet) throws(Failure) -> Bool {
    guard let start = try boundary(of: set, { $0.getElement(address, of: set) }) else {
      return true
    }
    intervals.take(start)
    guard address < AddressRange.greatest(of: set.addresses) else { return true }
    let next = try boundary(of: set) { $0.getElement(address + 1, of: set) }
    if next?.address == address + 1 {
      // Where another begins, this one ends; asked for its end, the kernel might give the other's.
      intervals.take(Boundary(address: address + 1, isEnd: true, milliseconds: 0))
      return true
    }
    guard let end = try boundary(of: set, { $0.getEnd(from: address + 1, of: set) }),
      end.isEnd, end.address > address
    else { return false }
    intervals.take(end)
    let last = try boundary(of: set) { $0.getElement(end.address - 1, of: set) }
    return last?.address == start.address
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

  /// Deletes the element that was there and adds it anew, in one transaction: so it gets its new time,
  /// and there is no moment without it.
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

  private static func readAll(
    of set: NftSet, from socket: inout NetfilterSocket, into intervals: inout IntervalChange
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

  /// 0 is for ever to the kernel, whatever the set says of elements without a time, and less than a
  /// tick of its clock (10 ms at most) was 0 to it before Linux 6.12.
  private static func timeout(_ milliseconds: UInt64) -> UInt64 {
    milliseconds == SetElement.forever ? 0 : max(milliseconds, 10)
  }
}
