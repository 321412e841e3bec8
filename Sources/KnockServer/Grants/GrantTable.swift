import KnockBase
import KnockProtocol

extension Grants {
  /// A grant as this process has it.
  public struct State: BitwiseCopyable {
    public internal(set) var grant: Grant
    var sequence: UInt64 = 0
    /// When access is to be closed, in microseconds since boot. `.max` for never, and while it is being closed.
    var deadline: Int64
    /// When the kernel removes it from the set; `.max` for never.
    var setDeadline: Int64
    /// The place in the heap.
    fileprivate var place: UInt32 = 0
    /// Its neighbours in the list of its area: position + 1, or 0.
    fileprivate var next: UInt32 = 0
    fileprivate var previous: UInt32 = 0
    /// The last round that has seen it.
    var round: UInt32 = 0
    /// How many open commands and close commands wait or run.
    var opening: UInt16 = 0
    var closing: UInt16 = 0
    /// How often closing has failed.
    var failures: UInt8 = 0
    /// Whether access is to be closed. Stays true until that has succeeded.
    var hasEnded = false
    /// Whether it has not expired, but its user may not have it any more.
    var isRevoked = false
    /// Whether it stays in another set, or with another prefix, than its user has now.
    var keepsPlace = false
    /// If it is to be shortened next: when access is to be closed then, in microseconds since boot. Otherwise `.max`.
    var shortenedDeadline = Int64.max
    /// Whether a knock relies on the open command that waits or runs.
    var isReliedOn = false
    /// Whether an earlier knock has put the address into the set.
    var wasInSet = false
    /// Whether the address may not be in the set, since opening it has failed.
    var isSetDoubtful = false
    /// Whether its end is known only by the system's clock, since another process has opened it.
    var isAdopted = false
    /// Whether the present attempt to close has tried to change the set.
    var isSetTried = false

    init(_ grant: Grant, deadline: Int64, setDeadline: Int64) {
      self.grant = grant
      self.deadline = deadline
      self.setDeadline = setDeadline
    }

    /// When access is to be closed, if it is to be shortened next, too.
    var end: Int64 { shortenedDeadline < .max ? shortenedDeadline : deadline }

    /// Until when it needs its set.
    var setNeed: Int64 { min(end, setDeadline) }

    /// Whether the state of the command is here, or the command still runs.
    var holdsCommand: Bool { closing > 0 || grant.holdsCommand }
  }
}

/// The grants in memory, each at a fixed position. A hash table finds them by address. The grants of an area have the
/// same first 16 bits (IPv4) or 48 bits (IPv6), and no range is larger than an area. They are in one list, maybe with
/// those of other areas. The first to expire is at the top of a binary heap. Bounded.
struct GrantTable: ~Copyable {
  private let states: Storage<Grants.State>
  /// Positions: first those of the grants, as a heap, then those that have become free.
  private let heap: Storage<UInt32>
  private let index: PositionIndex
  /// By the hash of an area, the first in its list: position + 1, or 0.
  private let areas: Storage<UInt32>
  /// See `Grants.init`.
  private let secret: UInt64
  /// How many grants there are.
  private(set) var count = 0
  /// How many positions have ever been used.
  private(set) var usedCount = 0

  init(
    states: consuming Storage<Grants.State>, heap: consuming Storage<UInt32>,
    index: consuming PositionIndex, areas: consuming Storage<UInt32>, secret: UInt64
  ) {
    precondition(
      states.count == heap.count && index.holds(states.count) && areas.count == states.count)
    self.states = states
    self.heap = heap
    self.index = index
    self.areas = areas
    self.secret = secret
  }

  /// The grant at a position, in place. So a change of one field copies no other. Call `deadlineChanged` after each
  /// change of its deadline.
  subscript(position: Int) -> Grants.State {
    unsafeAddress { unsafe UnsafePointer(states.address(of: position)) }
    nonmutating unsafeMutableAddress { unsafe states.address(of: position) }
  }

  /// The first grant of an address for which `isWanted` is true. It changes nothing, but each call of a function that
  /// does not mutate would copy the table's fields.
  @inline(never)
  mutating func position(of address: Address, where isWanted: (Grants.State) -> Bool) -> Int? {
    index.first(hash: hash(of: address)) {
      states[$0].grant.address == address && isWanted(states[$0])
    }
  }

  /// Calls `body` for all grants of the area of an address, and maybe for others.
  func visit(near address: Address, _ body: (Grants.State) -> Void) {
    var next = areas[area(of: address)]
    while next != 0 {
      body(states[Int(next) - 1])
      next = states[Int(next) - 1].next
    }
  }

