import KnockBase

/// Where an element of a set with intervals begins, or the address behind its last.
public struct Boundary: Equatable, BitwiseCopyable, Sendable {
  public let address: UInt128
  public let isEnd: Bool
  /// How long the element that begins here stays; `SetElement.forever` for no end.
  public let milliseconds: UInt64

  public init(address: UInt128, isEnd: Bool, milliseconds: UInt64) {
    self.address = address
    self.isEnd = isEnd
    self.milliseconds = milliseconds
  }

  /// An element may begin where another has ended.
  fileprivate func isBefore(_ other: Boundary) -> Bool {
    address != other.address ? address < other.address : isEnd && !other.isEnd
  }
}

/// What a knock changes for the addresses that it names.
public enum SetChange: Sendable {
  case open(milliseconds: UInt64)
  /// What stays for ever may be somebody else's.
  case close(sparingPermanent: Bool)

  /// How long an address is to stay that has so long left: milliseconds, nil for not there.
  public func time(after rest: UInt64?) -> UInt64? {
    switch self {
    case .open(let milliseconds): max(milliseconds, rest ?? 0)
    case .close(let sparesPermanent): sparesPermanent && rest == SetElement.forever ? rest : nil
    }
  }
}

/// What must change in a set with intervals so that a range is open, or closed, and nothing else
/// than before is true of any other address.
///
/// The kernel refuses elements that overlap. So those that overlap with the range are taken out, and
/// in their place come elements for what they held beside the range, and for the range itself. This is
/// what nft(8) does in sets with `auto-merge`.
public struct IntervalChange: ~Copyable {
  /// How many boundaries may lie inside the range.
  public static let capacity = 256

  private var range = AddressRange(.inet(0), prefixLength: 32)
  /// Those inside, in ascending order.
  private let inside: Storage<Boundary>
  private var count = 0
  /// The nearest at the first address or before, and behind the last.
  private var before: Boundary?
  private var after: Boundary?
  /// Whether there were more boundaries than the capacity; then the rest is of no use.
  public private(set) var isTooFull = false

  /// - Parameter storage: at least `capacity` elements.
  public init(_ storage: consuming Storage<Boundary>) { inside = storage }

  /// Starts anew, for a range.
  public mutating func begin(_ range: AddressRange) {
    self.range = range
    count = 0
    before = nil
    after = nil
    isTooFull = false
  }

  /// Takes the boundaries of the set, in any order.
  public mutating func take(_ boundary: Boundary) {
    if boundary.address <= range.first {
      if before.map({ $0.isBefore(boundary) }) ?? true { before = boundary }
    } else if boundary.address > range.last {
      if after.map({ boundary.isBefore($0) }) ?? true { after = boundary }
    } else {
      guard count < min(Self.capacity, inside.count) else {
        isTooFull = true
        return
      }
      var index = count
      while index > 0, boundary.isBefore(inside[index - 1]) {
        inside[index] = inside[index - 1]
        index -= 1
      }
      inside[index] = boundary
      count += 1
    }
  }

  /// Whether the element that holds the first address, or its absence, tells all about the range, when
  /// no other boundaries than those of that element were taken.
  public var isDecidedByFirstElement: Bool {
    guard range.first < range.last else { return true }
    guard let before, !before.isEnd else { return false }
    return count == 0
  }

  /// Calls `body` for each element that overlaps with the range, in ascending order.
  public func visitOverlaps(_ body: (SetElement) -> Void) {
    var start = before
    for index in 0..<count {
      let boundary = inside[index]
      if let start { emit(from: start, to: boundary.address - 1, body) }
      start = boundary
    }
    guard let start else { return }
    // Behind the last boundary of all, an element goes on to the last address that there is.
    let end = after.map { $0.address - 1 } ?? AddressRange.greatest(of: range.family)
    emit(from: start, to: end, body)
  }

  private func emit(from start: Boundary, to last: UInt128, _ body: (SetElement) -> Void) {
    guard !start.isEnd, start.address <= last else { return }
    body(SetElement(first: start.address, last: last, milliseconds: start.milliseconds))
  }

  /// Calls `body` for each element that must be there instead of those that overlap, in ascending
  /// order.
  public func visitReplacements(by change: SetChange, _ body: (SetElement) -> Void) {
    var pieces = Pieces(range: range, change: change)
    visitOverlaps { element in
      if element.first < range.first {
        pieces.keep(element.first, range.first - 1, of: element, body)
      } else if element.first > range.first {
        pieces.cover(to: element.first - 1, from: nil, body)
      }
      pieces.cover(to: min(element.last, range.last), from: element.milliseconds, body)
      if element.last > range.last {
        pieces.keep(range.last + 1, element.last, of: element, body)
      }
    }
    pieces.finish(body)
  }

  /// Elements in the making. Those that touch and stay for the same time become one.
  private struct Pieces {
    private let range: AddressRange
    private let change: SetChange
    private var pending: SetElement?
    /// The first address of the range that was not dealt with; nil if none is left.
    private var next: UInt128?

    init(range: AddressRange, change: SetChange) {
      self.range = range
      self.change = change
      next = range.first
    }

    /// Goes on with what an element held beside the range.
    mutating func keep(
      _ first: UInt128, _ last: UInt128, of element: SetElement, _ body: (SetElement) -> Void
    ) {
      add(SetElement(first: first, last: last, milliseconds: element.milliseconds), body)
    }

    /// Deals with the range up to an address, which an element may have held for `rest`.
    mutating func cover(to last: UInt128, from rest: UInt64?, _ body: (SetElement) -> Void) {
      if let milliseconds = change.time(after: rest), let next, next <= last {
        add(SetElement(first: next, last: last, milliseconds: milliseconds), body)
      }
      next = last < range.last ? last + 1 : nil
    }

    mutating func finish(_ body: (SetElement) -> Void) {
      if next != nil { cover(to: range.last, from: nil, body) }
      if let pending { body(pending) }
    }

    private mutating func add(_ element: SetElement, _ body: (SetElement) -> Void) {
      if let last = pending, last.milliseconds == element.milliseconds,
        last.last &+ 1 == element.first
      {
        pending?.last = element.last
      } else {
        if let pending { body(pending) }
        pending = element
      }
    }
  }

  public var overlapCount: Int {
    var count = 0
    visitOverlaps { _ in count += 1 }
    return count
  }

  public func replacementCount(by change: SetChange) -> Int {
    var count = 0
    visitReplacements(by: change) { _ in count += 1 }
    return count
  }

  /// Whether the set is already as it must be.
  public func isAlreadyDone(_ change: SetChange) -> Bool {
    guard overlapCount <= 1, overlapCount == replacementCount(by: change) else { return false }
    var old: SetElement?
    visitOverlaps { old = $0 }
    var new: SetElement?
    visitReplacements(by: change) { new = $0 }
    return old == new
  }
}
