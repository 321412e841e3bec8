import KnockBase
import Netfilter

/// What the kernel tells about sets of nftables.
extension Firewall {
  /// What a set is, and the number of the last transaction before that was read.
  typealias NftAnswer = (kind: NftSetKind, generation: UInt32)

  mutating func inspect(
    _ set: NftSet
  ) throws(FirewallError.Reason) -> NftAnswer {
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
      guard error == .system(.notFound) else { throw .netfilter(error) }
      _ = try isOwned(set.table)
      throw .noSet
    }
    guard let kind, let generation else { throw .netfilter(.malformedAnswer) }
    guard !kind.isMap else { throw .map }
    guard kind.holds(set.addresses) else { throw .otherType }
    guard !kind.isConstant else { throw .constant }
    // Before Linux 6.2, the end of an interval also gets this timeout. When it expires, the interval has no end.
    guard !kind.hasIntervals || kind.defaultTimeout == 0 else { throw .defaultTimeout }
    return (kind, generation)
  }

  /// Whether a table belongs to another program. Throws `noTable` if there is none.
  mutating func isOwned(_ table: NftTable) throws(FirewallError.Reason) -> Bool {
    var isOwned = false
    do throws(NetfilterSocket.Failure) {
      try socket.exchange {
        $0.getTable(table)
      } visit: { attributes throws(MalformedReply) in
        isOwned = try attributes.isOwnedTable()
      }
    } catch {
      throw error == .system(.notFound) ? .noTable : .netfilter(error)
    }
    return isOwned
  }

  /// Reads the boundaries of the elements that overlap with a range into `intervals`.
  ///
  /// It takes long to read all elements of a large set. Mostly the element that holds the first address suffices.
  ///
  /// - Parameter readsAll: reads all of them in any case. After a failed attempt, only that is certain.
  /// - Returns: false if too many overlap, or if the set has too many to read in time.
  @inline(never)
  mutating func readOverlaps(
    with range: AddressRange, of set: NftSet, readsAll: Bool
  ) throws(FirewallError.Reason) -> Bool {
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

  /// Reads where the element that holds an address begins and ends, if there is one.
  ///
  /// - Returns: false if the answers of the kernel contradict each other.
  @inline(never)
  private mutating func readElement(at address: AddressNumber, of set: NftSet) throws(FirewallError
    .Reason) -> Bool
  {
    guard let start = try boundary(at: address, of: set) else {
      return true
    }
    intervals.take(start)
    guard address < AddressRange.greatest(of: set.addresses) else { return true }
    let next = try boundary(at: address.next, of: set)
    if next?.address == address.next {
      // The next element begins here, so this one ends. The kernel might answer with the end of the next one.
      intervals.take(Boundary(address: address.next, isEnd: true, milliseconds: 0))
      return true
    }
    guard let end = try boundary(at: address.next, isEnd: true, of: set),
      end.isEnd, end.address > address
    else { return false }
    intervals.take(end)
    let last = try boundary(at: end.address.previous, of: set)
    return last?.address == start.address
  }

  /// What `getElement` asks for, if there is such a boundary.
  @inline(never)
  mutating func boundary(
    at address: AddressNumber, isEnd: Bool = false, of set: NftSet
  ) throws(FirewallError.Reason) -> Boundary? {
    var boundary: Boundary?
    do throws(NetfilterSocket.Failure) {
      try socket.exchange {
        $0.getElement(address, isEnd: isEnd, of: set)
      } visit: { attributes throws(MalformedReply) in
        try attributes.visitBoundaries(of: set.addresses) { boundary = $0 }
      }
    } catch {
      guard error == .system(.notFound) else { throw .netfilter(error) }
    }
    return boundary
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
}

extension NftSetKind {
  /// Whether what is opened has a time, and whether it is more than a single address.
  func check(hasTime: Bool, isPrefix: Bool) throws(FirewallError.Reason) {
    guard hasTimeouts || !hasTime else { throw .noTimeouts }
    guard hasIntervals || !isPrefix else { throw .noIntervals }
  }
}
