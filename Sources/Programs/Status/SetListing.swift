import KnockBase
import KnockProtocol
import KnockServer
import Netfilter

/// The elements of one set, and the grants in it, in the order of their addresses.
struct SetListing: ~Copyable {
  /// How many elements are listed; in a set with intervals, half as many. Memory is taken only as they come.
  static let limit = 1 << 18
  /// How often a set is read if it changes meanwhile.
  private static let attempts = 3

  struct Item: BitwiseCopyable {
    enum Kind: Equatable, BitwiseCopyable {
      case grant(index: Int32)
      /// In a set with intervals, until they are joined: the address after an element.
      case end
      case element
    }

    let kind: Kind
    var element: SetElement

    /// What is wider comes first, then a grant, then its element. An end comes before what begins there.
    fileprivate func isBefore(_ other: Item) -> Bool {
      guard element.first == other.element.first else { return element.first < other.element.first }
      guard (kind == .end) == (other.kind == .end) else { return kind == .end }
      guard element.last == other.element.last else { return element.last > other.element.last }
      return kind != .element && other.kind == .element
    }
  }

  /// How a set was read.
  enum Outcome {
    case whole
    /// The set has changed at each attempt. Elements may be missing.
    case changing
    /// There was no room for the rest.
    case tooLong
  }

  private let items: Storage<Item>
  private(set) var count = 0

  /// - Parameter grantCount: how many grants there may be.
  init(grantCount: Int) throws(StateFailure) {
    items = try StateFile.memory(Self.limit + 1 + grantCount, of: Item.self)
  }

  subscript(index: Int) -> Item { items[index] }

  mutating func removeAll() { count = 0 }

  mutating func append(_ kind: Item.Kind, _ element: SetElement) {
    guard count < items.count else { return }
    items[count] = Item(kind: kind, element: element)
    count += 1
  }

  /// Reads the elements of a set of the kernel.
  @inline(never)
  mutating func read(
    _ set: FirewallSet, through firewall: inout Firewall?
  ) throws(FirewallError.Reason) -> Outcome {
    var hasIntervals = false
    switch set {
    case .nft(let set): hasIntervals = try firewall?.inspect(set).kind.hasIntervals ?? false
    case .ipset(let set): _ = try firewall?.inspect(set)
    }
    var outcome = Outcome.changing
    for _ in 0..<Self.attempts where outcome == .changing {
      removeAll()
      do throws(NetfilterSocket.Failure) {
        try readElements(of: set, through: &firewall)
        outcome = .whole
      } catch {
        guard error == .changed else { throw .netfilter(error) }
      }
    }
    let isTooLong = count > Self.limit
    count = min(count, Self.limit)
    if hasIntervals { joinIntervals(of: set.addresses) }
    return isTooLong ? .tooLong : outcome
  }

  private mutating func readElements(
    of set: FirewallSet, through firewall: inout Firewall?
  ) throws(NetfilterSocket.Failure) {
    try firewall?.socket.exchange { request in
      switch set {
      case .nft(let set): request.getElements(set)
      case .ipset(let set): request.getElements(set)
      }
    } visit: { attributes throws(MalformedReply) in
      switch set {
      case .nft:
        try attributes.visitBoundaries(of: set.addresses) {
          append(
            $0.isEnd ? .end : .element,
            SetElement(first: $0.address, last: $0.address, milliseconds: $0.milliseconds))
        }
      case .ipset: try attributes.visitElements(of: set.addresses) { append(.element, $0) }
      }
    }
  }

  @inline(never)
  func sort() {
    KnockBase.sort(count) {
      items[$0].isBefore(items[$1])
    } swap: { one, other in
      let item = items[one]
      items[one] = items[other]
      items[other] = item
    }
  }

  /// Makes elements of the addresses at which they begin and end.
  @inline(never)
  private mutating func joinIntervals(of family: AddressFamily) {
    sort()
    let all = count
    count = 0
    for index in 0..<all where items[index].kind == .element {
      // An element that has expired may have left its end. One without an end goes on to the greatest address.
      let last =
        index + 1 < all
        ? items[index + 1].element.first.previous : AddressRange.greatest(of: family)
      var element = items[index].element
      guard element.first <= last else { continue }
      element.last = last
      append(.element, element)
    }
  }

  /// The element of a grant: the one for its range, or else the last one that holds its address.
  ///
  /// - Parameters:
  ///   - index: the place of the grant.
  ///   - before: the last element before it.
  @inline(never)
  func element(
    of address: Address, from index: Int, before: SetElement?
  ) -> SetElement? {
    let address = AddressRange(address, prefixLength: address.family.addressBits).first
    let range = items[index].element
    var found = before.flatMap { $0.last >= address ? $0 : nil }
    var next = index + 1
    while next < count, items[next].element.first <= address {
      let item = items[next]
      next += 1
      guard item.kind == .element, item.element.last >= address else { continue }
      found = item.element
      if item.element.first == range.first, item.element.last == range.last { break }
    }
    return found
  }
}

/// Consecutive addresses that grants cover.
struct Cover {
  /// The index of the first item of the listing that was not looked at.
  private var next = 0
  private var first = AddressNumber(low: 1)
  private var last = AddressNumber(low: 0)
  /// Whether the kernel was to end all of these grants.
  private var areTimed = true

  /// Whether all addresses of an element are in grants, and it is from a knock. To be called for each element, in the
  /// order of the listing.
  @inline(never)
  mutating func covers(
    _ element: SetElement, of listing: borrowing SetListing,
    _ grants: borrowing Storage<Grant>
  ) -> Bool {
    while next < listing.count {
      let range = listing[next].element
      let touches = first <= last && (range.first <= last || range.first == last.next)
      // Several grants may share an element. Then they begin in it.
      guard range.first <= element.first || touches && last < element.last else { break }
      if case .grant(let number) = listing[next].kind {
        let isTimed = grants[Int(number)].isTimed
        (first, areTimed) =
          touches ? (first, areTimed && isTimed) : (range.first, isTimed)
        last = touches ? max(last, range.last) : range.last
      }
      next += 1
    }
    // One without a time, where ours have one, is the administrator's own.
    return first <= element.first && element.last <= last
      && (element.milliseconds < SetElement.forever || !areTimed)
  }
}
