import KnockBase

/// What must change in a set with intervals to open or close a range, without a change for any other address.
///
/// The kernel refuses elements that overlap. So those that overlap with the range are deleted. New elements replace
/// them: for what they held outside the range, and for the range itself. nft(8) does the same in sets with
/// `auto-merge`.
public struct IntervalChange: ~Copyable {
  /// How many boundaries may lie inside the range.
  public static let capacity = 256

  private var range = AddressRange(.inet(0), prefixLength: 32)
  /// The boundaries inside, in ascending order.
  private let inside: Storage<Boundary>
  private var count = 0
  /// The nearest boundary at or before the first address, and the nearest after the last.
  private var before: Boundary?
  private var after: Boundary?
  /// Whether there were more boundaries than the capacity. If so, nothing else here is valid.
  public private(set) var isTooFull = false

  /// - Parameter storage: at least `capacity` elements.
  public init(_ storage: consuming Storage<Boundary>) { inside = storage }

  /// Forgets everything, and begins with another range.
  public mutating func begin(_ range: AddressRange) {
    self.range = range
    count = 0
    before = nil
    after = nil
    isTooFull = false
  }

  /// Adds a boundary of the set. They may come in any order.
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

  /// Whether the element that holds the first address, or its absence, decides about the whole range. Only its own
  /// boundaries may have been added before.
  public var isDecidedByFirstElement: Bool {
    guard range.first < range.last else { return true }
    guard let before, !before.isEnd else { return false }
    return count == 0
  }

  /// Calls `body` for each element that overlaps with the range, in ascending order.
  @inline(never)
  public func visitOverlaps(_ body: (SetElement) -> Void) {
    var start = before
    for index in 0..<count {
      let boundary = inside[index]
      if let start { emit(from: start, to: boundary.address.previous, body) }
      start = boundary
    }
    guard let start else { return }
    // An element without an end goes on to the greatest address.
    let end = after.map { $0.address.previous } ?? AddressRange.greatest(of: range.family)
    emit(from: start, to: end, body)
  }

  private func emit(from start: Boundary, to last: AddressNumber, _ body: (SetElement) -> Void) {
    guard !start.isEnd, start.address <= last else { return }
    body(SetElement(first: start.address, last: last, milliseconds: start.milliseconds))
  }

  /// Calls `body` for each element that replaces those that overlap, in ascending order.
  public func visitReplacements(by change: SetChange, _ body: (SetElement) -> Void) {
    var pieces = Pieces(range: range, change: change)
    visitOverlaps { element in
      if element.first < range.first {
        pieces.keep(element.first, range.first.previous, of: element, body)
      } else if element.first > range.first {
        pieces.cover(to: element.first.previous, from: nil, body)
      }
      pieces.cover(to: min(element.last, range.last), from: element.milliseconds, body)
      if element.last > range.last {
        pieces.keep(range.last.next, element.last, of: element, body)
      }
    }
    pieces.finish(body)
  }

  /// Joins neighbouring elements that stay equally long into one.
  private struct Pieces {
    private let range: AddressRange
    private let change: SetChange
    private var pending: SetElement?
    /// The first address of the range that no piece covers yet; nil if none is left.
    private var next: AddressNumber?

    init(range: AddressRange, change: SetChange) {
      self.range = range
      self.change = change
      next = range.first
    }

    /// Adds what an element held outside the range.
    mutating func keep(
      _ first: AddressNumber, _ last: AddressNumber, of element: SetElement,
      _ body: (SetElement) -> Void
    ) {
      add(SetElement(first: first, last: last, milliseconds: element.milliseconds), body)
    }

    /// Covers the range up to an address. `rest` is how long an element held that part; nil if none did.
    mutating func cover(to last: AddressNumber, from rest: UInt64?, _ body: (SetElement) -> Void) {
      if let milliseconds = change.time(after: rest), let next, next <= last {
        add(SetElement(first: next, last: last, milliseconds: milliseconds), body)
      }
      next = last < range.last ? last.next : nil
    }

    mutating func finish(_ body: (SetElement) -> Void) {
      if next != nil { cover(to: range.last, from: nil, body) }
      if let pending { body(pending) }
    }

    private mutating func add(_ element: SetElement, _ body: (SetElement) -> Void) {
      if let last = pending, last.milliseconds == element.milliseconds,
        last.last.next == element.first
      {
        pending?.last = element.last
      } else {
        if let pending { body(pending) }
        pending = element
      }
    }
  }

  public var overlapCount: Int { overlaps.count }

  /// Whether the only element that overlaps has no timeout.
  public var isPermanent: Bool { overlaps.last?.milliseconds == SetElement.forever }

  public func replacementCount(by change: SetChange) -> Int { replacements(by: change).count }

  /// Whether the set already is as the change would make it.
  @inline(never)
  public func isAlreadyDone(_ change: SetChange) -> Bool {
    let (old, new) = (overlaps, replacements(by: change))
    return old.count <= 1 && old.count == new.count && old.last == new.last
  }

  private typealias Summary = (count: Int, last: SetElement?)

  private var overlaps: Summary {
    @inline(never)
    get {
      var summary = Summary(0, nil)
      visitOverlaps { summary = (summary.count + 1, $0) }
      return summary
    }
  }

  @inline(never)
  private func replacements(by change: SetChange) -> Summary {
    var summary = Summary(0, nil)
    visitReplacements(by: change) { summary = (summary.count + 1, $0) }
    return summary
  }
}