  /// The position of the grant that expires first.
  var first: Int? { count > 0 ? Int(heap[0]) : nil }

  /// The position at a place of the heap.
  func position(at place: Int) -> Int { Int(heap[place]) }

  /// Whether there is a grant at a position.
  func isUsed(_ position: Int) -> Bool {
    guard position < usedCount else { return false }
    let place = Int(states[position].place)
    return place < count && Int(heap[place]) == position
  }

  /// A position without a grant. There must be one.
  mutating func freePosition() -> Int {
    if count == usedCount {
      heap[count] = UInt32(count)
      usedCount += 1
    }
    return Int(heap[count])
  }

  /// Inserts a grant at a position without one.
  mutating func insert(_ state: Grants.State, at position: Int) {
    // A removal may have moved the position since `freePosition`.
    var place = count
    while Int(heap[place]) != position { place += 1 }
    heap[place] = heap[count]
    heap[count] = UInt32(position)
    states[position] = state
    states[position].place = UInt32(count)
    count += 1
    siftUp(from: count - 1)
    index.enter(position, hash: hash(of: state.grant.address))
    let area = area(of: state.grant.address)
    let next = areas[area]
    states[position].next = next
    states[position].previous = 0
    if next != 0 { states[Int(next) - 1].previous = UInt32(position + 1) }
    areas[area] = UInt32(position + 1)
  }

  mutating func remove(at position: Int) {
    let address = states[position].grant.address
    index.leave(position, hash: hash(of: address)) { hash(of: states[$0].grant.address) }
    let (next, previous) = (states[position].next, states[position].previous)
    if next != 0 { states[Int(next) - 1].previous = previous }
    if previous != 0 {
      states[Int(previous) - 1].next = next
    } else {
      areas[area(of: address)] = next
    }
    let place = Int(states[position].place)
    count -= 1
    if place != count {
      put(heap[count], at: place)
      heap[count] = UInt32(position)
      siftDown(from: place)
      siftUp(from: place)
    }
  }

  /// Restores the order of the heap.
  mutating func deadlineChanged(at position: Int) {
    siftUp(from: Int(states[position].place))
    siftDown(from: Int(states[position].place))
  }

  /// Restores the order of the heap after any changes.
  mutating func deadlinesChanged() {
    for place in 0..<count { siftUp(from: place) }
  }

  /// The place in `areas`.
  @inline(never)
  private func area(of address: Address) -> Int {
    let hash =
      switch address {
      case .inet(let bits): hash(of: .inet(bits >> 16))
      case .inet6(let high, _): hash(of: .inet6(high: high >> 16, low: 0))
      }
    return Int(truncatingIfNeeded: hash & 0x7FFF_FFFF) % areas.count
  }

  @inline(never)
  private func hash(of address: Address) -> UInt64 { Self.hash(of: address, secret) }

  /// All bits of an address and of the secret are in the lower bits, which tell the place in a table.
  static func hash(of address: Address, _ secret: UInt64) -> UInt64 {
    // Fibonacci hashing: 2^64 divided by the golden ratio. The upper bits of the product depend on all of a number.
    func mixed(_ number: UInt64) -> UInt64 { (number &* 0x9E37_79B9_7F4A_7C15).byteSwapped }
    return switch address {
    case .inet(let bits): mixed(secret ^ UInt64(bits))
    case .inet6(let high, let low): mixed(mixed(secret ^ high) ^ low)
    }
  }

  // The heap: no grant expires before the one above it.

  private func isBefore(_ place: Int, _ other: Int) -> Bool {
    let (state, otherState) = (states[position(at: place)], states[position(at: other)])
    guard state.deadline == otherState.deadline else { return state.deadline < otherState.deadline }
    return state.grant.ends < otherState.grant.ends
  }

  private mutating func put(_ position: UInt32, at place: Int) {
    heap[place] = position
    states[Int(position)].place = UInt32(place)
  }

  private mutating func swap(_ first: Int, _ second: Int) {
    let position = heap[first]
    put(heap[second], at: first)
    put(position, at: second)
  }

  private mutating func siftUp(from start: Int) {
    var place = start
    while place > 0, isBefore(place, (place - 1) / 2) {
      swap(place, (place - 1) / 2)
      place = (place - 1) / 2
    }
  }

  private mutating func siftDown(from start: Int) {
    var place = start
    while true {
      var first = place
      for child in 2 * place + 1...2 * place + 2 where child < count {
        if isBefore(child, first) { first = child }
      }
      guard first != place else { return }
      swap(place, first)
      place = first
    }
  }
}
